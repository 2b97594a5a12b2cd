"""How fast a trained model answers, beside its bare forward pass and beside a loop over single images.

- bare forward: batches of 256 that lie on the device as uint8, normalisation included, answers thrown away.
- predict, pixels: the same images as an array, to the table of ages and intervals.
- predict, files: JPEG files of 64 pixels, decoding included.
- one by one: a file, an answer, the next file, as people write it at first.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

import ordage
from ordage.data.demo import draw
from ordage.inputs import Images
from ordage.predicting import predict_rows
from ordage.progress import Reporter

SIZE = 64
BATCH = 256


def main(
    images: Annotated[int, typer.Option(help="Files and pixels.")] = 2048,
    rounds: Annotated[int, typer.Option(help="Of which the median counts.")] = 5,
    model: Annotated[str, typer.Option(help="Backbone.")] = "ordage_small",
    device: Annotated[str, typer.Option(help="Where to predict.")] = "cpu",
) -> None:
    """Measure prediction."""
    drawn = draw(images, SIZE)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for row, (pixels, age) in enumerate(zip(drawn.images, drawn.ages, strict=True)):
            Image.fromarray(pixels).save(folder / f"{age}_0_0_{row}.jpg", quality=90)
        files = sorted(str(file) for file in folder.iterdir())
        data = {"data": str(folder), "img_size": SIZE, "model": model, "pretrained": False, "device": device}
        run = ordage.fit(**data, epochs=1, verbosity=0, out=folder / "runs")
        predictor = ordage.load(run.path, device=device)
        pixels = np.ascontiguousarray(drawn.images)

        def forward() -> None:
            with torch.inference_mode():
                for batch in torch.from_numpy(pixels).to(device).split(BATCH):
                    answer = predictor.model(batch.permute(0, 3, 1, 2))
                answer.sum().item()  # waits for the device

        def from_files() -> None:
            with Reporter(0).bar("", None) as bar:
                for _ in predict_rows(predictor, [Images(files)], bar):
                    pass

        def one_by_one() -> None:
            for file in files[: images // 16]:
                predictor(Image.open(file)).to_frame()

        work: dict[str, Callable[[], object]] = {
            "bare forward": forward,
            "predict, pixels": lambda: predictor.of_pixels(pixels).to_frame(),
            "predict, files": from_files,
            "one by one": one_by_one,
        }
        seconds: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(rounds + 1):
            for name, do in work.items():
                begun = time.perf_counter()
                do()
                seconds[name].append((time.perf_counter() - begun) * (16 if name == "one by one" else 1))
    table = Table("", "img/s", "÷ bare forward", "÷ one by one", title=f"{model}, {SIZE} pixels, {device}")
    for name, times in seconds.items():
        ratios = [
            statistics.median(other / own for own, other in zip(times[1:], seconds[to][1:], strict=True))
            for to in ("bare forward", "one by one")
        ]
        table.add_row(name, f"{images / statistics.median(times[1:]):,.0f}", *(f"{ratio:.2f}" for ratio in ratios))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
