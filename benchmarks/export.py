"""How exactly an exported ONNX file answers as the model that it was made of, in a process without PyTorch.

Five backbones of different families are trained for a moment with losses of three different heads, exported, and asked
about real images, once as large as the model sees them and once as they come, which the file then resizes by itself.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import ordage
from ordage.data.demo import draw
from ordage.exporting import export

BACKBONES = {
    "resnet18": 64,
    "mobilenetv3_small_100": 64,
    "convnext_atto": 64,
    "vit_tiny_patch16_224": 64,
    "seed_cnn": 28,
}
LOSSES = ("softmax", "coral", "corn")
ASK = """
import sys
sys.modules["torch"] = sys.modules["ordage"] = None
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
for name in ("seen", "whole"):
    images = np.load(f"{sys.argv[2]}/{name}.npy")
    age, low, high, bins, classes = session.run(None, {"images": images})
    np.savez(f"{sys.argv[2]}/{name}.npz", age=age, low=low, high=high, bins=bins, classes=classes)
"""
HEADINGS = (
    "backbone",
    "loss",
    "MB",
    "largest difference",
    "same age",
    "same interval",
    "ages said",
    "resized by the file",
)


def collect(source: Path | None, count: int, folder: Path) -> list[Path]:
    """Return files of real faces, or of drawn ones; those that are trained on are put into the folder."""
    from PIL import Image

    if source is None:
        drawn = draw(count, 100)
        for place, (image, age) in enumerate(zip(drawn.images, drawn.ages, strict=True)):
            Image.fromarray(image).save(folder / f"{age}_0_0_{place}.jpg", quality=90)
        return sorted(folder.iterdir())
    files = sorted(source.glob("*.jpg"))
    chosen = files[:: max(1, len(files) // count)][:count]
    for file in chosen:
        (folder / file.name).symlink_to(file.resolve())
    return sorted(folder.iterdir())


def compare(
    name: str, size: int, loss: str, faces: Path, asked: list[Path], place: Path, epochs: int
) -> tuple[str, ...]:
    """Train, export and ask; return a row of the table."""
    chans = 1 if name == "seed_cnn" else 3
    options = {"model": name, "loss": loss, "img_size": size, "in_chans": chans, "pretrained": False}
    run = ordage.fit(data=str(faces), epochs=epochs, device="cpu", verbosity=0, out=place / "runs", **options)
    file = export(run.path).file
    predictor = ordage.load(run.path, device="cpu")
    from ordage.images import decode

    whole = np.stack([decode(path.read_bytes(), chans=chans, at_least=2**16)[0] for path in asked])
    seen = predictor.spec.fitted(whole)
    np.save(place / "whole.npy", whole)
    np.save(place / "seen.npy", seen)
    subprocess.run([sys.executable, "-c", ASK, str(file), str(place)], check=True)
    said = predictor.of_pixels(seen)
    found, resized = np.load(place / "seen.npz"), np.load(place / "whole.npz")
    largest = max(np.abs(found["classes"] - said.probs).max(), np.abs(found["bins"] - said.bin_probs).max())
    same = found["age"] == said.age.astype(np.float32)
    low, high = (end.astype(np.float32) for end in said.interval)
    return (
        name,
        loss,
        f"{file.stat().st_size / 2**20:.1f}",
        f"{largest:.1e}",
        f"{same.sum()} of {len(same)}",
        f"{((found['low'] == low) & (found['high'] == high)).sum()} of {len(same)}",
        f"{len(np.unique(said.age))}",
        f"{np.abs(resized['classes'] - said.probs).max():.1e}",
    )


def main(
    folder: Annotated[Path | None, typer.Argument(help="JPEG faces with ages in their names; else drawn.")] = None,
    images: Annotated[int, typer.Option(help="Files that are trained on.")] = 1000,
    epochs: Annotated[int, typer.Option(help="Of training, so that answers differ from image to image.")] = 5,
    asked: Annotated[int, typer.Option(help="Files that both are asked about.")] = 64,
    markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.")] = False,
) -> None:
    """Compare exported files with their models."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "faces").mkdir()
        files = collect(folder, images, place / "faces")[:asked]
        for backbone, size in BACKBONES.items():
            rows += [compare(backbone, size, loss, place / "faces", files, place, epochs) for loss in LOSSES]
            print(*rows[-len(LOSSES) :], sep="\n", file=sys.stderr)
    if markdown:
        print(*("| " + " | ".join(row) + " |" for row in (HEADINGS, ("---",) * len(HEADINGS), *rows)), sep="\n")
        return
    table = Table(title=f"{asked} images, onnxruntime without PyTorch beside the model")
    for heading in HEADINGS:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
