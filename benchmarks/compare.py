"""What compare costs beyond the training that it compares, and whether anything is decoded twice.

A comparison of three losses with two seeds is run; what its cells spent on steps of training, and on these and
validation, is what they saved themselves.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import ordage
from ordage.data import store

LOSSES = ("coral", "corn", "softmax")


def main(
    data: Annotated[str, typer.Argument(help="As for ordage compare.")] = "demo",
    img_size: Annotated[int, typer.Option(help="Of the input.")] = 28,
    epochs: Annotated[int, typer.Option(help="Of a training.")] = 12,
    jobs: Annotated[int, typer.Option(help="Side by side.")] = 1,
) -> None:
    """Measure a comparison."""
    decoded = 0
    build = store._Job.build

    def counted(self: Any, *, keep: bool) -> None:
        nonlocal decoded
        decoded += 1
        build(self, keep=keep)

    store._Job.build = counted  # type: ignore[method-assign]
    bins = "0-10,11-20,21-30,31-40,41-50,51-60,61-70,71-80,81-90,91+"
    options = {"data": data, "bins": bins, "img_size": img_size, "in_chans": 1, "epochs": epochs, "jobs": jobs}
    with tempfile.TemporaryDirectory() as folder:
        # Models and optimisers are imported at the first use, and the images are decoded.
        ordage.compare(**{**options, "epochs": 1}, losses=("softmax",), seeds=(0,), out=folder, verbosity=0)
        first, decoded = decoded, 0
        begun = time.perf_counter()
        result = ordage.compare(**options, losses=LOSSES, seeds=(0, 1), out=Path(folder), verbosity=0)
        whole = time.perf_counter() - begun
        steps = sum(float(row["seconds"]) for cell in result.cells for row in cell.run.metrics)
    table = Table("3 losses × 2 seeds", "figure")
    table.add_row("the whole comparison", f"{whole:.1f} s")
    table.add_row("steps of training of the six", f"{steps:.1f} s")
    table.add_row("whole ÷ steps", f"{whole / steps:.3f}")
    table.add_row("times that images were decoded: before, in it", f"{first}, {decoded}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
