"""Figures inside of a page: vector drawings that take the page's own colours, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from markupsafe import Markup

from ordage.eval.figures import COLOURS, QUIET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["inline", "training_figure"]

INK = "#010203"  # stands for the colour of the page's text while a figure is drawn
# What the figures draw with, and what the page calls it; the page knows a light and a dark value of each.
PAGE_COLOURS = {
    INK: "currentColor",
    "#000000": "currentColor",
    QUIET: "var(--faint)",
    "#DDDDDD": "var(--line)",
    "#EEEEEE": "var(--line)",
    **{colour: f"var(--c{place})" for place, colour in enumerate(COLOURS) if colour != "#000000"},
}
WIDE = 700  # pixels of a page, from which on a figure has a row for itself
STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    "svg.fonttype": "none",  # text stays text: sharp, small, and found by a search in the page
    "svg.hashsalt": "ordage",
    "text.parse_math": False,  # a dollar in a name is a dollar
}


def inline(draw: Callable[[], Figure]) -> Markup:
    """Return a figure as SVG to put into a page.

    Args:
        draw: makes the figure.
    """
    file = io.StringIO()
    with mpl.rc_context(STYLE):
        draw().savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    head, body = text[text.index("<svg") :].split(">", 1)
    # As wide as there is room for, and at most as wide as it was drawn: the view box alone tells its shape.
    sizes = {name: float(size) for name, size in re.findall(r' (width|height)="([\d.]+)pt"', head)}
    head = re.sub(r' (width|height)="[\d.]+pt"', "", head)
    text = f"{head}>{body}"
    for colour, name in PAGE_COLOURS.items():
        text = re.sub(colour, name, text, flags=re.IGNORECASE)
    text = re.sub(r"(font: (?:\w+ )*[\d.]+px) [^;\"]+", r"\1 system-ui, sans-serif", text)
    width = round(sizes["width"] * 4 / 3)  # a point is 4/3 of a page's pixel
    wide = " wide" if width > WIDE else ""
    return Markup('<div class="drawing{}" style="max-width: {}px">{}</div>').format(wide, width, Markup(text))


def training_figure(curves: Mapping[str, Sequence[Sequence[Mapping[str, str]]]], unit: str) -> Figure:
    """Draw the validation error by epoch, a line for each seed; for one model alone the training loss beside it.

    Args:
        curves: for each model its seeds, each the rows of ``metrics.csv``.
        unit: of the error.
    """
    from matplotlib.figure import Figure

    alone = len(curves) == 1
    figure = Figure(figsize=(7.6 if alone else 5.2, 3.6), dpi=120, layout="constrained")
    error, *others = figure.subplots(1, 2 if alone else 1, squeeze=False)[0]
    for place, (name, seeds) in enumerate(curves.items()):
        colour = COLOURS[place % len(COLOURS)]
        for number, rows in enumerate(seeds):
            epochs = [int(row["epoch"]) for row in rows]
            label = name if not alone and number == 0 else None
            error.plot(epochs, [float(row["val_mae"]) for row in rows], color=colour, linewidth=1, label=label)
            for axes in others:
                axes.plot(epochs, [float(row["train_loss"]) for row in rows], color=colour, linewidth=1)
    error.set(xlabel="epoch", ylabel=f"validation MAE ({unit})")
    for axes in others:
        axes.set(xlabel="epoch", ylabel="training loss")
    if not alone:
        error.legend(frameon=False, fontsize=9)
    for axes in (error, *others):
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color="#EEEEEE")
    return figure
