"""Judging: a run's saved predictions, its model on other data, or answers that some other program gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ordage.eval import (
    Calibration,
    ConstantBaselines,
    Evaluation,
    OrdinalScale,
    PairedDifference,
    Predictions,
    decode,
    evaluate,
    paired_bootstrap,
    verdict,
)

from .config import DataConfig
from .data.layouts.table import Table, load, named_column
from .data.targets import named_bins
from .errors import DataError, UsageError
from .progress import Reporter
from .runs import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .data.manifest import Manifest

__all__ = ["AnswerColumns", "Judged", "judge", "judge_answers", "judge_data", "judge_run"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Judged:
    """Predictions and what they are worth.

    Attributes:
        name: what a table calls them.
        predictions: the answers with the truth.
        evaluation: the figures.
        notes: one line each on what a reader has to know beside the figures.
        manifest: the samples, where they were read to be judged.
        calibration: that the evaluation used.
    """

    name: str
    predictions: Predictions
    evaluation: Evaluation
    notes: tuple[str, ...] = ()
    manifest: Manifest | None = None
    calibration: Calibration | None = None

    def against(self, other: Judged) -> tuple[PairedDifference, str]:
        """Compare the errors with those of another model on the same samples.

        Returns:
            The difference, below zero where these are smaller, and a verdict in one sentence.

        Raises:
            DataError: the other one was judged on other samples or ages.
        """
        ours, theirs = self.predictions, other.predictions
        if not np.array_equal(ours.ids, theirs.ids) or not np.array_equal(ours.age, theirs.age, equal_nan=True):
            raise DataError(
                f"{self.name} and {other.name} were judged on different samples or ages, so that their errors cannot "
                "be paired; judge both on the same by --data"
            )
        known = ours.known_age
        if known.any():
            unit = ours.scale.unit
            mine, others = (np.abs(decode(said, "median").values - said.age)[known] for said in (ours, theirs))
        else:
            scale, unit, known = self.evaluation.scale, "bins", np.ones(len(ours), np.bool_)
            mine, others = (
                np.abs(decode(said, "median").classes - said.target).astype(np.float64)
                for said in (ours.on(scale), theirs.on(scale))
            )
        cluster = ours.clusters
        result = paired_bootstrap(mine, others, None if cluster is None else cluster[known])
        return result, verdict(result, self.name, other.name, unit=unit)


def judge(
    path: Path,
    options: Mapping[str, Any],
    *,
    true: str | None = None,
    pred: str | None = None,
    id_col: str | None = None,
    part: str = "test",
    coverage: float | None = None,
    interval_by: str | None = None,
    verbosity: int = 1,
) -> Judged:
    """Judge what lies at a path, a run or a table of answers: what ``ordage evaluate`` does.

    Args:
        path: directory of a run, or a table.
        options: fields of `DataConfig` by name; with ``data`` the run's model is judged on that.
        true: column of a table with the true ages.
        pred: column of a table with the predicted ages.
        id_col: column of a table with names of the rows.
        part: as in `judge_run`.
        coverage: as in `judge_run`.
        interval_by: as in `judge_run`.
        verbosity: 0 says nothing, 1 a few lines on stderr.

    Raises:
        OrdageError: options that mean nothing here, and what the functions below raise.
    """
    asked = DataConfig.parse(options)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected a run or a table of answers")
    if path.is_file():
        if true is None or pred is None:
            raise UsageError(f"{path}: is a table; name its columns by --true and --pred")
        _check_options(f"{path} is a table", options, ("bins", "subject_col", "group_col"))
        columns = AnswerColumns(true, pred, id_col, asked.subject_col, asked.group_col)
        return judge_answers(path, columns, bins=asked.bins)
    if (named := true or pred or id_col) is not None:
        raise UsageError(f"{path}: is no table, so there is no column {named!r}")
    run = Run(path)
    if "data" in options:
        return judge_data(run, asked, coverage=coverage, interval_by=interval_by, verbosity=verbosity)
    _check_options("no --data is given", options, ("bins",))
    return judge_run(run, part=part, bins=asked.bins, coverage=coverage, interval_by=interval_by)


def _check_options(why: str, options: Mapping[str, Any], meant: tuple[str, ...]) -> None:
    for name in options:
        if name not in meant:
            raise UsageError(f"--{name.replace('_', '-')}: means nothing here, because {why}")


def judge_run(
    run: Run,
    *,
    part: str = "test",
    bins: str | None = None,
    coverage: float | None = None,
    interval_by: str | None = None,
) -> Judged:
    """Judge a run's saved predictions, beside the constants of its training part.

    Args:
        run: a finished run.
        part: ``test`` or ``val``.
        bins: such as ``0-17,18+``, or as `named_bins` takes them; those of the run without.
        coverage: what the prediction intervals shall promise; 0.9 without.
        interval_by: column of groups that shall each have that promise for themselves.

    Raises:
        UsageError: no such part or column, or bins that do not fit the classes of the run.
    """
    if part not in ("val", "test"):
        raise UsageError(f"--part {part}: expected test or val")
    predictions = run.predictions(part)
    scale = _scale(bins, predictions.scale, OrdinalScale.from_dict(run.report[part]["scale"]))
    calibration = _calibration(run, coverage, interval_by) if part == "test" else None
    evaluation = _evaluated(run, predictions, scale, bins, calibration)
    return Judged(_name(run), predictions, evaluation, calibration=calibration)


def judge_data(
    run: Run,
    config: DataConfig | Mapping[str, Any],
    *,
    coverage: float | None = None,
    interval_by: str | None = None,
    verbosity: int = 1,
) -> Judged:
    """Judge a run's model on another data set: on the test part that it brings, else on all of it.

    Images that the model was trained or validated on are left out, whatever they are called here. Where only intervals
    of age are known, these are the bins.

    Args:
        run: a finished run.
        config: where the data lies and how it is read, as in `fit`.
        coverage: as in `judge_run`.
        interval_by: as in `judge_run`.
        verbosity: 0 says nothing, 1 a few lines on stderr.

    Raises:
        DataError: no sample is left.
        UsageError: bins or columns that do not fit.
    """
    asked = config if isinstance(config, DataConfig) else DataConfig.parse(config)
    from .data.layouts import read

    reporter = Reporter(verbosity)
    manifest = read(asked)
    from .prediction import predict_data  # here, because torch takes seconds, and a wrong path is told before

    said = predict_data(run, manifest, asked, reporter)
    predictions = said.predictions
    if said.bins is None:
        scale = _scale(asked.bins, predictions.scale, OrdinalScale.from_dict(run.report["test"]["scale"]))
        calibration = _calibration(run, coverage, interval_by)
    else:
        scale, calibration = said.bins, None  # a calibration is of the model's own classes
    notes = (*said.notes, *_outside(run, predictions))
    return Judged(
        _name(run), predictions, _evaluated(run, predictions, scale, asked.bins, calibration), notes, manifest
    )


@dataclass(frozen=True)
class AnswerColumns:
    """Columns of a table of answers.

    Attributes:
        true: the true age.
        pred: the predicted one.
        id: a name for each row; the row's place without.
        subject: whose image each is.
        groups: columns to break the figures down by.
    """

    true: str
    pred: str
    id: str | None = None
    subject: str | None = None
    groups: tuple[str, ...] = field(default=())


def judge_answers(path: Path, columns: AnswerColumns, *, bins: str | None = None) -> Judged:
    """Judge the answers in a table, of whatever program, beside constants of the same samples.

    Args:
        path: CSV, TSV or parquet.
        columns: which columns hold what.
        bins: as in `judge_run`; tens as far as the ages go without.

    Raises:
        DataError: the table cannot be read, or a cell of it is no number.
        UsageError: a column is not there, or the bins cannot be read.
    """
    table = load(path)
    table.rejected.check(len(table.frame) + len(table.rejected), allowed=False, source=str(path))
    true, pred = _numbers(table, columns.true, "--true"), _numbers(table, columns.pred, "--pred")
    youngest, oldest = int(true.min()), int(true.max())
    spec = bins or (OrdinalScale.tens(oldest).spec if oldest > 10 else "years")

    def texts(name: str | None, flag: str) -> Array | None:
        return None if name is None else table.frame[named_column(table, name, flag)].to_numpy(np.str_)

    try:
        scale = named_bins(spec, youngest, oldest)
        predictions = Predictions.from_points(
            pred,
            scale,
            age=true,
            ids=texts(columns.id, "--id-col"),
            subject=texts(columns.subject, "--subject-col"),
            groups={name: texts(name, "--group-col") for name in columns.groups},
        )
        # Of these samples it is not known how many training images share their ages.
        constants = replace(ConstantBaselines.fit(scale, age=true), ages=(), counts=())
        evaluation = evaluate(predictions, baselines=constants)
    except ValueError as error:
        raise UsageError(f"--bins {spec}: {error}") from None
    note = "the constants are the best for these very samples, since the ages that were trained on are not known"
    return Judged(path.stem, predictions, evaluation, (note,))


def _numbers(table: Table, name: str, flag: str) -> NDArray[np.float64]:
    column = table.frame[named_column(table, name, flag)].str.strip().str.replace(",", ".", regex=False)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.argmin(np.isfinite(numbers)))
        raise DataError(f"{table.file} {table.where[row]}: {name} is {column.iat[row]!r}, expected a number")
    return numbers


def _name(run: Run) -> str:
    return str(run.report["loss"])


def _scale(bins: str | None, classes: OrdinalScale, usual: OrdinalScale) -> OrdinalScale:
    if bins is None:
        return usual
    try:
        return named_bins(bins, int(classes.lows[0]), int(classes.lows[-1]))
    except ValueError as error:
        raise UsageError(f"--bins {bins}: {error}") from None


def _evaluated(
    run: Run, predictions: Predictions, scale: OrdinalScale, bins: str | None, calibration: Calibration | None
) -> Evaluation:
    labels = run.report["data"]["train_labels"]
    try:
        if "ages" in labels:
            constants = ConstantBaselines.fit(scale, age=np.repeat(labels["ages"], labels["counts"]))
        else:
            classes = np.repeat(labels["classes"], labels["counts"]).astype(np.int64)
            own = run.predictions("val").scale
            constants = ConstantBaselines.fit(scale, target=own.mapping_to(scale)[classes])
        return evaluate(predictions, bins=scale, baselines=constants, calibration=calibration)
    except ValueError as error:
        raise UsageError(f"--bins {bins or scale.spec}: {error}") from None


def _calibration(run: Run, coverage: float | None, by: str | None) -> Calibration | None:
    """Return what was stored with the model, or another one of the same validation part where that is asked for."""
    if coverage is None and by is None:
        return run.calibration
    try:
        return Calibration.fit(run.predictions("val"), coverage=0.9 if coverage is None else coverage, by=by)
    except ValueError as error:
        flag = "--coverage" if by is None or "coverage" in str(error) else "--interval-by"
        raise UsageError(f"{flag}: {error}") from None


def _outside(run: Run, predictions: Predictions) -> list[str]:
    """Say how many of the samples are older or younger than all that the model was trained on."""
    ages = run.report["data"]["train_labels"].get("ages")
    known = predictions.age[predictions.known_age]
    if not ages or not len(known):
        return []
    outside = int(((known < min(ages)) | (known > max(ages))).sum())
    if not outside:
        return []
    trained = f"{min(ages):g} to {max(ages):g}"
    return [f"{outside:,} of {len(known):,} ages lie outside of the {trained} years that were trained on"]
