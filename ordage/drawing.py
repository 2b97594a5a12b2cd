"""The figures of an evaluation as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ordage.eval import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .judging import Judged

__all__ = ["draw"]


def draw(judged: Judged, other: Judged | None, folder: Path) -> list[Path]:
    """Write the figures that can be told of these predictions as PNG files, and return their paths.

    Args:
        judged: what was judged.
        other: another model, drawn beside it where a figure holds two.
        folder: where they go; made if it is not there.
    """
    said, evaluation = judged.predictions, judged.evaluation
    models = {item.name: item.predictions for item in (judged, *([] if other is None else [other]))}
    both = models if len(models) > 1 else said
    has_ages, point = bool(said.known_age.any()), bool(said.meta.get("point_predictor", False))
    drawings: dict[str, tuple[bool, Callable[[], Figure]]] = {
        "confusion": (True, lambda: figures.confusion_figure(evaluation)),
        "cumulative_score": (has_ages, lambda: figures.cs_figure(both)),
        "error_by_age": ("decade" in evaluation.groups, lambda: figures.error_by_age_figure(evaluation)),
        "reliability": (not point, lambda: figures.reliability_figure(said)),
        "risk_coverage": (has_ages and not point, lambda: figures.risk_coverage_figure(both)),
        "density": (has_ages, lambda: figures.density_figure(said)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (possible, figure) in drawings.items():
        if possible:
            written.append(folder / f"{name}.png")
            figure().savefig(written[-1])
    return written
