"""Pictures of what a model says; each is returned as a matplotlib figure, and none is ever shown by itself.

A figure is saved by ``figure.savefig("name.png")`` and shown by a notebook that returns it. Nothing here touches
pyplot, so no state of its is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .calibration import Calibration, Reliability, apply_temperature, exceedance_reliability, reliability
from .metrics import absolute_errors, cs_curve, decode, risk_coverage, spreads
from .predictions import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .evaluation import Evaluation
    from .groups import GroupRow
    from .ranking import Ranking

# Okabe and Ito 2008: apart for every kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
QUIET = "#767676"
DEEP = "#08306B"  # the darkest of the blues that shares are drawn in, to write on the light ones
MOST_WRITTEN = 14  # classes up to which every cell of a matrix has its number written in

Models = Predictions | Mapping[str, Predictions]


def confusion_figure(evaluation: Evaluation) -> Figure:
    """Share of each true bin (row) that was said to be of each bin (column), by the mode; counts at the edge.

    Args:
        evaluation: Of one model.
    """
    counts = evaluation.confusion
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    size = len(counts)
    side = 2.2 + 0.42 * min(size, 24)
    figure, axes = _figure(side, side)
    image = axes.imshow(np.where(totals > 0, shares, np.nan), cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, fraction=0.046, pad=0.04, label="share of the true bin")
    labels = list(evaluation.scale.labels)
    if size <= MOST_WRITTEN:
        for row, column in np.argwhere(counts > 0):
            share = shares[row, column]
            colour = "white" if share > 0.55 else DEEP
            text = "<1" if share < 0.01 else f"{100 * share:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    every = max(1, size // 24 + (size > 24))
    places = np.arange(0, size, every)
    axes.set_xticks(places, [labels[place] for place in places], rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, [f"{labels[place]} ({totals[place, 0]:,})" for place in places])
    axes.set(xlabel="predicted bin", ylabel="true bin (images)", title="Confusion, % of each true bin")
    return figure


def cs_figure(models: Models, *, largest: int = 20) -> Figure:
    """Cumulative score: the share of samples within k years, by the median.

    Args:
        models: Predictions, or several by name, on samples of which some age is known.
        largest: The last k.

    Raises:
        ValueError: No age is known.
    """
    figure, axes = _figure()
    for colour, (name, predictions) in _coloured(models):
        known = _known(predictions)
        curve = cs_curve(predictions.age[known], decode(predictions, "median").values[known], largest)
        axes.step(np.arange(largest + 1), 100 * curve, where="post", color=colour, label=name)
    unit = _one(models).scale.unit
    axes.set(xlabel=f"error of at most k ({unit})", ylabel="images (%)", title="Cumulative score", ylim=(0, 100))
    axes.set_xlim(0, largest)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _finish(figure, axes, models)


def error_by_age_figure(evaluation: Evaluation) -> Figure:
    """MAE and bias of each decade of age with their intervals, and how many samples it has; faint where they are few.

    Args:
        evaluation: Of one model, on samples whose ages are known.

    Raises:
        ValueError: There are no decades: no age is known, or all are of one.
    """
    if "decade" not in evaluation.groups:
        raise ValueError("Expected an evaluation with at least two decades of age, but it has none.")
    rows = evaluation.groups["decade"].rows
    places = np.arange(len(rows))
    figure, axes = _figure(max(5.0, 1.6 + 0.55 * len(rows)), 4.2)
    faint = np.array([row.small for row in rows])
    counts = axes.twinx()
    counts.bar(places, [row.n for row in rows], color="#DDDDDD", width=0.8, zorder=0)
    counts.set_ylabel("images", color=QUIET)
    counts.tick_params(axis="y", colors=QUIET)
    axes.set_zorder(counts.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.axhline(0, color=QUIET, linewidth=0.8)
    for move, colour, name in ((-0.1, COLOURS[0], "mae"), (0.1, COLOURS[1], "bias")):
        values = np.array([getattr(row, name).value for row in rows])
        ends = np.array([[getattr(row, name).low, getattr(row, name).high] for row in rows]).T
        around = np.nan_to_num(np.abs(ends - values))
        label = "MAE" if name == "mae" else "bias (predicted − true)"
        for these, strength, said in ((~faint, 1.0, label), (faint, 0.3, None)):
            axes.errorbar(
                (places + move)[these],
                values[these],
                around[:, these],
                fmt="o",
                color=colour,
                alpha=strength,
                capsize=3,
                markersize=5,
                label=said,
            )
    if not faint.all():  # what a single image errs by shall not decide the scale of the others
        shown = [end for row, small in zip(rows, faint, strict=True) if not small for end in _ends(row)]
        margin = 0.12 * (max(shown) - min(shown))
        axes.set_ylim(min(shown) - margin, max(shown) + margin)
    axes.set_xticks(places, [row.name for row in rows], rotation=45, ha="right", rotation_mode="anchor")
    axes.set(xlabel="true age", ylabel=evaluation.error_unit, title="Error by age")
    axes.legend(frameon=False, fontsize=9)
    return figure


def reliability_figure(predictions: Predictions, *, calibration: Calibration | None = None) -> Figure:
    """Said probabilities against how often they came true: of the most probable class, and of each P(y > k).

    Args:
        predictions: Of one model that gives distributions.
        calibration: Adds the same under its temperature.
    """
    figure, (left, right) = _figure(9.0, 4.4, columns=2)
    variants = {"as it is": predictions.log_probs}
    if calibration is not None and calibration.temperature is not None:
        name = f"temperature {calibration.temperature:.2f}"
        variants[name] = apply_temperature(predictions.log_probs, calibration.temperature)
    for colour, (name, log_probs) in zip(COLOURS, variants.items(), strict=False):
        likely = log_probs.argmax(axis=1)
        said = np.minimum(np.exp(log_probs[np.arange(len(log_probs)), likely].astype(np.float64)), 1)
        found = (reliability(said, likely == predictions.target), exceedance_reliability(log_probs, predictions.target))
        for axes, each in zip((left, right), found, strict=True):
            _draw_reliability(axes, each, colour, name)
    for axes, what in ((left, "most probable class"), (right, "P(age > k), every k")):
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle="--", zorder=0)
        axes.set(
            xlabel="probability that was said", ylabel="share that came true", title=what, xlim=(0, 1), ylim=(0, 1)
        )
        axes.set_aspect("equal")
        axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def risk_coverage_figure(models: Models) -> Figure:
    """MAE of the samples that are kept when those of the widest distributions are left out.

    Args:
        models: Predictions, or several by name, on samples of which some age is known.

    Raises:
        ValueError: No age is known.
    """
    figure, axes = _figure()
    for colour, (name, predictions) in _coloured(models):
        known = _known(predictions)
        errors = absolute_errors(predictions.age[known], decode(predictions, "median").values[known])
        curve = risk_coverage(errors, spreads(predictions.log_probs[known], predictions.scale.values))
        shown = np.unique(np.linspace(len(curve) // 50, len(curve) - 1, 400).astype(int))
        axes.plot(100 * (shown + 1) / len(curve), curve[shown], color=colour, label=name)
    axes.set(xlabel="images kept (%), the most certain first", ylabel=f"MAE ({_one(models).scale.unit})")
    axes.set(title="Risk and coverage", xlim=(0, 100))
    axes.set_ylim(bottom=0)
    return _finish(figure, axes, models)


def density_figure(predictions: Predictions) -> Figure:
    """Predicted against true ages, by the median, as a density.

    Args:
        predictions: Of one model, on samples of which some age is known.

    Raises:
        ValueError: No age is known.
    """
    known = _known(predictions)
    true, said = predictions.age[known], decode(predictions, "median").values[known]
    low, high = np.floor(min(true.min(), said.min())), np.ceil(max(true.max(), said.max())) + 1
    edges = np.linspace(low, high, int(min(high - low, 60)) + 1)
    counts, _, _ = np.histogram2d(true, said, bins=(edges, edges))
    figure, axes = _figure(5.2, 4.8)
    shown = np.where(counts > 0, counts, np.nan).T
    image = axes.pcolormesh(edges, edges, shown, cmap="viridis", norm="log", rasterized=True)
    # Beside the axes, which are square, and as high as these are; counts as plain numbers.
    figure.colorbar(image, cax=axes.inset_axes((1.04, 0, 0.05, 1)), label="images", format="%g")
    axes.plot([low, high], [low, high], color=QUIET, linewidth=0.8, linestyle="--")
    unit = predictions.scale.unit
    axes.set(xlabel=f"true age ({unit})", ylabel=f"predicted age ({unit})", title="Predicted and true")
    axes.set_aspect("equal")
    return figure


def critical_difference_figure(ranking: Ranking) -> Figure:
    """Methods along their mean ranks; a bar joins those that do not differ.

    Args:
        ranking: From `rank_methods`.
    """
    methods = len(ranking.names)
    figure, axes = _figure(7.0, 1.4 + 0.26 * (methods + len(ranking.groups)))
    half = (methods + 1) // 2
    depth = len(ranking.groups) + 1
    axes.hlines(0, 1, methods, color="black", linewidth=1)
    axes.plot(np.arange(1, methods + 1), np.zeros(methods), "|", color="black", markersize=8)
    for rank in range(1, methods + 1):
        axes.text(rank, 0.35, str(rank), ha="center", va="bottom", fontsize=9)
    for place, (name, mean_rank) in enumerate(zip(ranking.names, ranking.mean_ranks, strict=True)):
        left = place < half
        level = -(depth + (place if left else methods - 1 - place))
        end = 0.7 if left else methods + 0.3
        axes.plot([mean_rank, mean_rank, end], [0, level, level], color=QUIET, linewidth=0.9)
        side: Any = "right" if left else "left"
        axes.text(end + (-0.05 if left else 0.05), level, f"{name} {mean_rank:.2f}", ha=side, va="center", fontsize=9)
    for place, (first, last) in enumerate(ranking.groups):
        ends = ranking.mean_ranks[first] - 0.04, ranking.mean_ranks[last] + 0.04
        axes.hlines(-(place + 1) * 0.8, *ends, color="black", linewidth=3)
    axes.hlines(1.6, 1, 1 + ranking.critical_difference, color="black", linewidth=1.5)
    axes.text(1, 1.8, f"critical difference {ranking.critical_difference:.2f}", fontsize=9, va="bottom")
    axes.set(xlim=(-0.6, methods + 1.6), ylim=(-(depth + half) - 0.3, 2.8))
    axes.axis("off")
    return figure


def _figure(width: float = 5.2, height: float = 4.2, *, columns: int = 1) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure as _Figure

    figure = _Figure(figsize=(width, height), dpi=120, layout="constrained")
    axes = figure.subplots(1, columns)
    for each in np.atleast_1d(axes):
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _ends(row: GroupRow) -> list[float]:
    numbers = [number for each in (row.mae, row.bias) for number in (each.value, each.low, each.high)]
    return [0.0, *(number for number in numbers if np.isfinite(number))]


def _finish(figure: Figure, axes: Axes, models: Models) -> Figure:
    axes.grid(color="#EEEEEE")
    axes.set_axisbelow(True)
    if not isinstance(models, Predictions):
        axes.legend(frameon=False, fontsize=9)
    return figure


def _coloured(models: Models) -> list[tuple[str, tuple[str, Predictions]]]:
    named = {"": models} if isinstance(models, Predictions) else models
    return [(COLOURS[place % len(COLOURS)], item) for place, item in enumerate(named.items())]


def _one(models: Models) -> Predictions:
    return models if isinstance(models, Predictions) else next(iter(models.values()))


def _known(predictions: Predictions) -> npt.NDArray[np.bool_]:
    known = predictions.known_age
    if not known.any():
        raise ValueError("Expected samples of known age, but none is known.")
    return known


def _draw_reliability(axes: Axes, found: Reliability, colour: str, name: str) -> None:
    sizes = 12 + 160 * found.count / found.count.max()
    label = f"{name}: error {100 * found.error:.1f} %"
    axes.plot(found.predicted, found.observed, color=colour, linewidth=1)
    axes.scatter(found.predicted, found.observed, s=sizes, color=colour, alpha=0.7, label=label, linewidths=0)
