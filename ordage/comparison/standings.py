"""What finished cells say together: a row an arm, tests of every difference, a ranking, and what they cost."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ordage.eval import (
    OrdinalScale,
    Predictions,
    answers,
    bootstrap_means,
    effort_to_see,
    holm,
    paired_bootstrap,
    rank_methods,
    verdict,
    wilcoxon_over_seeds,
)
from ordage.eval.ranking import FEWEST
from ordage.eval.tables import HEADLINE

from ..errors import DataError, OrdageError
from ..files import write_whole
from .design import Arm, Cell

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["reason_of", "summarise", "write_summary"]


@dataclass(frozen=True)
class Measure:
    """A figure that arms are compared by.

    Attributes:
        name: its key in the scores.
        title: what sentences call it.
        factor: from the scores to what is written.
        decimals: that are written.
    """

    name: str
    title: str
    factor: float = 1.0
    decimals: int = 2


# The first one decides; the others tell whether it depends on what is measured, and how the answer is read.
MEASURES = (
    Measure("mae", "MAE"),
    Measure("bin_accuracy", "bin accuracy", 100, 1),
    Measure("off_by_one_accuracy", "off-by-one accuracy", 100, 1),
    Measure("paper_mae", "MAE by each paper's own rule"),
    Measure("paper_bin_accuracy", "bin accuracy by each paper's own rule", 100, 1),
)


def reason_of(error: Exception) -> str:
    """Return what went wrong in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, OrdageError) else f"{type(error).__name__}: {text[:300]}"


def summarise(arms: Iterable[Arm], cells: Sequence[Cell]) -> dict[str, Any]:
    """Bring finished cells together.

    Args:
        arms: in the order in which they are shown.
        cells: finished ones, of any of the arms.

    Returns:
        JSON-ready: ``results`` (an entry a cell), ``losses`` (a row an arm: means over seeds), ``pairs`` (each arm
        against the one that it is held against, by the MAE), ``verdicts``, ``measures`` (the same by other figures),
        ``all_pairs``, ``ranking``, ``baselines``, ``data``, ``test`` and ``error_unit``.

    Raises:
        DataError: cells that were not tested on the same images.
    """
    scored = [_Scored(cell) for cell in cells]
    _check(scored)
    boards = {}
    for arm in arms:
        own = [each for each in scored if each.cell.arm.name == arm.name]
        if own:
            boards[arm.name] = _Board(arm, own)
    first = next(iter(boards.values())).scored[0].report
    unit = first["test"]["error_unit"]
    held = [(arm.name, arm.against) for arm in arms if arm.name in boards and arm.against in boards]
    everyone = list(combinations(boards, 2))
    named = held or everyone
    measures = {measure.name: _compare(named, boards, measure, unit) for measure in MEASURES}
    pairs = measures.pop("mae")
    return {
        "results": [each.result for each in scored],
        "losses": [_row(board) for board in boards.values()],
        "pairs": pairs,
        "verdicts": [pair["verdict"] for pair in pairs],
        "measures": measures,
        "all_pairs": pairs if named == everyone else _compare(everyone, boards, MEASURES[0], unit),
        "ranking": _rank(boards),
        "baselines": first["test"]["baselines"],
        "data": first["data"],
        "test": {
            "n": sum(each.report["test"]["n"] for each in _one_seed(scored)),
            "n_subjects": _people(_one_seed(scored)),
            "confidence": first["test"]["confidence"],
            "folds": len({each.cell.fold for each in scored}),
        },
        "error_unit": unit,
    }


def write_summary(path: Path, report: Mapping[str, Any]) -> None:
    """Write a row a cell as CSV."""
    file = io.StringIO()
    columns = ("arm", "loss", "model", "seed", "fold", "lr")
    writer = csv.writer(file)
    writer.writerow([*columns, "n", *HEADLINE])
    for row in report["results"]:
        figures = [row["test"][name] for name in ("n", *HEADLINE)]
        writer.writerow([*(row[name] for name in columns), *figures])
    write_whole(path, file.getvalue())


class _Scored:
    """A finished cell with what each test image adds to its figures."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.report = cell.run.report
        self.predictions = cell.run.predictions("test")

    @property
    def result(self) -> dict[str, Any]:
        """Its row in the summary."""
        config = self.cell.config
        return {
            "arm": self.cell.arm.name,
            **{name: getattr(config, name) for name in ("loss", "model", "seed", "fold")},
            "lr": self.cell.run.config.lr,  # the one that was found, where it was to be found
            "test": self.report["test"]["test"],
            "cell": self.cell.run.path.name,
        }

    @cached_property
    def scores(self) -> dict[str, NDArray[np.float64]]:
        """Errors and hits ``(N,)``; an error is NaN where other images have an age and this one has none."""
        bins = OrdinalScale.from_dict(self.report["test"]["scale"])
        said = self.predictions
        target = said.on(bins).target
        mode, median = (answers(said, how, bins=bins) for how in ("mode", "median"))
        paper = answers(said, said.meta["paper_decoder"], bins=bins, paper=True)
        return {
            "mae": _errors(said, target, median),
            "bin_accuracy": (mode.classes == target).astype(np.float64),
            "off_by_one_accuracy": (np.abs(median.classes - target) <= 1).astype(np.float64),
            "paper_mae": _errors(said, target, paper),
            "paper_bin_accuracy": (paper.classes == target).astype(np.float64),
            "paper_off_by_one_accuracy": (np.abs(paper.classes - target) <= 1).astype(np.float64),
        }


def _errors(said: Predictions, target: NDArray[np.int64], answer: Any) -> NDArray[np.float64]:
    if said.known_age.any():
        return np.asarray(np.abs(said.age - answer.values))
    return np.asarray(np.abs(answer.values - target))  # values are positions of bins then


class _Board:
    """The finished cells of an arm."""

    def __init__(self, arm: Arm, scored: list[_Scored]) -> None:
        self.arm, self.scored = arm, scored
        self._by_place = {(each.cell.seed, each.cell.fold): each for each in scored}

    @property
    def places(self) -> set[tuple[int, int | None]]:
        """Seeds and folds that are done."""
        return set(self._by_place)

    def stacked(self, name: str, seeds: Sequence[int], folds: Sequence[int | None]) -> NDArray[np.float64]:
        """Return scores ``(S, N)``: a row a seed, the images of all folds one after another."""
        rows = [np.concatenate([self._by_place[seed, fold].scores[name] for fold in folds]) for seed in seeds]
        return np.stack(rows)

    def clusters(self, seed: int, folds: Sequence[int | None]) -> NDArray[Any] | None:
        """Return who each of these images shows, where that is known."""
        said = [self._by_place[seed, fold].predictions for fold in folds]
        subjects = [each.subject for each in said if each.subject is not None]
        # By their names: numbers begin anew in each fold.
        return np.unique(np.concatenate(subjects), return_inverse=True)[1] if len(subjects) == len(said) else None


def _check(scored: Sequence[_Scored]) -> None:
    first: dict[int | None, _Scored] = {}
    for each in scored:
        other = first.setdefault(each.cell.fold, each)
        said, others = each.predictions, other.predictions
        if not np.array_equal(said.ids, others.ids) or not np.array_equal(said.age, others.age, equal_nan=True):
            raise DataError(
                f"{each.cell.run.path}: its test images or their ages are not those of {other.cell.run.path}, so that "
                "errors cannot be paired; train both on one split"
            )
        bins, other_bins = (OrdinalScale.from_dict(one.report["test"]["scale"]).spec for one in (each, other))
        if bins != other_bins:
            raise DataError(
                f"{each.cell.run.path}: was judged on the bins {bins}, {other.cell.run.path} on {other_bins}"
            )


def _one_seed(scored: Sequence[_Scored]) -> list[_Scored]:
    """Return one cell of each fold."""
    return list({each.cell.fold: each for each in scored}.values())


def _people(scored: Sequence[_Scored]) -> int | None:
    """Return how many people these cells were tested on, where that is known."""
    subjects = [each.predictions.subject for each in scored]
    known = [each for each in subjects if each is not None]
    return len(np.unique(np.concatenate(known))) if len(known) == len(subjects) else None


def _rounds(places: set[tuple[int, int | None]]) -> tuple[list[int], list[int | None]]:
    """Return seeds and folds of which every combination is done: the folds of the seed that has most of them."""
    by_seed: dict[int, set[int | None]] = {}
    for seed, fold in places:
        by_seed.setdefault(seed, set()).add(fold)
    most = max(by_seed.values(), key=len)
    seeds = sorted(seed for seed, folds in by_seed.items() if folds >= most)
    return seeds, sorted(most, key=lambda fold: -1 if fold is None else fold)


def _row(board: _Board) -> dict[str, Any]:
    """Average an arm's seeds: figures, their intervals over test images, and the spread between seeds."""
    reports = [each.report for each in board.scored]
    seeds, folds = _rounds(board.places)
    stacked = {name: board.stacked(name, seeds, folds) for name in HEADLINE}
    means = {name: values.mean(axis=0) for name, values in stacked.items()}
    intervals = bootstrap_means(means, cluster=board.clusters(seeds[0], folds))
    figures = {}
    for name in HEADLINE:
        head = reports[0]["test"]["headline"][name]
        by_seed = np.nanmean(stacked[name], axis=1)
        figures[name] = {
            **dataclasses.asdict(intervals[name]),
            "decoder": head["decoder"],
            "unit": head["unit"],
            "seed_std": float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
        }
    trained = [report["training"] for report in reports]
    return {
        "arm": board.arm.name,
        "loss": board.arm.loss,
        "model": reports[0]["model"],
        "against": board.arm.against,
        "seeds": seeds,
        "lr": board.scored[0].cell.run.config.lr,
        **figures,
        "paper": {
            "decoder": reports[0]["test"]["decoders"]["paper"]["decoder"],
            **{name: float(np.nanmean(board.stacked(f"paper_{name}", seeds, folds))) for name in HEADLINE},
        },
        "collapsed": any(report["test"]["rest"]["collapsed"] for report in reports),
        "seconds": float(np.mean([training["seconds"] for training in trained])),
        "images_per_second": float(np.mean([training["images_per_second"] for training in trained])),
        "peak_memory": max((training["peak_memory"] or 0 for training in trained), default=0) or None,
        "parameters": trained[0]["parameters"],
        "best_epoch": float(np.mean([training["best_epoch"] for training in trained])),
        "epochs": float(np.mean([training["epochs"] for training in trained])),
    }


def _compare(
    named: Sequence[tuple[str, str | None]], boards: Mapping[str, _Board], measure: Measure, unit: str
) -> list[dict[str, Any]]:
    """Test each pair of arms, Holm-corrected over all of them."""
    tests = []
    for a, b in named:
        assert b is not None
        common = boards[a].places & boards[b].places  # a seed counts where both have finished it
        if not common:
            continue
        seeds, folds = _rounds(common)
        ours, theirs = (measure.factor * boards[name].stacked(measure.name, seeds, folds) for name in (a, b))
        known = np.isfinite(ours).all(axis=0)
        ours, theirs = ours[:, known], theirs[:, known]
        cluster = boards[a].clusters(seeds[0], folds)
        cluster = None if cluster is None else cluster[known]
        over_seeds = None
        if len(seeds) > 1:
            over_seeds = dataclasses.asdict(wilcoxon_over_seeds(ours.mean(axis=1), theirs.mean(axis=1)))
        test = paired_bootstrap(ours, theirs, cluster)
        # At the level that the strictest step of Holm's correction asks for.
        effort = effort_to_see(ours, theirs, cluster, confidence=1 - (1 - test.confidence) / len(named))
        tests.append((a, b, test, effort, over_seeds))
    corrected = holm([test.p_value for _, _, test, *_ in tests]).tolist() if tests else []
    pairs = []
    for (a, b, test, effort, over_seeds), p_value in zip(tests, corrected, strict=True):
        decides = float(p_value) if len(tests) > 1 else None
        pairs.append(
            {
                "a": a,
                "b": b,
                "measure": measure.title,
                "unit": unit if measure.factor == 1 else "points",
                **dataclasses.asdict(test),
                "p_holm": float(p_value),
                "significant": float(p_value) < 1 - test.confidence,
                "over_seeds": over_seeds,
                "effort": {**dataclasses.asdict(effort), "ways": list(effort.ways), "text": str(effort)},
                "verdict": verdict(
                    test,
                    a,
                    b,
                    metric=measure.title,
                    unit=unit if measure.factor == 1 else "points",
                    p_value=decides,
                    decimals=measure.decimals,
                ),
            }
        )
    return pairs


def _rank(boards: Mapping[str, _Board]) -> dict[str, Any] | None:
    """Rank the arms over the folds, where there are enough of both; seeds are no data sets and do not count as such."""
    common = set.intersection(*(board.places for board in boards.values()))
    if len(boards) < 3 or not common:
        return None
    seeds, folds = _rounds(common)
    if len(folds) < FEWEST:
        return None
    scores = [[float(np.nanmean(board.stacked("mae", seeds, [fold]))) for board in boards.values()] for fold in folds]
    return dataclasses.asdict(rank_methods(scores, list(boards)))
