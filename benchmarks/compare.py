"""What compare costs beside the training that it compares, and whether anything is decoded twice.

A comparison of three losses with two seeds is run, its cells one after another and side by side. What the six spend on
steps of training alone is what the first of these saved: without validation, test and report.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import ordage
from ordage.data.cache import cache_root

LOSSES = ("coral", "corn", "softmax")
BINS = "0-10,11-20,21-30,31-40,41-50,51-60,61-70,71-80,81-90,91+"


def decoded() -> dict[str, int]:
    """Return when each set in the cache was decoded, by whatever process."""
    return {str(path): path.stat().st_mtime_ns for path in cache_root().glob("images/*/images.npy")}


def main(
    data: Annotated[str, typer.Argument(help="As for ordage compare.")] = "demo",
    img_size: Annotated[int, typer.Option(help="Of the input.")] = 28,
    epochs: Annotated[int, typer.Option(help="Of a training.")] = 12,
    jobs: Annotated[int, typer.Option(help="Side by side, the second time.")] = 2,
) -> None:
    """Measure a comparison."""
    options: dict[str, Any] = {"data": data, "bins": BINS, "img_size": img_size, "in_chans": 1, "verbosity": 0}
    table = Table("3 losses × 2 seeds", "seconds", "÷ steps of the six")
    with tempfile.TemporaryDirectory() as folder:
        # Models and optimisers are imported at the first use, and the images are decoded.
        ordage.compare(**options, epochs=1, losses=("softmax",), seeds=(0,), out=folder)
        before = decoded()
        steps = 0.0
        for side_by_side in (1, jobs):
            begun = time.perf_counter()
            result = ordage.compare(
                **options, epochs=epochs, losses=LOSSES, seeds=(0, 1), out=Path(folder), jobs=side_by_side
            )
            whole = time.perf_counter() - begun
            if not steps:
                steps = sum(float(row["seconds"]) for cell in result.cells for row in cell.run.metrics)
                table.add_row("steps of training alone", f"{steps:.1f}", "1")
            name = "one after another" if side_by_side == 1 else f"{side_by_side} side by side"
            table.add_row(f"the whole comparison, {name}", f"{whole:.1f}", f"{whole / steps:.3f}")
    console = Console()
    console.print(table)
    console.print("nothing was decoded anew" if decoded() == before else "images were decoded again")


if __name__ == "__main__":
    typer.run(main)
