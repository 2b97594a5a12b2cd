"""Whether compare's verdicts can be trusted: no difference found where there is none, one found where there is.

- null: the same loss under two names, which differ by the draw of the initial weights alone. At a confidence of 95 %,
  about one comparison in twenty may find a difference.
- planted: a loss whose labels are wrong for a share of the images, beside the same loss with the right ones.

Each comparison is on drawn faces of its own.
"""

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

import ordage
from ordage.data import demo
from ordage.losses import SoftmaxLoss, register

SPOILED = 0.5  # share of the labels that are wrong
FARTHEST = 0.5  # of all classes, that a wrong label is off


@register("twin")
class TwinLoss(SoftmaxLoss):
    """Softmax with other initial weights."""

    summary, source, paper_decoder = "softmax with another draw of the initial weights", "this benchmark", "mode"

    def make_head(self, in_features: int, **options: Any) -> torch.nn.Module:
        """Draw once before the head does."""
        torch.rand(1)
        return super().make_head(in_features, **options)


@register("spoiled")
class SpoiledLoss(SoftmaxLoss):
    """Softmax on labels that are partly wrong, always the same way for the same images of a batch."""

    summary, source, paper_decoder = "softmax on partly wrong labels", "this benchmark", "mode"

    def compute_loss(self, logits: torch.Tensor, target: torch.Tensor, **options: Any) -> torch.Tensor:
        """Move some labels."""
        drawn = torch.rand(len(target)) < SPOILED
        far = torch.randint(1, max(2, int(FARTHEST * self.num_classes)), (len(target),))
        moved = torch.where(drawn, (target.cpu() + far) % self.num_classes, target.cpu())
        return super().compute_loss(logits, moved.to(target.device), **options)


def compared(loss: str, data: Path, seeds: int, epochs: int, out: Path) -> dict[str, Any]:
    """Return the pair that a comparison with softmax reports."""
    result = ordage.compare(
        data=str(data),
        losses=(loss,),
        seeds=tuple(range(seeds)),
        epochs=epochs,
        model="ordage_tiny",
        batch_size=64,
        verbosity=0,
        out=out,
        name=f"{loss}-{data.stem}",
    )
    assert not result.report["failed"], result.report["failed"]
    (pair,) = result.report["pairs"]
    return dict(pair)


def of_one_set(data_seed: int, planted: bool, seeds: int, images: int, epochs: int) -> dict[str, dict[str, Any]]:
    """Return the pairs of the comparisons on one set of faces, in a process that has one thread."""
    torch.set_num_threads(1)
    drawn = demo.draw(n=images, size=24, seed=data_seed)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "faces.npz"
        np.savez(data, images=drawn.images.mean(axis=-1).astype(np.uint8), ages=drawn.ages)
        losses = ("twin", "spoiled") if planted else ("twin",)
        return {loss: compared(loss, data, seeds, epochs, Path(folder)) for loss in losses}


def main(
    data_seeds: Annotated[int, typer.Option(help="Sets of faces, each with a null comparison.")] = 40,
    planted: Annotated[int, typer.Option(help="Of these, how many also have a planted effect.")] = 5,
    seeds: Annotated[int, typer.Option(help="Training seeds of a comparison.")] = 5,
    images: Annotated[int, typer.Option(help="Faces of a set.")] = 1200,
    epochs: Annotated[int, typer.Option(help="Of a training.")] = 6,
    first: Annotated[int, typer.Option(help="Seed of the first set.")] = 0,
) -> None:
    """Compare what is the same, and what is not."""
    begun = time.perf_counter()
    found: dict[str, list[dict[str, Any]]] = {"twin": [], "spoiled": []}
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        work = [
            pool.submit(of_one_set, first + place, place < planted, seeds, images, epochs)
            for place in range(data_seeds)
        ]
        for done in track(as_completed(work), "comparing", total=data_seeds, transient=True):
            for loss, pair in done.result().items():
                found[loss].append(pair)
    table = Table(
        "", "comparisons", "significant", "MAE higher than softmax's", "mean difference (years)", "smallest p"
    )
    for name, pairs in found.items():
        if pairs:
            differences = [pair["difference"] for pair in pairs]
            table.add_row(
                name,
                str(len(pairs)),
                str(sum(pair["significant"] for pair in pairs)),
                str(sum(difference > 0 for difference in differences)),
                f"{np.mean(differences):+.2f}",
                f"{min(pair['p_holm'] for pair in pairs):.4f}",
            )
    console = Console()
    console.print(table)
    console.print(f"{time.perf_counter() - begun:.0f} s, {seeds} seeds, {images} faces, {epochs} epochs")


if __name__ == "__main__":
    typer.run(main)
