"""`fit`: from options to a trained, evaluated run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import processes
from .config import RunConfig
from .data.layouts import read
from .progress import Reporter
from .runs import Run
from .trackers import check_trackers
from .workspace import agree, choose_directory, claim_directory, merge_options

__all__ = ["fit"]


def fit(
    config: RunConfig | Mapping[str, Any] | None = None,
    /,
    *,
    out: str | os.PathLike[str] = "runs",
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    verbosity: int = 1,
    **options: Any,
) -> Run:
    """Train one model and judge it on the test part: what ``ordage fit`` does.

    Args:
        config: options as an object or a mapping; keyword ``options`` win over it.
        out: folder of all runs.
        name: directory of this run under ``out``; made from date, model and loss without one.
        resume: go on with the run of that name, else with the newest unfinished run that agrees with the options.
        overwrite: delete a run of that name first.
        verbosity: 0 says nothing, 1 a few lines on stderr, 2 a line an epoch.
        **options: any field of `RunConfig`, such as ``data="faces", loss="corn", epochs=5``.

    Returns:
        The run, with ``report``, ``predictions("test")`` and the files in ``path``.

    Raises:
        OrdageError: with one line on what is wrong; its subclasses tell usage, data, numerics and environment apart.
    """
    given = merge_options(config, options)
    asked = RunConfig.parse(given)
    work = _Work(given, asked, Path(out), name, resume, overwrite)
    if processes.count() > 1:
        return work.do(verbosity)
    begun = work.begun()
    if (asked if begun is None else begun).devices == "1":
        return work.do(verbosity)
    from .devices import count_devices

    if begun is not None:  # on the same device, by as many processes
        asked = replace(asked, device=begun.device, devices=begun.devices)
        work = replace(work, given={**given, "device": asked.device, "devices": asked.devices}, asked=asked)
    number = count_devices(work.asked)
    if number == 1:
        return work.do(verbosity)
    with processes.started(number, work.call):
        return work.do(verbosity)


@dataclass(frozen=True)
class _Work:
    """What `fit` was asked, to be done by this process or by each of a group."""

    given: dict[str, Any]
    asked: RunConfig
    out: Path
    name: str | None
    resume: bool
    overwrite: bool

    @property
    def call(self) -> dict[str, Any]:
        """The arguments of `fit` as JSON can hold them."""
        rest = {"name": self.name, "resume": self.resume, "overwrite": self.overwrite}
        return {"config": self.given, "out": str(self.out), **rest}

    def choose(self) -> tuple[Path | None, bool]:
        """Return the directory that is named or found, and whether it holds earlier work to go on from."""
        return choose_directory(
            self.out, self.name, self.given, self.asked, resume=self.resume, overwrite=self.overwrite
        )

    def begun(self) -> RunConfig | None:
        """Return the options of the earlier work that is gone on with, if any is."""
        path, goes_on = self.choose()
        return agree(Run(path).config, self.asked, self.given) if path is not None and goes_on else None

    def do(self, verbosity: int) -> Run:
        """Train and judge."""
        reporter = Reporter(verbosity if processes.is_first() else 0)
        check_trackers(self.asked.log)
        asked = self.asked
        if processes.count() > 1:
            from .devices import make_accelerator

            make_accelerator(asked)  # it joins the processes

        path, goes_on = processes.from_first(self.choose)
        if path is not None and goes_on:
            run = Run(path)
            asked = agree(run.config, asked, self.given)
            if run.finished:
                reporter.note(f"{path}: already finished")
                return run
        manifest = read(asked)
        from .cell import prepare_run, run_cell  # here, because torch takes seconds, and a wrong path is told before

        prepared, resolved = prepare_run(asked, manifest, [asked.loss], reporter, check_weights=not goes_on)
        what = f"{prepared.plan.model}_{asked.loss}_seed{asked.seed}"
        run = Run(processes.from_first(lambda: claim_directory(self.out, path, what, overwrite=self.overwrite)))
        if not goes_on:
            processes.from_first(lambda: run.save_asked(asked))
        run_cell(resolved, prepared, run, reporter)
        return run
