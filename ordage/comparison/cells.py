"""Cells at work: one after another in this process, or several side by side, each in a process of its own."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ordage import losses

from ..cell import run_cell
from ..config import CompareConfig, RunConfig
from ..devices import make_accelerator
from ..errors import Interrupted, MissingError, OrdageError, UsageError
from ..processes import parse_devices
from ..progress import Reporter
from ..runs import Run
from .design import Cell, Design
from .standings import reason_of
from .workshop import Workshop

if TYPE_CHECKING:
    from ..data.dataset import Dataset

__all__ = ["cell_devices", "run_cells"]

MOST = 4  # trainings side by side, where nobody asked: each takes a gigabyte of memory for the libraries alone
LARGE = 2**30  # bytes of images, from which on no process shall hold a copy of its own unasked
GRACE = 120.0  # seconds that interrupted processes have to save their state


def cell_devices(config: CompareConfig, design: Design, dataset: Dataset, reporter: Reporter) -> list[str | None]:
    """Return the device of each place at which a cell can be trained; None for the one of the options.

    Args:
        config: the options.
        design: what will be trained.
        dataset: on which.
        reporter: says how many trainings there are at a time, where nobody asked for that.

    Raises:
        UsageError: devices that mean nothing here, or a loss that other processes do not know.
        MissingError: more than there are GPUs.
    """
    number = parse_devices(config.devices)
    device = make_accelerator(config).device
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if number != 1:
        if number is not None and not gpus:
            raise UsageError(f"--devices {number}: is for GPUs; cells share the cores of a CPU by --jobs {number}")
        if number is not None and number > gpus:
            raise MissingError(f"--devices {number}: this machine has {gpus} GPU{'s' if gpus > 1 else ''}")
    used: list[str | None] = [None] if number == 1 or not gpus else [f"cuda:{index}" for index in range(number or gpus)]
    unknown = [arm.loss for arm in design.arms if not _known_everywhere(arm.loss)]
    jobs = config.jobs
    if jobs is None:
        jobs = 1
        images = dataset.images
        small = isinstance(images, np.memmap) or (isinstance(images, np.ndarray) and images.nbytes < LARGE)
        if device.type == "cpu" and config.seconds is None and small and not unknown:
            jobs = min(MOST, torch.get_num_threads(), len(design.arms) * len(design.seeds) * len(design.folds))
            if jobs > 1:
                reporter.note(f"{jobs} trainings side by side (--jobs)")
    places = used * -(-jobs // len(used))  # as many on each as the jobs need, and at least one
    if len(places) > 1 and unknown:
        raise UsageError(
            f"loss {unknown[0]}: is registered in this process alone, where others do not see it; --jobs 1, or make it "
            "a package with an entry point"
        )
    return places


def _known_everywhere(loss: str) -> bool:
    """Return whether every process knows a loss: it is ordage's own, or of a package that is installed."""
    module = losses.get(loss.partition(":")[0]).__module__
    packages = {entry.module.partition(".")[0] for entry in entry_points(group="ordage.losses")}
    return module.startswith("ordage.losses") or module.partition(".")[0] in packages


def run_cells(
    cells: Sequence[Cell], workshop: Workshop, devices: Sequence[str | None], verbosity: int, about: str = ""
) -> dict[Cell, Exception]:
    """Train all that is not done yet, and return what failed.

    Args:
        cells: in the order in which they begin.
        workshop: has what they need.
        devices: of each place at which a cell can be trained; several make as many processes.
        verbosity: 0 says nothing, 1 a line a cell, 2 a line an epoch.
        about: put before what is said of each.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM, once all states are saved.
    """
    todo = []
    for number, cell in enumerate(cells, start=1):
        prefix = f"[{number}/{len(cells)}] {about}{cell.title}: "
        if cell.run.finished:
            Reporter(verbosity).note(f"{prefix}done before")
        else:
            todo.append(_Task(cell, prefix))
    if len(devices) > 1:
        return _side_by_side(todo, devices, verbosity)
    return _one_after_another(todo, workshop, verbosity)


@dataclass(frozen=True)
class _Task:
    """A cell, and what the lines about it begin with."""

    cell: Cell
    prefix: str

    def done(self, verbosity: int) -> None:
        report = self.cell.run.report
        test = report["test"]["test"]
        Reporter(verbosity).note(
            f"{self.prefix}bins {test['bin_accuracy']:.1%}, off-by-one {test['off_by_one_accuracy']:.1%}, "
            f"MAE {test['mae']:.2f}, {report['training']['seconds']:.0f} s"
        )

    def failed(self, error: Exception, verbosity: int) -> None:
        Reporter(verbosity).note(f"{self.prefix}failed: {reason_of(error)}")


def _one_after_another(todo: list[_Task], workshop: Workshop, verbosity: int) -> dict[Cell, Exception]:
    failures: dict[Cell, Exception] = {}
    for task in todo:
        config = task.cell.config
        try:
            run_cell(config, workshop.prepared(config), task.cell.run, Reporter(verbosity, task.prefix))
        except Interrupted as stop:
            raise Interrupted(f"{task.prefix}{stop}") from None
        except Exception as error:  # be it memory or a defect of somebody's loss: the other cells are none the worse
            failures[task.cell] = error
            task.failed(error, verbosity)
            continue
        task.done(verbosity)
    return failures


def _side_by_side(todo: list[_Task], places: Sequence[str | None], verbosity: int) -> dict[Cell, Exception]:
    """Deal the cells to as many processes as there are places."""
    # The last cells have no more threads than the first, and so the same last bits, whenever they are resumed.
    threads = max(1, torch.get_num_threads() // len(places))
    places = places[: len(todo)]
    waiting: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
    for task in todo:
        waiting.put(task)
    for _ in places:
        waiting.put(None)
    ended: queue.SimpleQueue[tuple[_Task, Exception | None] | None] = queue.SimpleQueue()
    workers = [_Worker(device, threads, waiting, ended, verbosity) for device in places]
    failures: dict[Cell, Exception] = {}
    try:
        with _both_interrupts():
            for worker in workers:
                worker.start()
            left = len(workers)
            while left:
                said = ended.get()
                if said is None:
                    left -= 1
                    continue
                task, error = said
                if error is None:
                    task.done(verbosity)
                else:
                    failures[task.cell] = error
                    task.failed(error, verbosity)
    except KeyboardInterrupt:
        with suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        for worker in workers:
            worker.interrupt()
        raise Interrupted("interrupted; the state of every cell is saved, and --resume goes on") from None
    finally:
        for worker in workers:
            worker.end()
    return failures


class _Worker(threading.Thread):
    """A process that trains cells, and the thread that hands them to it."""

    def __init__(
        self,
        device: str | None,
        threads: int,
        waiting: queue.SimpleQueue[_Task | None],
        ended: queue.SimpleQueue[tuple[_Task, Exception | None] | None],
        verbosity: int,
    ) -> None:
        super().__init__(daemon=True)
        self._device, self._waiting, self._ended, self._verbosity = device, waiting, ended, verbosity
        self._threads, self._over = threads, False
        self._process = self._begin()

    def _begin(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "from ordage.comparison.cells import follow; follow()"],
            env={**os.environ, "OMP_NUM_THREADS": str(self._threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches it through the first process alone, once
        )

    def run(self) -> None:
        """Hand over one cell after another."""
        with suppress(queue.Empty):  # when all is interrupted
            while (task := self._waiting.get_nowait()) is not None:
                self._ended.put((task, self._train(task)))
                if self._process.poll() is not None and not self._over:
                    self._process = self._begin()  # it died with its cell; the next one shall have its chance
        self._ended.put(None)

    def _train(self, task: _Task) -> Exception | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        config = task.cell.config if self._device is None else replace(task.cell.config, device=self._device)
        call = {"config": config.to_dict(), "run": str(task.cell.run.path), "prefix": task.prefix, "argv": sys.argv}
        try:
            self._process.stdin.write(json.dumps({**call, "verbosity": self._verbosity}) + "\n")
            self._process.stdin.flush()
            failed = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):  # there is no answer when the process ends, be it for want of memory
            return OrdageError(f"its process ended with code {self._process.wait()}")
        if failed is None:
            return None
        kind = next((kind for kind in OrdageError.__subclasses__() if kind.exit_code == failed["code"]), OrdageError)
        return kind(failed["reason"])

    def interrupt(self) -> None:
        """Let the process save the state of its cell and end."""
        self._over = True
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """End the process, which ends by itself where it was interrupted or has nothing more to do."""
        self._over = True
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended by itself
            self._process.stdin.close()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def follow() -> None:
    """Train the cells that the first process hands over, a line each on stdin; answer each by a line on stdout."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what somebody's loss, or a library, prints is no answer
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    workshop = Workshop(Reporter(0))
    try:
        for line in sys.stdin:
            call: dict[str, Any] = json.loads(line)
            config = RunConfig.parse(call["config"])
            sys.argv = call["argv"]  # which the run writes down
            reporter = Reporter(call["verbosity"], call["prefix"], bars=False)
            answer = None
            try:
                run_cell(config, workshop.prepared(config), Run(call["run"]), reporter)
            except Interrupted:
                sys.exit(130)
            except Exception as error:  # as in one process
                answer = {"code": getattr(error, "exit_code", 1), "reason": reason_of(error)}
            print(json.dumps(answer), file=answers, flush=True)
    except KeyboardInterrupt:  # between two cells, or in what has no state to save
        sys.exit(130)


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone: it would get into the way of whoever goes on."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


@contextmanager
def _both_interrupts() -> Iterator[None]:
    """Let SIGTERM interrupt as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
