"""What a report holds: of a run, of a comparison, of an evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ordage.eval import figures
from ordage.eval.ranking import Ranking
from ordage.eval.tables import TextTable

from ..drawing import Drawing, joint_drawings
from ..judging import Judged, judge_run
from ..next_steps import NextStep, next_steps
from ..result_tables import cost_table, headline_table, pairs_table, paper_table, tuning_table, with_effort
from ..runs import Run

if TYPE_CHECKING:
    from ..comparison import Cell

__all__ = ["Content", "Shown", "comparison_content", "judged_content", "run_content"]


@dataclass(frozen=True)
class Shown:
    """A model in a report.

    Attributes:
        judged: its predictions and figures.
        run: where it was trained; None for answers of another program.
    """

    judged: Judged
    run: Run | None = None

    @property
    def name(self) -> str:
        """What the report calls it."""
        return self.judged.name


@dataclass(frozen=True)
class Content:
    """All that a report says.

    Attributes:
        title: of the whole.
        subtitle: under it.
        verdicts: sentences that come first.
        headline: the three figures of each model, and the constants.
        tables: further ones, on all models together.
        warnings: sentences on what is wrong.
        models: whose figures and images are shown.
        curves: rows of ``metrics.csv`` of each seed of each model.
        ranking: of the models over folds.
        steps: what to try next.
        cost: of training.
        options: that all of it was made with.
        environment: in which.
        data: what a run's report says of the data.
    """

    title: str
    subtitle: str
    verdicts: Sequence[str]
    headline: TextTable
    tables: Sequence[TextTable] = ()
    warnings: Sequence[str] = ()
    models: Sequence[Shown] = ()
    curves: Mapping[str, Sequence[Sequence[Mapping[str, str]]]] = field(default_factory=dict)
    ranking: Ranking | None = None
    steps: Sequence[NextStep] = ()
    cost: TextTable | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def drawings(self) -> list[Drawing]:
        """The figures that hold all models at once."""
        from .charts import training_figure

        found = joint_drawings([model.judged for model in self.models])
        if (ranking := self.ranking) is not None:
            title = "Mean ranks over the folds"
            found.append(Drawing("ranks", title, lambda: figures.critical_difference_figure(ranking)))
        if self.curves:
            unit = self.models[0].judged.evaluation.error_unit
            found.append(Drawing("training", "Training", lambda: training_figure(self.curves, unit)))
        return found

    def to_markdown(self) -> str:
        """The sentences and tables as Markdown."""
        steps = [f"- {step.what} ({step.why}): `{step.command}`" for step in self.steps]
        parts = [
            f"# {self.title}",
            self.subtitle,
            *(f"**{sentence}**" for sentence in self.verdicts),
            *self.warnings,
            self.headline.to_markdown(),
            *(table.to_markdown() for table in self.tables),
            *(["## What to try next", "\n".join(steps)] if steps else []),
        ]
        return "\n\n".join(parts) + "\n"


def run_content(run: Run) -> Content:
    """Return what is told of a finished run."""
    report = run.report
    judged = judge_run(run)
    test = report["test"]
    return Content(
        title=f"{report['loss']} on {_source(report)}",
        subtitle=f"{report['model']}, seed {report['seed']}",
        verdicts=[_said_of(judged)],
        headline=headline_table([(judged.name, test["headline"], None)], test["baselines"], test["error_unit"]),
        warnings=_warnings([judged]),
        models=[Shown(judged, run)],
        curves={judged.name: [run.metrics]},
        steps=next_steps("fit", run.asked, report["diagnosis"]),
        cost=cost_table([{"arm": judged.name, **report["training"]}]),
        options=run.config.to_dict(),
        environment=environment_of(run.path),
        data=report["data"],
    )


def comparison_content(
    report: Mapping[str, Any],
    cells: Sequence[Cell],
    *,
    given: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> Content:
    """Return what is told of a comparison; figures and images are those of the first seed and fold.

    Args:
        report: as `summarise` makes it, with ``failed``, ``tuning`` and ``protocol``.
        cells: the finished ones.
        given: options of ``compare`` that made it; None where no such command did.
        environment: in which.
    """
    first: dict[str, Cell] = {}
    curves: dict[str, list[Any]] = {}
    for cell in cells:
        shown = first.setdefault(cell.arm.name, cell)
        if cell.fold == shown.fold:
            curves.setdefault(cell.arm.name, []).append(cell.run.metrics)
    models = [Shown(replace(judge_run(cell.run), name=name), cell.run) for name, cell in first.items()]
    best = min(first.values(), key=lambda cell: float(cell.run.report["val"]["headline"]["mae"]["value"]))
    rows = [(row["arm"], row, row["seeds"]) for row in report["losses"]]
    tables = (
        pairs_table(f"MAE ({report['error_unit']})", report["pairs"]),
        paper_table(report["losses"], report["error_unit"]),
        *(
            pairs_table(f"{pairs[0]['measure']} ({pairs[0]['unit']})", pairs)
            for pairs in report["measures"].values()
            if pairs
        ),
        None
        if report["all_pairs"] == report["pairs"]
        else pairs_table(f"MAE ({report['error_unit']}), every pair", report["all_pairs"]),
        tuning_table(report["tuning"], report["error_unit"]),
    )
    return Content(
        title=f"{', '.join(first)} on {_source(report)}",
        subtitle=_counted(report, best),
        verdicts=[with_effort(pair) for pair in report["pairs"]] or [_said_of(model.judged) for model in models],
        headline=headline_table(rows, report["baselines"], report["error_unit"], first=""),
        tables=[table for table in tables if table is not None],
        warnings=[
            *(f"{row['arm']} predicts one bin for nearly every image." for row in report["losses"] if row["collapsed"]),
            *(f"{each['arm']}, seed {each['seed']} failed: {each['error']}" for each in report["failed"]),
        ],
        models=models,
        curves=curves,
        ranking=None if report["ranking"] is None else Ranking(**_tuples(report["ranking"])),
        steps=[] if given is None else next_steps("compare", given, best.run.report["diagnosis"]),
        cost=cost_table(report["losses"]),
        options=report["protocol"],
        environment=environment or {},
        data=report["data"],
    )


def judged_content(judged: Judged, other: Judged | None, run: Run | None) -> Content:
    """Return what is told of an evaluation.

    Args:
        judged: what was judged.
        other: what it was held against.
        run: where ``judged`` was trained, if it was.
    """
    models = [judged] if other is None else [judged, other]
    evaluation = judged.evaluation
    rows = [(model.name, model.evaluation.to_dict()["headline"], None) for model in models]
    return Content(
        title=judged.name if other is None else f"{judged.name} beside {other.name}",
        subtitle=f"{evaluation.n:,} images{'' if judged.manifest is None else f' of {judged.manifest.source}'}",
        verdicts=[judged.against(other)[1]] if other is not None else [_said_of(judged)],
        headline=headline_table(rows, evaluation.to_dict()["baselines"], evaluation.error_unit, first=""),
        warnings=[*judged.notes, *_warnings(models)],
        models=[Shown(judged, run), *([] if other is None else [Shown(other)])],
        options={} if run is None else run.config.to_dict(),
        environment={} if run is None else environment_of(run.path),
        data={} if run is None or judged.manifest is not None else run.report["data"],
    )


def environment_of(folder: Path) -> dict[str, Any]:
    """Return what a run or a comparison wrote of its machine."""
    file = folder / "environment.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return content


def _counted(report: Mapping[str, Any], shown: Cell) -> str:
    seeds, folds = max(len(row["seeds"]) for row in report["losses"]), report["test"]["folds"]
    counts = f"{report['test']['n']:,} test images, {seeds} seed{'s' if seeds > 1 else ''}"
    counts += f", {folds} folds" if folds > 1 else ""
    of = f"seed {shown.seed}" + ("" if shown.fold is None else f", fold {shown.fold}")
    return counts if seeds == folds == 1 else f"{counts}; the figures and images are those of {of}"


def _said_of(judged: Judged) -> str:
    evaluation = judged.evaluation
    mae, constants = evaluation.headline.mae, evaluation.baselines
    by = "median_age_mae" if evaluation.error_unit != "bins" else "median_bin_mae"
    constant = float(constants[by]) if constants else math.nan
    beside = "" if math.isnan(constant) else f", {constant:.2f} by always answering the same"
    accuracy, near = (
        100 * float(figure.value)
        for figure in (evaluation.headline.bin_accuracy, evaluation.headline.off_by_one_accuracy)
    )
    return (
        f"{accuracy:.1f} % of the images in the right bin, {near:.1f} % at most one off, "
        f"mean absolute error {mae.value:.2f} {evaluation.error_unit}{beside}."
    )


def _warnings(models: Sequence[Judged]) -> list[str]:
    return [
        f"{model.name} predicts one bin for nearly every image."
        for model in models
        if model.evaluation.rest["collapsed"]
    ]


def _source(report: Mapping[str, Any]) -> str:
    return Path(str(report["data"]["source"])).name or str(report["data"]["source"])


def _tuples(ranking: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **ranking,
        "names": tuple(ranking["names"]),
        "mean_ranks": tuple(ranking["mean_ranks"]),
        "groups": tuple(tuple(group) for group in ranking["groups"]),
    }
