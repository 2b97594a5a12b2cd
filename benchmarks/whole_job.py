"""How long a whole job takes: 100 epochs over 50,000 grey images of 28x28, with validation, checkpoints and report.

The images are noise, for the time alone. What the seconds went into is told: the training steps of `ordage fit`, the
rest of its epochs (validation, state and best weights), and what is before and after them (reading, judging, report).
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import ordage

PARTS = {"train": 50_000, "val": 5_000, "test": 5_000}


def make_arrays(path: Path, side: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in PARTS.items():
        arrays[f"X_{part}"] = rng.integers(256, size=(count, side, side), dtype=np.uint8)
        arrays[f"y_{part}"] = rng.integers(100, size=count)
    np.savez(path, **arrays)


def main(
    model: Annotated[str, typer.Option(help="The net.")] = "seed_cnn",
    loss: Annotated[str, typer.Option(help="The loss.")] = "coral",
    epochs: Annotated[int, typer.Option(help="Over all images.")] = 100,
    side: Annotated[int, typer.Option(help="Of an image, in pixels.")] = 28,
    batch_size: Annotated[int | None, typer.Option(help="The default of fit without.")] = None,
    device: Annotated[str | None, typer.Option(help="The best there is without.")] = None,
) -> None:
    """Time the whole of `ordage fit` on arrays of noise."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "noise.npz")
        make_arrays(data, side)
        begun = time.perf_counter()
        run = ordage.fit(
            data=str(data),
            model=model,
            loss=loss,
            epochs=epochs,
            patience=epochs,
            batch_size=batch_size,
            device=device,
            out=folder,
        )
        total = time.perf_counter() - begun
        rows = run.metrics
        machine = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))["device"]
    steps = sum(float(row["seconds"]) for row in rows)
    rate = np.median([float(row["images_per_second"]) for row in rows])
    images = f"{PARTS['train']:,} images of {side}x{side}"
    print(f"{model}, {loss}, {epochs} epochs of {images}, {machine}")
    print(f"whole {total:.1f} s, of which steps {steps:.1f} s; {rate:,.0f} img/s in a steady epoch")


if __name__ == "__main__":
    typer.run(main)
