"""Results as people read them on a terminal, and as JSON for programs."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from ordage.eval.tables import TextTable

from .result_tables import headline_table, number, share, with_effort

if TYPE_CHECKING:
    from .comparison import Comparison
    from .exporting import Exported
    from .judging import Judged
    from .runs import Run

__all__ = [
    "comparison_json",
    "exported_json",
    "judged_json",
    "loss_rows",
    "print_audit",
    "print_cache",
    "print_comparison",
    "print_exported",
    "print_judged",
    "print_losses",
    "print_plan",
    "print_run",
    "run_json",
]

SHOWN_BINS = 24  # of a histogram; years of age would fill the screen


def run_json(run: Run) -> dict[str, Any]:
    """Return what ``fit --json`` prints."""
    report = run.report
    return {
        "results": [{"loss": report["loss"], "seed": report["seed"], "test": report["test"]["test"]}],
        "baselines": report["test"]["baselines"],
        "diagnosis": report.get("diagnosis", []),
        "run": str(run.path),
    }


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return what ``compare --json`` prints."""
    return {**comparison.report, "run": str(comparison.path)}


def exported_json(exported: Exported) -> dict[str, Any]:
    """Return what ``export --json`` prints."""
    return {
        "folder": str(exported.folder),
        "file": str(exported.file),
        "verified": dataclasses.asdict(exported.verified),
    }


def print_exported(exported: Exported) -> None:
    """Print what was written and how it was verified."""
    verified = exported.verified
    console = _console()
    console.print(
        f"Verified against the model on {verified.images} images: probabilities differ by at most "
        f"{verified.largest:.1e}, and {share(verified.ages)} of the ages and intervals are the same.",
        soft_wrap=True,
    )
    if verified.resized is not None:
        console.print(
            "It takes images of any size; where it resizes them by itself, which may round a pixel the other way, "
            f"probabilities differ by at most {verified.resized:.1e}.",
            soft_wrap=True,
        )
    console.print(f"File: {exported.file}", soft_wrap=True)


def print_run(run: Run) -> None:
    """Print the figures of a run beside the constants."""
    report = run.report
    test = report["test"]
    console = _console()
    console.print(
        headline_table(
            [(report["loss"], test["headline"], None)], test["baselines"], test["error_unit"], _counts(test)
        ).to_rich()
    )
    _print_diagnosis(console, report.get("diagnosis", []))
    console.print(f"Run: {run.path}", soft_wrap=True)


def print_comparison(comparison: Comparison) -> None:
    """Print a row a loss, the constants, and the verdicts."""
    report = comparison.report
    console = _console()
    rows = [(row["arm"], row, row["seeds"]) for row in report["losses"]]
    seeds = max(len(row["seeds"]) for row in report["losses"])
    mean = f"mean of {seeds} seed{'s' if seeds > 1 else ''} ± their standard deviation"
    title = f"{_counts(report['test'])}, {mean}"
    console.print(headline_table(rows, report["baselines"], report["error_unit"], title).to_rich())
    console.print(_paper_line(report["losses"]), soft_wrap=True)
    for pair in report["pairs"]:
        console.print(f"Verdict: {with_effort(pair)}", soft_wrap=True, style="bold")
    for row in report["losses"]:
        if row["collapsed"]:
            console.print(f"Warning: {row['arm']} predicts one bin for nearly every image.", soft_wrap=True)
    for failed in report["failed"]:
        console.print(f"Failed: {failed['arm']}, seed {failed['seed']}: {failed['error']}", soft_wrap=True)
    console.print(f"Comparison: {comparison.path}", soft_wrap=True)


def print_plan(planned: dict[str, Any]) -> None:
    """Print what a comparison would train."""
    console = _console()
    rows = tuple(
        (
            arm["arm"],
            f"{arm['cells']:,}",
            f"{1000 * arm['seconds_per_step']:,.1f} ms",
            _duration(arm["seconds_per_cell"]),
            _duration(arm["cells"] * arm["seconds_per_cell"]),
        )
        for arm in planned["arms"]
    )
    header = ("", "trainings", "a step", "a training", "all of them")
    console.print(TextTable("what would be trained, timed by some steps of each", header, rows).to_rich())
    jobs = f", {planned['jobs']} side by side" if planned["jobs"] > 1 else ""
    console.print(f"{planned['cells']} trainings{jobs}: about {_duration(planned['seconds'])}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def judged_json(judged: Judged, other: Judged | None) -> dict[str, Any]:
    """Return what ``evaluate --json`` prints."""
    content = {"name": judged.name, "notes": list(judged.notes), **judged.evaluation.to_dict()}
    if other is not None:
        difference, text = judged.against(other)
        content["baseline"] = {"name": other.name, "notes": list(other.notes), **other.evaluation.to_dict()}
        content["difference"] = {**dataclasses.asdict(difference), "verdict": text}
    return content


def print_judged(judged: Judged, other: Judged | None, *, markdown: bool) -> None:
    """Print an evaluation in full, or the tables of two and which one errs less."""
    verdict = () if other is None else (f"Verdict: {judged.against(other)[1]}",)
    shown = [judged] if other is None else [judged, other]
    if markdown:
        parts = [item.evaluation.to_markdown(name=item.name) for item in shown]
        print("\n\n".join((*verdict, *(f"Note: {note}" for note in _notes(shown)), *parts)))
        return
    console = _console()
    for item in shown:
        console.print(item.evaluation.to_rich(name=item.name))
    for note in _notes(shown):
        console.print(f"Note: {note}", soft_wrap=True, markup=False)
    for text in verdict:
        console.print(text, soft_wrap=True, style="bold", markup=False)


def _notes(shown: list[Judged]) -> list[str]:
    return list(dict.fromkeys(note for item in shown for note in item.notes))


def print_audit(content: dict[str, Any]) -> None:
    """Print an audit: counts, ages, constants, and what to do about each finding."""
    console = _console()
    samples, images, ages, constants = (content[key] for key in ("samples", "images", "ages", "baselines"))
    left_out = f", {samples['set_aside']:,} set aside" if samples["set_aside"] else ""
    console.print(f"{content['data']['source']}: layout {content['data']['layout']}", style="bold", soft_wrap=True)
    for note in content["data"]["notes"]:
        console.print(f"  {note}", soft_wrap=True, markup=False)
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row(
        "samples", f"{samples['usable']:,} of {samples['total']:,}, {samples['rejected']:,} rejected{left_out}"
    )
    more = f", … {images['different_sizes']:,} sizes" if images["different_sizes"] > 3 else ""
    facts.add_row(
        "images", f"{_tally(images['sizes'], 3)}{more}; {_tally(images['modes'])}; {_tally(images['formats'])}"
    )
    if ages["median"] is not None:
        facts.add_row("ages", f"{ages['youngest']:g} to {ages['oldest']:g}, median {ages['median']:g}")
    if people := content["subjects"]:
        facts.add_row("people", f"{people['people']:,}, {people['images_per_person']['median']:g} images each (median)")
    for name, values in content["groups"].items():
        facts.add_row(name, _tally(values))
    facts.add_row("split", ", ".join(f"{part} {count:,}" for part, count in content["split"]["parts"].items()))
    for key, name in (("duplicates", "identical"), ("near_duplicates", "near-identical")):
        found = content[key]
        facts.add_row(name, f"{found['groups']:,} groups, {found['conflicts']:,} of them with different ages")
    always = (
        f"always {constants['majority_bin']}: {share(constants['majority_bin_accuracy'])} of the bins right, "
        f"{share(constants['majority_bin_off_by_one_accuracy'])} off by one"
    )
    if constants["median_age"] is not None:
        always += f"; always {constants['median_age']:g}: MAE {number(constants['median_age_mae'])} years"
    facts.add_row("constants", always)
    console.print(facts)
    console.print(_histogram(ages))
    for finding in content["findings"]:
        style = "bold red" if finding["severity"] == "problem" else "bold yellow"
        console.print(f"{finding['severity']}: ", style=style, end="")
        console.print(f"{finding['text']} — {finding['advice']}", soft_wrap=True, markup=False)
    if clean := content.get("clean"):
        console.print(
            f"{clean['path']}: {clean['written']:,} samples; left out: {clean['rejected']:,} rejected, "
            f"{clean['copies']:,} copies, {clean['conflicts']:,} with conflicting ages",
            soft_wrap=True,
        )
    if "rejected" in content:
        console.print(f"Rejected: {content['rejected']}", soft_wrap=True)
    if "html" in content:
        console.print(f"Page: {content['html']}", soft_wrap=True)


def _histogram(ages: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("bin", no_wrap=True)
    for column in ("samples", "training"):
        table.add_column(column, justify="right")
    table.add_column("")
    largest = max(ages["histogram"].values()) or 1
    shown = list(ages["histogram"].items())
    for label, count in shown[:SHOWN_BINS]:
        table.add_row(label, f"{count:,}", f"{ages['training'][label]:,}", "█" * round(40 * count / largest))
    if len(shown) > SHOWN_BINS:
        table.add_row(f"… {len(shown) - SHOWN_BINS} more")
    return table


def _tally(counts: dict[str, int], most: int = 6) -> str:
    shown = ", ".join(f"{value or 'unknown'} {count:,}" for value, count in list(counts.items())[:most])
    return f"{shown}, …" if len(counts) > most else shown


def print_cache(content: dict[str, Any]) -> None:
    """Print a row an entry, and the size of all."""
    from .data.cache import size_text

    console = _console()
    entries = content["entries"]
    total = size_text(sum(entry["bytes"] for entry in entries))
    table = Table(box=box.SIMPLE_HEAD, title=f"{content['folder']}: {total}", title_justify="left")
    for column in ("name", "source", "images", "size", "last used"):
        table.add_column(column, justify="right" if column in ("images", "size") else "left", overflow="fold")
    for entry in entries:
        used = datetime.fromtimestamp(entry["used"]).strftime("%Y-%m-%d %H:%M")
        row = (entry["name"], entry["source"], f"{entry['images']:,}", size_text(entry["bytes"]), used)
        table.add_row(*row)
    console.print(table)


def loss_rows() -> list[dict[str, Any]]:
    """Return name, summary, source and options of every loss."""
    from ordage import losses  # with it comes torch, which no other table needs

    found = [(name, losses.get(name)) for name in losses.available()]
    return [
        {"name": name, "summary": loss.summary, "source": loss.source, "options": losses.own_options(name)}
        for name, loss in found
    ]


def print_losses(rows: list[dict[str, Any]]) -> None:
    """Print a line a loss."""
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        line = f"{row['name']:<{width}}  {row['summary'].rstrip('.')} [{row['source'].rstrip('.')}]"
        print(line + "".join(f" :{_as_typed(name, default)}" for name, default in row["options"].items()))


def _as_typed(name: str, default: Any) -> str:
    """Return an option as ``--loss`` takes it, with its default, if it has one that can be typed."""
    return name if default is None else f"{name}={str(default).lower() if isinstance(default, bool) else default}"


def _console() -> Console:
    # A table that is piped into a file must not be folded to the width of a terminal that is not there.
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def _counts(test: dict[str, Any]) -> str:
    subjects, units = (f" of {test['n_subjects']:,} people", "people") if test["n_subjects"] else ("", "images")
    return f"{test['n']:,} test images{subjects}, {100 * test['confidence']:g} % intervals over {units}"


def _print_diagnosis(console: Console, findings: list[dict[str, str]]) -> None:
    if not findings:
        console.print("Diagnosis: nothing stands out.")
    for finding in findings:
        console.print(f"Diagnosis: {finding['name']}. {finding['evidence']}", soft_wrap=True)
        console.print(f"  try {finding['advice']}", soft_wrap=True)


def _paper_line(rows: list[dict[str, Any]]) -> str:
    """One line on what each paper's own way of reading the model would have printed."""
    said = ", ".join(
        f"{loss} ({paper['decoder']}) {share(paper['bin_accuracy'])} / {number(paper['mae'])}"
        for loss, paper in ((row["arm"], row["paper"]) for row in rows)
    )
    return (
        "Every loss is read alike: accuracy by the mode, off by one and MAE by the median. "
        f"By each paper's own rule, accuracy / MAE: {said}."
    )
