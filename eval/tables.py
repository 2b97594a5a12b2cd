"""An evaluation as tables: for a terminal, for Markdown, for pandas."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import rich.table

    from .bootstrap import Interval
    from .conformal import IntervalFigures, IntervalRow
    from .evaluation import Evaluation, Figure
    from .groups import GroupTable

MISSING = "—"
HEADLINE = ("bin_accuracy", "off_by_one_accuracy", "mae")
# What a reader looks for first among the further metrics is called by its usual name; the rest by its key.
SHARES = {"balanced_accuracy", "largest_predicted_share", "violation_rate"}


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A table whose cells are text.

    Args:
        title: What stands above it; empty for nothing.
        header: Names of the columns; empty for a table without any.
        rows: The cells; the first column is a name, the others are numbers.
        notes: Sentences below it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """The table in GitHub's Markdown."""
        width = len(self.rows[0])
        header = self.header or ("",) * width
        lines = [header, ("---", *("---:",) * (width - 1)), *self.rows]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        return "\n\n".join([*([f"**{self.title}**"] if self.title else []), table, *self.notes])

    def to_rich(self) -> rich.table.Table:
        """The table for a terminal; its notes are the caption."""
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        table = Table(
            box=box.SIMPLE_HEAD,
            title=escape(self.title) or None,
            title_justify="left",
            caption=escape("\n".join(self.notes)) or None,
            caption_justify="left",
            show_header=bool(self.header),
        )
        for place, name in enumerate(self.header or self.rows[0]):
            table.add_column(escape(name), justify="right" if place else "left", no_wrap=not place)
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table


def tables_of(evaluation: Evaluation, name: str = "") -> list[TextTable]:
    """All tables of an evaluation, the most important first.

    Args:
        evaluation: Of one model.
        name: What was judged; by default the loss.
    """
    found = [_headline(evaluation, name or str(evaluation.meta.get("loss", "model"))), _decoders(evaluation)]
    if evaluation.intervals is not None:
        found += _intervals(evaluation.intervals)
    found += [_group(column, table, evaluation.error_unit) for column, table in evaluation.groups.items()]
    return [*found, _rest(evaluation)]


def frame(evaluation: Evaluation) -> pd.DataFrame:
    """Every figure as a row; see `Evaluation.to_frame`."""
    import pandas as pd

    rows: list[dict[str, Any]] = []

    def add(metric: str, found: Figure | Interval | float, **more: Any) -> None:
        figures = {"value": found} if isinstance(found, bool | int | float) else dataclasses.asdict(found)
        rows.append({"metric": metric, **figures, **more})

    every = {"column": "", "group": "", "n": evaluation.n}
    for metric in HEADLINE:
        add(metric, getattr(evaluation.headline, metric), **every)
    add("mae_bins", evaluation.mae_bins, **every)
    for metric, value in evaluation.rest.items():
        add(metric, float(value), **every)
    if evaluation.intervals is not None:
        add("interval_coverage", evaluation.intervals.coverage, unit="share", **every)
        add("interval_width", evaluation.intervals.mean_width, unit=evaluation.intervals.unit, **every)
    units = {"bin_accuracy": "share", "off_by_one_accuracy": "share"}
    for column, table in evaluation.groups.items():
        for row in table.rows:
            for metric in (*HEADLINE, "bias"):
                where = {"column": column, "group": row.name, "n": row.n}
                add(metric, getattr(row, metric), unit=units.get(metric, evaluation.error_unit), **where)
    columns = ["metric", "value", "low", "high", "decoder", "unit", "column", "group", "n"]
    return pd.DataFrame(rows, columns=columns).fillna({"decoder": "", "unit": ""})


def _headline(evaluation: Evaluation, name: str) -> TextTable:
    constants = evaluation.baselines
    rows = [(name, *(_with_ends(getattr(evaluation.headline, key), share=key != "mae") for key in HEADLINE))]
    if constants:
        accuracy, off_by_one = (
            _percent(float(constants[f"majority_bin_{key}"])) for key in ("accuracy", "off_by_one_accuracy")
        )
        rows.append((f"always {constants['majority_bin']} (majority bin)", accuracy, off_by_one, MISSING))
        age = float(constants["median_age"])
        answer, kind = (constants["median_bin"], "bin") if math.isnan(age) else (f"{age:g}", "age")
        error = _number(float(constants[f"median_{kind}_mae"]))
        rows.append((f"always {answer} (median {kind})", MISSING, MISSING, error))
    people = "" if evaluation.n_subjects is None else f" of {evaluation.n_subjects:,} people"
    return TextTable(
        f"{evaluation.n:,} images{people}, {100 * evaluation.confidence:g} % intervals",
        ("", "bin accuracy (%)", "off by one (%)", f"MAE ({evaluation.error_unit})"),
        tuple(rows),
    )


def _decoders(evaluation: Evaluation) -> TextTable:
    unit = evaluation.error_unit
    return TextTable(
        "the same under each rule of decoding",
        ("decoder", "bin accuracy (%)", "off by one (%)", f"MAE ({unit})", "MAE (bins)", f"RMSE ({unit})"),
        tuple(
            (
                f"{label} ({figures.decoder})" if label == "paper" else label,
                _percent(figures.bin_accuracy),
                _percent(figures.off_by_one_accuracy),
                *map(_number, (figures.mae, figures.mae_bins, figures.rmse)),
            )
            for label, figures in evaluation.decoders.items()
        ),
    )


def _intervals(figures: IntervalFigures) -> Iterable[TextTable]:
    header = ("", "images", "held the truth (%)", f"mean width ({figures.unit})")

    def row(name: str, n: str, found: IntervalFigures | IntervalRow, width: Interval) -> tuple[str, ...]:
        return (name, n, _with_ends(found.coverage, share=True), _with_ends(width, share=False))

    promise = f"prediction intervals for {100 * figures.promised:g} %"
    within = "" if figures.by is None else f", promised within each {figures.by}"
    rows = [row("all", "", figures, figures.mean_width)]
    yield TextTable(f"{promise}, from {figures.n_calibration:,} validation images{within}", header, tuple(rows))
    for column, groups in figures.groups.items():
        rows = [row(_marked(group.name, group.small), f"{group.n:,}", group, group.width) for group in groups]
        yield TextTable(f"{promise}, by {column}", header, tuple(rows), _small_note(groups))


def _group(column: str, table: GroupTable, unit: str) -> TextTable:
    rows = tuple(
        (
            _marked(row.name, row.small),
            f"{row.n:,}",
            *(_with_ends(getattr(row, key), share=key != "mae") for key in HEADLINE),
            _with_ends(row.bias, share=False),
        )
        for row in table.rows
    )
    notes = _small_note(table.rows)
    if (gap := table.gap) is not None:
        chance = "p < 0.001" if gap.p_value < 0.001 else f"p = {gap.p_value:.3f}"
        notes = (
            f"The MAE of {gap.worst} is {gap.difference:.2f} {unit} above that of {gap.best} "
            f"({gap.low:.2f} to {gap.high:.2f}; were all groups alike, as far apart with {chance}).",
            *notes,
        )
    header = (column, "images", "bin accuracy (%)", "off by one (%)", f"MAE ({unit})", f"bias ({unit})")
    return TextTable(f"by {column}", header, rows, notes)


def _rest(evaluation: Evaluation) -> TextTable:
    rows = []
    for key, value in evaluation.rest.items():
        if isinstance(value, bool):
            rows.append((key, str(value).lower()))
        elif key in SHARES or key.startswith("cs@"):
            rows.append((f"{key} (%)", _percent(value)))
        else:
            rows.append((key, _number(value, 3)))
    return TextTable(f"further metrics, errors in {evaluation.error_unit}", (), tuple(rows))


def _marked(name: str, small: bool) -> str:
    return f"{name} *" if small else name


def _small_note(rows: Sequence[Any]) -> tuple[str, ...]:
    return ("* few images: these figures say little",) if any(row.small for row in rows) else ()


def _with_ends(figure: Figure | Interval, *, share: bool) -> str:
    show = _percent if share else _number
    if math.isnan(figure.value):
        return MISSING
    ends = "" if math.isnan(figure.low) else f" [{show(figure.low)}, {show(figure.high)}]"
    return show(figure.value) + ends


def _percent(value: float) -> str:
    return MISSING if math.isnan(value) else f"{100 * value:.1f}"


def _number(value: float, decimals: int = 2) -> str:
    return MISSING if math.isnan(value) else f"{value:.{decimals}f}"
