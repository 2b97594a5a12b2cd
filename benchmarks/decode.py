"""How fast the image cache is built and opened again, beside the JPEG decoder alone.

All contenders take turns in one process, on all cores, with the files in the system's cache. "Decoder alone" is nothing
but the decoder's call on bytes that are already in memory, on as many threads: no reading, no hashing, no resizing,
nothing kept. "Cache" is everything up to training: reading, hashing, decoding, resizing, writing.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from ordage import images
from ordage.config import DataConfig
from ordage.data import store
from ordage.data.layouts import read
from ordage.data.manifest import Manifest
from ordage.progress import Reporter
from ordage.transforms import ImageSpec

CHUNK = 64  # images that a thread takes at a time


def pillow(content: bytes, spec: ImageSpec) -> None:
    with Image.open(BytesIO(content)) as image:
        image.draft("L" if spec.chans == 1 else "RGB", (2 * spec.size, 2 * spec.size))
        image.load()


def simplejpeg(content: bytes, spec: ImageSpec) -> None:
    side = 2 * spec.size
    images.simplejpeg.decode_jpeg(content, "GRAY" if spec.chans == 1 else "RGB", min_width=side, min_height=side)


def decode_all(decoder: Callable[[bytes, ImageSpec], None], contents: Sequence[bytes], spec: ImageSpec) -> None:
    def some(start: int) -> None:
        for content in contents[start : start + CHUNK]:
            decoder(content, spec)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(some, range(0, len(contents), CHUNK)))


def build_cache(manifest: Manifest, spec: ImageSpec, library: object) -> tuple[float, float]:
    """Return the seconds that building takes with or without simplejpeg, and those of opening it again."""
    known, images.simplejpeg = images.simplejpeg, library
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["ORDAGE_CACHE"] = folder
            return tuple(seconds(lambda: store.open_images(manifest, spec, Reporter(0))) for _ in range(2))
    finally:
        images.simplejpeg = known


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(
    folder: Annotated[Path, typer.Argument(help="A data set of JPEG files, in any layout.")],
    img_size: Annotated[int, typer.Option(help="Side of the square input.")] = 64,
    in_chans: Annotated[int, typer.Option(help="1 for grey, 3 for colour.")] = 3,
    rounds: Annotated[int, typer.Option(help="Turns of each contender.")] = 3,
) -> None:
    """Measure cache building and opening beside the decoders alone."""
    manifest = read(DataConfig(data=str(folder)))
    spec = ImageSpec(img_size, in_chans)
    files = manifest.contents
    contents = list({files.read(row) for row in range(len(files))})  # each distinct file once, as the cache does
    decoders = {"Pillow": (pillow, None)}
    if images.simplejpeg is not None:
        decoders["simplejpeg"] = (simplejpeg, images.simplejpeg)

    alone: dict[str, list[float]] = {name: [] for name in decoders}
    built: dict[str, list[float]] = {name: [] for name in decoders}
    opened: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(rounds):
        for name, (decoder, library) in decoders.items():
            alone[name].append(seconds(lambda decoder=decoder: decode_all(decoder, contents, spec)))
            first, second = build_cache(manifest, spec, library)
            built[name].append(first)
            opened[name].append(second)

    table = Table(title=f"{len(files):,} files, {len(contents):,} distinct, {img_size} px, {os.cpu_count()} cores")
    for heading in ("decoder", "alone, img/s", "cache, img/s", "cache ÷ alone", "opened again, s"):
        table.add_column(heading, justify="right")
    for name in decoders:
        rates = [len(contents) / median(alone[name]), len(files) / median(built[name])]
        share = median(a / b for a, b in zip(alone[name], built[name], strict=True)) * len(files) / len(contents)
        table.add_row(name, *(f"{rate:,.0f}" for rate in rates), f"{share:.2f}", f"{median(opened[name]):.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
