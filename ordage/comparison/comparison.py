"""`compare`: train all cells of a design, each once whatever happens, and bring them together."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import processes
from ..config import CompareConfig, read_yaml
from ..data.layouts import read
from ..errors import DataError, OrdageError, UsageError
from ..progress import Reporter
from ..runs import REPORT, describe_environment, write_config, write_json
from ..workspace import agree, choose_directory, claim_directory, merge_options
from .design import Cell, Design, make_design
from .standings import reason_of, summarise, write_summary

__all__ = ["Comparison", "compare"]

DESIGN = "design.json"
TITLED = 4  # models, or losses, up to which a directory is named after all of them


class Comparison:
    """A directory of cells and what follows from them.

    Attributes:
        path: the directory.
        config: the options that it was asked with.
        design: what is trained.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a comparison by its directory.

        Raises:
            DataError: it is none.
        """
        self.path = Path(path)
        try:
            self.design = Design.from_dict(json.loads((self.path / DESIGN).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path}: no {DESIGN} that can be read; is it a comparison? ({error})") from None
        self.config = CompareConfig.parse(read_yaml(self.path / "config.yaml"))

    def __repr__(self) -> str:
        """Return a short description."""
        return f"Comparison({str(self.path)!r})"

    @property
    def trials(self) -> list[Cell]:
        """The cells that learning rates are chosen by."""
        return self.design.trials(self.path)

    @property
    def tuning(self) -> list[dict[str, Any]]:
        """What each learning rate that was tried gave on validation; nothing where none were to be tried."""
        rows = []
        for cell in self.trials:
            done = cell.run.finished
            mae = cell.run.report["val"]["headline"]["mae"]["value"] if done else None
            rows.append({"arm": cell.arm.name, "lr": cell.config.lr, "val_mae": mae})
        return rows

    @property
    def lrs(self) -> dict[str, float]:
        """The learning rate of each arm that was best on validation, as far as they have been tried."""
        best: dict[str, tuple[float, float]] = {}
        for row in self.tuning:
            if row["val_mae"] is not None:
                best[row["arm"]] = min(best.get(row["arm"], (float("inf"), 0.0)), (row["val_mae"], row["lr"]))
        return {arm: lr for arm, (_, lr) in best.items()}

    @property
    def cells(self) -> list[Cell]:
        """Every arm with every seed and fold, done or not."""
        return self.design.cells(self.path, self.lrs)

    @property
    def report(self) -> dict[str, Any]:
        """What ``report.json`` says."""
        file = self.path / REPORT
        if not file.exists():
            raise DataError(f"{self.path}: no {REPORT}; is it a finished comparison?")
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return content

    @property
    def finished(self) -> bool:
        """Whether every cell is done, and brought together."""
        trained = all(cell.run.finished for cell in [*self.trials, *self.cells])
        return trained and bool(self.cells) and (self.path / REPORT).exists() and not self.report["failed"]

    def standings(self, failures: Mapping[Cell, Exception] | None = None) -> dict[str, Any]:
        """Bring the finished cells together; nothing is written.

        Args:
            failures: what made cells fail; without it those are repeated that are reported and still not done.

        Raises:
            OrdageError: of the first failure's kind when every cell failed.
        """
        done = [cell for cell in self.cells if cell.run.finished]
        if not done:
            if not failures:
                raise DataError(f"{self.path}: none of its cells is finished; go on with it by --resume")
            first = next(iter(failures.values()))
            kind = type(first) if isinstance(first, OrdageError) else OrdageError
            raise kind(f"{self.path}: every cell failed, the first: {reason_of(first)}")
        if failures is None:
            over = {cell.run.path.name for cell in done}
            earlier = self.report["failed"] if (self.path / REPORT).exists() else []
            failed = [row for row in earlier if row["cell"] not in over]
        else:
            failed = [_failed(cell, error) for cell, error in failures.items()]
        return {
            **summarise(self.design.arms, done),
            "tuning": self.tuning,
            "failed": failed,
            "protocol": self.config.to_dict(),
        }


def _failed(cell: Cell, error: Exception) -> dict[str, Any]:
    return {
        "arm": cell.arm.name,
        "loss": cell.config.loss,
        "seed": cell.seed,
        "fold": cell.fold,
        "lr": cell.config.lr,
        "cell": cell.run.path.name,
        "error": reason_of(error),
        "exit_code": getattr(error, "exit_code", 1),
    }


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
        raise UsageError("compare runs in one process; several can train one model in fit, or cells by --jobs")
    reporter = Reporter(verbosity)
    given = merge_options(config, options)
    asked = CompareConfig.parse(given)
    path, goes_on = choose_directory(Path(out), name, given, asked, resume=resume, overwrite=overwrite)
    design = None
    if path is not None and goes_on:
        earlier = Comparison(path)
        asked, design = agree(earlier.config, asked, given), earlier.design
        if earlier.finished:
            reporter.note(f"{path}: already finished")
            return earlier
    manifest = read(asked)
    from ..devices import make_accelerator  # here, because torch takes seconds, and a wrong path is told before
    from .cells import cell_devices, run_cells
    from .workshop import Workshop

    workshop = Workshop(reporter, manifest)
    design = workshop.settle(design or make_design(asked, manifest))
    dataset = workshop.prepared(design.arms[0].config).dataset
    devices = cell_devices(asked, design, dataset, reporter)
    path = claim_directory(Path(out), path, _title(design), overwrite=overwrite)
    dataset.write_splits(path / "splits.csv")
    write_json(path / DESIGN, design.to_dict())
    write_json(path / "environment.json", describe_environment(make_accelerator(asked).device))
    write_config(path, asked.to_dict())  # last: by it a directory is known as one to go on with
    comparison = Comparison(path)

    failures = run_cells(comparison.trials, workshop, devices, verbosity, "tuning, ")
    failures |= run_cells(comparison.cells, workshop, devices, verbosity)
    report = comparison.standings(failures)
    write_summary(path / "summary.csv", report)
    write_json(path / REPORT, report)
    return comparison


def _title(design: Design) -> str:
    """Return what a directory is named after: models and losses, or how many there are."""
    models = dict.fromkeys(arm.config.model for arm in design.arms)
    losses = dict.fromkeys(arm.loss for arm in design.arms)
    parts: list[str] = []
    for kind, names in (("models", models), ("losses", losses)):
        parts += names if len(names) <= TITLED else [f"{len(names)}_{kind}"]
    return "_".join(parts)
