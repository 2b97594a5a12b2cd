"""Results as tables of text, which a terminal, a page and Markdown show alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ordage.eval.tables import HEADLINE, MISSING, TextTable

__all__ = [
    "cost_table",
    "headline_table",
    "number",
    "pairs_table",
    "paper_table",
    "percent",
    "share",
    "tuning_table",
    "with_effort",
]


def headline_table(
    rows: Sequence[tuple[str, Mapping[str, Any], Sequence[int] | None]],
    baselines: Mapping[str, Any],
    unit: str,
    title: str = "",
    *,
    first: str = "loss",
) -> TextTable:
    """The three figures of each model with their intervals, and the constants.

    Args:
        rows: name, figures and seeds of each; with several seeds their standard deviation is shown.
        baselines: as an evaluation holds them; may be empty.
        unit: of the MAE.
        title: what stands above it.
        first: what the names are.
    """
    cells = [
        (name, *(_with_interval(figures[key], share=key != "mae", spread=len(seeds or ()) > 1) for key in HEADLINE))
        for name, figures, seeds in rows
    ]
    if baselines:
        accuracies = [percent(baselines[f"majority_bin_{key}"]) for key in ("accuracy", "off_by_one_accuracy")]
        cells.append((f"always {baselines['majority_bin']} (majority bin)", *accuracies, MISSING))
        age = baselines["median_age"]
        kind, answer = ("age", f"{age:g}") if age is not None else ("bin", baselines["median_bin"])
        error = number(baselines[f"median_{kind}_mae"])
        cells.append((f"always {answer} (median {kind})", MISSING, MISSING, error))
    header = (first, "bin accuracy (%)", "off by one (%)", f"MAE ({unit})")
    return TextTable(title, header, tuple(cells))


def pairs_table(title: str, pairs: Sequence[Mapping[str, Any]]) -> TextTable | None:
    """Differences with their intervals and corrected p-values; None where there are none."""
    if not pairs:
        return None
    rows = tuple(
        (
            f"{pair['a']} \N{MINUS SIGN} {pair['b']}",
            f"{_signed(pair['difference'])} [{_signed(pair['low'])}, {_signed(pair['high'])}]",
            "< 0.001" if pair["p_holm"] < 0.001 else f"{pair['p_holm']:.3f}",
            "yes" if pair["significant"] else "no",
            " or ".join(pair["effort"]["ways"]) or MISSING,
        )
        for pair in pairs
    )
    header = ("", "difference [interval]", "p (Holm)", "significant", "images or seeds to see it")
    over_seeds = {pair["over_seeds"]["note"] for pair in pairs if pair["over_seeds"]} - {""}
    notes = tuple(f"Over seeds alone, by Wilcoxon's test: {note}" for note in sorted(over_seeds))
    return TextTable(title, header, rows, notes)


def paper_table(rows: Sequence[Mapping[str, Any]], unit: str) -> TextTable:
    """What each model would be said to do by the rule of decoding in its loss's own paper."""
    cells = tuple(
        (
            f"{row['arm']} ({row['paper']['decoder']})",
            percent(row["paper"]["bin_accuracy"]),
            percent(row["paper"]["off_by_one_accuracy"]),
            number(row["paper"]["mae"]),
        )
        for row in rows
    )
    header = ("", "bin accuracy (%)", "off by one (%)", f"MAE ({unit})")
    note = "Papers read their models by different rules: what differs here and not above is the rule, not the model."
    return TextTable("by each paper's own rule", header, cells, (note,))


def with_effort(pair: Mapping[str, Any]) -> str:
    """The verdict on a pair, and for what was not seen, what it would take to see it."""
    return str(pair["verdict"]) if pair["significant"] else f"{pair['verdict']} {pair['effort']['text']}"


def tuning_table(tuning: Sequence[Mapping[str, Any]], unit: str) -> TextTable | None:
    """What each learning rate gave on validation; None where none were tried."""
    if not tuning:
        return None
    arms, rates = (list(dict.fromkeys(row[key] for row in tuning)) for key in ("arm", "lr"))
    found = {(row["arm"], row["lr"]): row["val_mae"] for row in tuning}
    rows = []
    for arm in arms:
        errors = {rate: found[arm, rate] for rate in rates}
        best = min((error for error in errors.values() if error is not None), default=None)
        rows.append((arm, *(f"{number(error)}{' *' if error == best else ''}" for error in errors.values())))
    header = ("learning rate", *(f"{rate:g}" for rate in rates))
    return TextTable(f"validation MAE ({unit}) by learning rate", header, tuple(rows), ("* chosen",))


def cost_table(rows: Sequence[Mapping[str, Any]]) -> TextTable:
    """What training cost."""
    return TextTable(
        "cost of a training",
        ("", "seconds", "images/s", "epochs", "best epoch", "parameters", "GPU memory"),
        tuple(
            (
                row["arm"],
                f"{row['seconds']:,.0f}",
                f"{row['images_per_second']:,.0f}",
                f"{row['epochs']:g}",
                f"{row['best_epoch']:.3g}",
                f"{row['parameters']:,}",
                MISSING if row.get("peak_memory") is None else f"{row['peak_memory'] / 2**20:,.0f} MiB",
            )
            for row in rows
        ),
    )


def _with_interval(figure: Mapping[str, Any], *, share: bool, spread: bool) -> str:
    show = percent if share else number
    if figure["value"] is None:
        return MISSING
    text = show(figure["value"])
    if figure["low"] is not None and figure["low"] == figure["low"]:
        text += f" [{show(figure['low'])}, {show(figure['high'])}]"
    return f"{text} ±{show(figure['seed_std'])}" if spread and figure.get("seed_std") is not None else text


def share(value: float | None) -> str:
    """A share in percent, with its unit."""
    return MISSING if value is None else f"{percent(value)} %"


def percent(value: float | None) -> str:
    """A share in percent."""
    return MISSING if value is None else f"{100 * value:.1f}"


def number(value: float | None, decimals: int = 2) -> str:
    """A number, or the sign for none."""
    return MISSING if value is None else f"{value:.{decimals}f}"


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "\N{MINUS SIGN}")  # adding 0.0 makes 0.0 of -0.0
