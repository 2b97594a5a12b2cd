"""`compare`: the same protocol over losses and seeds, and what the differences are worth."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ordage.eval import OrdinalScale, bootstrap_means, holm, metrics, paired_bootstrap, verdict, wilcoxon_over_seeds

from . import processes
from .config import CompareConfig, read_yaml
from .data.layouts import read
from .errors import DataError, Interrupted, OrdageError, UsageError
from .progress import Reporter
from .runs import REPORT, Run, describe_environment, write_config, write_json
from .workspace import agree, choose_directory, claim_directory, file_name, merge_options

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Comparison", "compare"]

REFERENCE = "softmax"
HEADLINE = ("bin_accuracy", "off_by_one_accuracy", "mae")


@dataclass(frozen=True)
class Cell:
    """One loss with one seed."""

    loss: str
    seed: int
    run: Run


class Comparison:
    """A directory of cells and what follows from them.

    Attributes:
        path: the directory.
        config: its options.
        cells: every loss with every seed, done or not.
    """

    def __init__(self, path: str | os.PathLike[str], config: CompareConfig | None = None) -> None:
        """Open a comparison by its directory."""
        self.path = Path(path)
        self.config = config or CompareConfig.parse(read_yaml(self.path / "config.yaml"))
        # Seed by seed, so that an interrupted comparison has whole rounds rather than one loss with all its seeds.
        self.cells = [
            Cell(loss, seed, Run(self.path / "cells" / f"{file_name(loss)}-seed{seed}"))
            for seed in self.config.seeds
            for loss in self.config.losses
        ]

    def __repr__(self) -> str:
        """Return a short description."""
        return f"Comparison({str(self.path)!r})"

    @property
    def report(self) -> dict[str, Any]:
        """What ``report.json`` says."""
        file = self.path / REPORT
        if not file.exists():
            raise DataError(f"{self.path}: no {REPORT}; is it a finished comparison?")
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return content


def compare(
    config: CompareConfig | Mapping[str, Any] | None = None,
    /,
    *,
    out: str | os.PathLike[str] = "runs",
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    verbosity: int = 1,
    **options: Any,
) -> Comparison:
    """Train every loss with every seed under one protocol and compare them: what ``ordage compare`` does.

    A cell that is done is never run again. A cell that fails is reported, and the others go on.

    Args:
        config: options as an object or a mapping; keyword ``options`` win over it.
        out: folder of all runs.
        name: directory under ``out``; made from date, model and losses without one.
        resume: go on with the comparison of that name, else with the newest one that agrees with the options.
        overwrite: delete a comparison of that name first.
        verbosity: 0 says nothing, 1 a line a cell on stderr, 2 a line an epoch.
        **options: any field of `CompareConfig`, such as ``losses=("coral", "softmax"), seeds=(0, 1)``.

    Raises:
        OrdageError: as `fit` does; of the first failure's kind when every cell failed.
    """
    if processes.count() > 1:
        raise UsageError("compare runs in one process; several can train one model in fit")
    reporter = Reporter(verbosity)
    given = merge_options(config, options)
    asked = CompareConfig.parse(given)
    path, goes_on = choose_directory(Path(out), name, given, asked, resume=resume, overwrite=overwrite)
    if path is not None and goes_on:
        asked = agree(Comparison(path).config, asked, given)
        earlier = Comparison(path)
        if (path / REPORT).exists() and not earlier.report["failed"]:
            reporter.note(f"{path}: already finished")
            return earlier
    manifest = read(asked)
    from .cell import prepare_run, run_cell  # here, because torch takes seconds, and a wrong path is told before
    from .devices import make_accelerator

    prepared, resolved = prepare_run(asked, manifest, asked.losses, reporter)
    named = asked.losses if len(asked.losses) <= 4 else (f"{len(asked.losses)}_losses",)
    what = "_".join((prepared.plan.model, *named))
    path = claim_directory(Path(out), path, what, overwrite=overwrite)
    prepared.dataset.write_splits(path / "splits.csv")
    write_config(path, resolved.to_dict())
    write_json(path / "environment.json", describe_environment(make_accelerator(resolved).device))
    comparison = Comparison(path, resolved)

    failures: dict[tuple[str, int], Exception] = {}
    for number, cell in enumerate(comparison.cells, start=1):
        prefix = f"[{number}/{len(comparison.cells)}] {cell.loss}, seed {cell.seed}: "
        if cell.run.finished:
            reporter.note(f"{prefix}done before")
            continue
        try:
            run_cell(resolved.cell(cell.loss, cell.seed), prepared, cell.run, Reporter(verbosity, prefix))
        except Interrupted as stop:
            raise Interrupted(f"{prefix}{stop}") from None
        except Exception as error:  # be it memory or a defect of somebody's loss: the other cells are none the worse
            failures[cell.loss, cell.seed] = error
            reporter.note(f"{prefix}failed: {_reason(error)}")
            continue
        test = cell.run.report["test"]["test"]
        reporter.note(
            f"{prefix}bins {test['bin_accuracy']:.1%}, off-by-one {test['off_by_one_accuracy']:.1%}, "
            f"MAE {test['mae']:.2f}, {cell.run.report['training']['seconds']:.0f} s"
        )
    done = [cell for cell in comparison.cells if cell.run.finished]
    if not done:
        first = next(iter(failures.values()))
        kind = type(first) if isinstance(first, OrdageError) else OrdageError
        raise kind(f"{path}: every cell failed, the first: {_reason(first)}")
    report = summarise(resolved, done, failures)
    _write_summary(path / "summary.csv", report)
    write_json(path / REPORT, report)
    return comparison


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, OrdageError) else f"{type(error).__name__}: {text[:300]}"


def summarise(
    config: CompareConfig, cells: list[Cell], failures: Mapping[tuple[str, int], Exception]
) -> dict[str, Any]:
    """Bring the finished cells together: a row a loss, and a verdict for each loss against the reference.

    Returns:
        JSON-ready: ``results`` (one entry a cell), ``losses`` (means over seeds), ``pairs``, ``verdicts``,
        ``baselines``, ``failed``, ``protocol``.
    """
    reports = {(cell.loss, cell.seed): cell.run.report for cell in cells}
    first = next(iter(reports.values()))
    losses = [loss for loss in config.losses if any(cell.loss == loss for cell in cells)]
    scores = {loss: {cell.seed: _scores(cell) for cell in cells if cell.loss == loss} for loss in losses}
    unit = first["test"]["error_unit"]
    cluster = _clusters(cells)
    pairs = _compare_pairs(losses, scores, cluster, unit)
    return {
        "results": [
            {"loss": loss, "seed": seed, "test": report["test"]["test"]} for (loss, seed), report in reports.items()
        ],
        "losses": [
            _loss_row(loss, [report for (name, _), report in reports.items() if name == loss], scores[loss], cluster)
            for loss in losses
        ],
        "pairs": pairs,
        "verdicts": [pair["verdict"] for pair in pairs],
        "baselines": first["test"]["baselines"],
        "failed": [
            {"loss": loss, "seed": seed, "error": _reason(error), "exit_code": getattr(error, "exit_code", 1)}
            for (loss, seed), error in failures.items()
        ],
        "data": first["data"],
        "test": {key: first["test"][key] for key in ("n", "n_subjects", "confidence")},
        "error_unit": unit,
        "protocol": config.to_dict(),
    }


def _loss_row(
    loss: str, reports: list[dict[str, Any]], scores: Mapping[int, Mapping[str, Any]], cluster: Any
) -> dict[str, Any]:
    """Average the seeds of one loss: figures, their interval over test images, and the spread between seeds."""
    tests = [report["test"] for report in reports]
    means = {name: np.mean([seed[name] for seed in scores.values()], axis=0) for name in HEADLINE}
    intervals = bootstrap_means(means, cluster=cluster)
    figures = {}
    for name in HEADLINE:
        heads = [test["headline"][name] for test in tests]
        values = [head["value"] for head in heads]
        figures[name] = {
            **dataclasses.asdict(intervals[name]),
            "decoder": heads[0]["decoder"],
            "unit": heads[0]["unit"],
            "seed_std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        }
    paper = [test["decoders"]["paper"] for test in tests]
    return {
        "loss": loss,
        "seeds": [report["seed"] for report in reports],
        **figures,
        "paper": {
            "decoder": paper[0]["decoder"],
            **{name: float(np.mean([row[name] for row in paper])) for name in HEADLINE},
        },
        "collapsed": any(test["rest"]["collapsed"] for test in tests),
        "seconds": float(np.mean([report["training"]["seconds"] for report in reports])),
        "images_per_second": float(np.mean([report["training"]["images_per_second"] for report in reports])),
        "parameters": reports[0]["training"]["parameters"],
    }


def _scores(cell: Cell) -> dict[str, NDArray[np.float64]]:
    """Return what each test image adds to the headline figures, by the decoders that all losses share.

    An error is NaN where the others know an age and this image has none.
    """
    predictions = cell.run.predictions("test")
    judged = predictions.on(OrdinalScale.from_dict(cell.run.report["test"]["scale"]))
    off_by = np.abs(metrics.decode(judged, "median").classes - judged.target).astype(np.float64)
    known = predictions.known_age
    errors = np.abs(predictions.age - metrics.decode(predictions, "median").values)
    return {
        "bin_accuracy": (metrics.decode(judged, "mode").classes == judged.target).astype(np.float64),
        "off_by_one_accuracy": (off_by <= 1).astype(np.float64),
        "mae": np.where(known, errors, np.nan) if known.any() else off_by,
    }


def _clusters(cells: list[Cell]) -> Any:
    """Return who each test image shows, once every cell has been found to have the same test images."""
    first, *others = [cell.run.predictions("test") for cell in cells]
    for cell, other in zip(cells[1:], others, strict=True):
        if not np.array_equal(first.ids, other.ids):
            raise DataError(f"{cell.run.path}: its test images are not those of {cells[0].run.path}; start again")
    return first.clusters


def _compare_pairs(
    losses: list[str], scores: Mapping[str, Mapping[int, Mapping[str, Any]]], cluster: Any, unit: str
) -> list[dict[str, Any]]:
    """Test each loss against the reference, or all pairs where there is no reference, Holm-corrected."""
    if REFERENCE in losses:
        names = [(a, REFERENCE) for a in losses if a != REFERENCE]
    else:
        names = [(a, b) for index, a in enumerate(losses) for b in losses[index + 1 :]]
    tests = []
    for a, b in names:
        seeds = sorted(scores[a].keys() & scores[b].keys())  # a seed counts where both have finished it
        if seeds:
            errors = [np.stack([scores[loss][seed]["mae"] for seed in seeds]) for loss in (a, b)]
            known = np.isfinite(errors[0]).all(axis=0)
            errors = [each[:, known] for each in errors]
            test = paired_bootstrap(errors[0], errors[1], cluster if cluster is None else cluster[known])
            tests.append((a, b, test, errors))
    corrected = holm([test.p_value for _, _, test, _ in tests]).tolist() if tests else []
    pairs = []
    for (a, b, test, errors), p_value in zip(tests, corrected, strict=True):
        over_seeds = wilcoxon_over_seeds(*[each.mean(axis=1) for each in errors]) if test.seeds > 1 else None
        pairs.append(
            {
                "a": a,
                "b": b,
                **dataclasses.asdict(test),
                "p_holm": float(p_value),
                "over_seeds": dataclasses.asdict(over_seeds) if over_seeds else None,
                "verdict": verdict(test, a, b, unit=unit, p_value=float(p_value) if len(tests) > 1 else None),
            }
        )
    return pairs


def _write_summary(path: Path, report: Mapping[str, Any]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["loss", "seed", "n", "bin_accuracy", "off_by_one_accuracy", "mae"])
        for row in report["results"]:
            test = row["test"]
            writer.writerow(
                [row["loss"], row["seed"], test["n"], test["bin_accuracy"], test["off_by_one_accuracy"], test["mae"]]
            )
