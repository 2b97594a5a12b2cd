"""The figures of a result: which can be drawn of which predictions, as files and for the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ordage.eval import Predictions, figures

from .workspace import file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .judging import Judged

__all__ = ["Drawing", "draw", "joint_drawings", "own_drawings"]


@dataclass(frozen=True)
class Drawing:
    """A figure to be drawn.

    Attributes:
        name: of its file.
        title: what a page calls it.
        make: draws it.
    """

    name: str
    title: str
    make: Callable[[], Figure]


def own_drawings(judged: Judged) -> list[Drawing]:
    """Return the figures that one model has for itself."""
    said, evaluation, calibration = judged.predictions, judged.evaluation, judged.calibration
    found = [Drawing("confusion", "Confusion", lambda: figures.confusion_figure(evaluation))]
    if "decade" in evaluation.groups:
        found.append(Drawing("error_by_age", "Error by age", lambda: figures.error_by_age_figure(evaluation)))
    if not _point(judged):
        found.append(
            Drawing("reliability", "Calibration", lambda: figures.reliability_figure(said, calibration=calibration))
        )
    if said.known_age.any():
        found.append(Drawing("density", "Predicted and true", lambda: figures.density_figure(said)))
    return found


def joint_drawings(models: Sequence[Judged]) -> list[Drawing]:
    """Return the figures that hold several models, or the only one."""
    aged = {model.name: model.predictions for model in models if model.predictions.known_age.any()}
    sure = {model.name: aged[model.name] for model in models if model.name in aged and not _point(model)}
    found = []
    if aged:
        title = "Share of images by their error"
        found.append(Drawing("cumulative_score", title, lambda: figures.cs_figure(_alone(aged))))
    if sure:
        title = "Error where the least certain are left out"
        found.append(Drawing("risk_coverage", title, lambda: figures.risk_coverage_figure(_alone(sure))))
    return found


def draw(models: Sequence[Judged], folder: Path, joint: Sequence[Drawing] | None = None) -> list[Path]:
    """Write figures as PNG files, and return their paths.

    Args:
        models: the figures of an only one go into the folder, those of several each into one of its own there.
        folder: where they go; made if it is not there.
        joint: those that hold all models; `joint_drawings` without.
    """
    places: dict[str, list[Drawing]] = {"": list(joint_drawings(models) if joint is None else joint)}
    for model in models:
        places.setdefault("" if len(models) == 1 else file_name(model.name), []).extend(own_drawings(model))
    written = []
    for place, drawings in places.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        for drawing in drawings:
            written.append(folder / place / f"{drawing.name}.png")
            drawing.make().savefig(written[-1])
    return written


def _alone(models: dict[str, Predictions]) -> figures.Models:
    return next(iter(models.values())) if len(models) == 1 else models


def _point(judged: Judged) -> bool:
    return bool(judged.predictions.meta.get("point_predictor", False))
