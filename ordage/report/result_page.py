"""The page of a result: what came out first, then the figures, the images, and how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup

from ordage.eval.tables import TextTable, tables_of

from ..config import RunConfig
from ..data.layouts import read
from ..drawing import own_drawings
from ..errors import OrdageError
from ..runs import Run
from .charts import inline
from .content import Content, Shown
from .gallery import Answered, Gallery, make_gallery
from .pages import render

if TYPE_CHECKING:
    from ..data.manifest import Manifest

__all__ = ["result_page"]

CONFLICTS = 30  # groups of identical images with different ages that are listed


def result_page(content: Content, manifest: Manifest | None = None) -> str:
    """Return the page as text.

    Args:
        content: what it says.
        manifest: the samples, where they have been read already; else they are read again, if they are still there.
    """
    runs = [model.run for model in content.models if model.run is not None]
    if manifest is None and runs:
        manifest = _read_again(runs[0].config)
    gallery = _gallery(content.models, manifest)
    sources = {model.run.report["loss"]: None for model in content.models if model.run is not None}
    return render(
        "result.html",
        content=content,
        gallery=gallery,
        together=[(drawing.title, inline(drawing.make)) for drawing in content.drawings],
        figures=_side_by_side(content.models),
        details=[(model.name, tables_of(model.judged.evaluation, model.name)[1:]) for model in content.models],
        conflicts=_conflicts(runs[0]) if runs and content.data else None,
        citations=_citations(list(sources)),
        options={name: value for name, value in content.options.items() if value not in (None, [], "", False)},
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        version=version("ordage"),
    )


def _read_again(config: RunConfig) -> Manifest | None:
    """Return the samples of a run once more, if they are still where they were."""
    try:
        return read(config)
    except (OrdageError, OSError):
        return None


def _side_by_side(models: Sequence[Shown]) -> dict[str, list[tuple[str, Markup]]]:
    """Return each kind of figure, by its title, with a drawing for each model that it can be drawn of."""
    found: dict[str, list[tuple[str, Markup]]] = {}
    for model in models:
        for drawing in own_drawings(model.judged):
            found.setdefault(drawing.title, []).append((model.name, inline(drawing.make)))
    return found


def _gallery(models: Sequence[Shown], manifest: Manifest | None) -> Gallery:
    shown = [Answered(model.name, model.judged.predictions, model.judged.calibration) for model in models]
    # Runs of different folds have other test images: the first one's are shown.
    alike = [each for each in shown if np.array_equal(each.predictions.ids, shown[0].predictions.ids)]
    return make_gallery(alike, manifest)


def _conflicts(run: Run) -> TextTable | None:
    """Return the identical images whose labels contradict each other, by what the run wrote of its samples."""
    table = pd.read_csv(run.path / "splits.csv", dtype=str, keep_default_na=False, encoding_errors="replace")
    groups = table.groupby("digest", sort=False)
    different = groups[["low", "high"]].transform("nunique").max(axis=1) > 1
    found = table[different]
    if found.empty:
        return None
    rows = []
    for _, group in found.groupby("digest", sort=False):
        ages = pd.to_numeric(group["low"])
        rows.append((float(ages.max() - ages.min()), group))
    rows.sort(key=lambda row: -row[0])
    cells = tuple(
        (
            ", ".join(group["id"]),
            ", ".join(f"{float(age):g}" for age in group["low"]),
            f"{spread:g}",
            ", ".join(dict.fromkeys(group["part"])),
        )
        for spread, group in rows[:CONFLICTS]
    )
    more = (f"The {CONFLICTS} farthest apart of {len(rows):,}.",) if len(rows) > CONFLICTS else ()
    return TextTable(f"{len(rows):,} pictures", ("files", "ages", "years apart", "part"), cells, more)


def _citations(losses: Sequence[str]) -> list[tuple[str, str]]:
    from ordage import losses as known

    return [(name, known.get(name.split(":")[0]).source) for name in losses]
