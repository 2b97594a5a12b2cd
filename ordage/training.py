"""The training loop: one file, read from top to bottom. `Learner` makes the steps.

What is random depends on the seed and the position alone. So a run that is stopped at any moment and resumed ends with
the same weights as one that was not, bit for bit on a CPU.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from ordage.eval import metrics

from . import processes
from .data.batches import Batches
from .errors import Interrupted, NonFiniteError
from .learner import Learner
from .model import Plan, TrainedOn, save_model
from .prediction import predict_log_probs, predictions_of
from .schedule import Schedule, TimeLimit
from .trackers import log

if TYPE_CHECKING:
    from ordage.losses import OrdinalLoss

    from .config import RunConfig
    from .data.dataset import Dataset
    from .progress import Reporter
    from .runs import Run

__all__ = ["train"]

STATE_EVERY = 300.0  # seconds between two saves within an epoch, for epochs that take long


@dataclass
class _State:
    """Where training stands; with the tensors beside it, all that resuming needs."""

    epoch: int = 0
    step: int = 0  # steps done in this epoch
    best: float = math.inf
    best_epoch: int = -1
    loss_sum: float = 0.0  # over the steps done in this epoch
    seconds: float = 0.0  # of training in this epoch
    waiting: float = 0.0  # of these, for images
    total: int | None = None  # steps that are planned
    spent: float = 0.0  # seconds of the time limit
    pieces: int = 1  # in which a batch fits into memory
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves for the report."""

    epochs: int
    best_epoch: int
    seconds: float
    images_per_second: float
    parameters: int
    peak_memory: int | None


def train(
    config: RunConfig,
    plan: Plan,
    dataset: Dataset,
    run: Run,
    accelerator: Accelerator,
    reporter: Reporter,
    *,
    spent: float = 0.0,
) -> TrainingResult:
    """Train one model, keep the best weights by validation MAE, and save the state to resume from.

    Args:
        config: the options, none left open.
        plan: the model.
        dataset: what it is trained on.
        run: where to write.
        accelerator: the device.
        reporter: shows progress.
        spent: seconds of a time limit that were spent before.

    Raises:
        Interrupted: on SIGINT or SIGTERM, after the state is saved.
        NonFiniteError: the loss became infinite or NaN; the state before that epoch stays.
    """
    device = accelerator.device
    saved = run.load_state()
    # What is saved replaces the initial weights, so a resumed run needs neither the weight file nor the network.
    start = plan if saved is None else dataclasses.replace(plan, pretrained=False)
    learner = Learner(config, start, dataset, accelerator, config.weights if saved is None else None)
    steps = learner.steps
    most = None if config.most_epochs is None else config.most_epochs * steps
    limit = None
    if config.seconds is not None:
        limit = TimeLimit(config.seconds, steps, len(learner.val_batches) / (steps * learner.batch_size), most)

    state = _State()
    if saved is not None:
        learner.load_state_dict(saved)
        for name, value in saved["state"].items():
            setattr(state, name, value)
        reporter.note(f"resuming at epoch {state.epoch + 1}, step {state.step + 1} of {steps}")
    begin = updates = state.epoch * steps + state.step
    schedule = Schedule(learner.optimizer, state.total or most, int(config.warmup_epochs * steps))
    if limit is not None:
        limit.resume(state.spent + spent)

    def save() -> None:
        if not processes.is_first():
            return
        state.total, state.spent = schedule.total, 0.0 if limit is None else limit.spent
        run.save_state({**learner.state_dict(), "state": {**vars(state)}})

    # To agree, the host waits for the device: on several GPUs not in every step.
    agree_every = 20 if processes.count() > 1 and device.type == "cuda" else 1

    with _interrupts() as interrupted, reporter.bar("training", schedule.total) as bar:
        bar.advance(updates)
        # An epoch that was interrupted after its last step still lacks its validation.
        while (state.step or not schedule.is_over(updates)) and not _out_of_patience(state, config.patience):
            learner.begin_epoch(state.epoch)
            if updates == begin or state.epoch == config.freeze:
                learner.join()  # anew when the backbone begins to learn: its gradients are exchanged from now on
            total = torch.tensor(state.loss_sum, device=device)
            begun = last_save = time.perf_counter()

            first = steps if schedule.is_over(updates) else state.step
            for batch in learner.epoch_batches(state.epoch, first):
                schedule.before_step(updates)
                loss, pieces = learner.step(batch, updates, state.pieces)
                if pieces != state.pieces:
                    state.pieces = pieces
                    size = learner.batch_size
                    reporter.note(f"memory ran out: {pieces} steps of {size // pieces} images now make a batch")
                total += loss  # stays on the device: nobody waits for a number in the middle of an epoch
                state.step += 1
                updates += 1
                bar.advance()
                stop = 0
                unplanned = limit is not None and schedule.total is None
                if unplanned or updates % agree_every == 0:
                    planned = 0
                    if limit is not None and processes.is_first() and limit.due(updates, begin):
                        total.item()  # waits for the device, whose work is to be timed, every 5 % of the time
                        planned = limit.plan(updates)
                    stop, planned = processes.agreed([int(interrupted.is_set()), planned], device)
                    if planned:
                        schedule.plan(planned)
                        bar.expect(planned)
                if stop or time.perf_counter() - last_save > STATE_EVERY:
                    # All processes stop together, but each looks at its own clock.
                    reached = accelerator.reduce(total, "mean") if stop else total
                    state.loss_sum = _finite(float(reached), state, config)
                    state.seconds += time.perf_counter() - begun
                    state.waiting += learner.batches.waiting.pop_seconds()
                    begun = last_save = time.perf_counter()
                    save()
                    if stop:
                        raise Interrupted(
                            f"interrupted in epoch {state.epoch + 1}; {run.path} has the state; --resume goes on"
                        )
                if schedule.is_over(updates):
                    break

            train_loss = _finite(float(accelerator.reduce(total, "mean")), state, config) / state.step
            state.seconds += time.perf_counter() - begun
            state.waiting += learner.batches.waiting.pop_seconds()
            begun = time.perf_counter()
            judged = learner.judged()
            figures = _validate(judged, learner.criterion, learner.val_batches, dataset, accelerator)
            state.rows.append(
                {
                    "epoch": state.epoch + 1,
                    "lr": max(group["lr"] for group in learner.optimizer.param_groups),
                    "train_loss": train_loss,
                    **figures,
                    "seconds": round(state.seconds, 3),
                    "images_per_second": round(state.step * learner.batch_size / max(state.seconds, 1e-9), 1),
                    "waiting_share": round(state.waiting / max(state.seconds, 1e-9), 3),
                }
            )
            if figures["val_mae"] < state.best:
                state.best, state.best_epoch = figures["val_mae"], state.epoch
                if processes.is_first():
                    save_model(
                        run.best,
                        judged,
                        plan,
                        config.loss,
                        dataset.classes,
                        dataset.bins,
                        trained_on=TrainedOn(dataset.native_side, dataset.square_share),
                        tta=config.tta or "none",
                    )
            state.epoch, state.step, state.loss_sum, state.seconds, state.waiting = state.epoch + 1, 0, 0.0, 0.0, 0.0
            if processes.is_first():
                run.write_metrics(state.rows)
            save()
            if limit is not None:
                limit.validated(time.perf_counter() - begun)
            log(accelerator, state.rows[-1], state.epoch)
            bar.describe(_line(state.rows[-1]))
            of = "" if schedule.total is None else f"/{math.ceil(schedule.total / steps)}"
            reporter.epoch(f"epoch {state.epoch}{of}: {_line(state.rows[-1])}")
            if processes.agreed([int(interrupted.is_set())], device)[0]:
                raise Interrupted(f"interrupted after epoch {state.epoch}; {run.path} has the state; --resume goes on")

    if not schedule.is_over(updates):
        reporter.note(f"stopped after epoch {state.epoch}: no better validation MAE in {config.patience} epochs")
    accelerator.wait_for_everyone()  # for the best model, which the first process writes
    return TrainingResult(
        epochs=state.epoch,
        best_epoch=state.best_epoch + 1,
        seconds=sum(row["seconds"] for row in state.rows),
        images_per_second=float(np.median([row["images_per_second"] for row in state.rows])),
        parameters=sum(parameter.numel() for parameter in learner.model.parameters()),
        peak_memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )


def _validate(
    model: nn.Module, criterion: OrdinalLoss, batches: Batches, dataset: Dataset, accelerator: Accelerator
) -> dict[str, float]:
    """Return the validation figures of an epoch, under the decoders that all losses share."""
    log_probs, violations = predict_log_probs(model, criterion, batches, accelerator.autocast)
    if bool(log_probs.isnan().any()):
        raise NonFiniteError("the model's answers on the validation part became NaN; lower --lr")
    rows = dataset.index("val")
    predictions = predictions_of(
        dataset.manifest, rows, dataset.classes, dataset.target[rows], criterion, log_probs, violations, {}
    )
    judged = predictions.on(dataset.bins)
    likely = metrics.decode(judged, "mode").classes
    middle = metrics.decode(judged, "median").classes
    known = predictions.known_age
    if known.any():
        error = metrics.mae(predictions.age[known], metrics.decode(predictions, "median").values[known])
    else:
        error = metrics.mae_bins(judged.target, middle)
    return {
        "val_mae": error,
        "val_bin_accuracy": metrics.bin_accuracy(judged.target, likely),
        "val_off_by_one_accuracy": metrics.off_by_one_accuracy(judged.target, middle),
        "val_rps": metrics.rps(predictions.log_probs, predictions.target),
    }


def _finite(loss_sum: float, state: _State, config: RunConfig) -> float:
    if not math.isfinite(loss_sum):
        raise NonFiniteError(
            f"the loss became {loss_sum} in epoch {state.epoch + 1}; lower --lr (it is {config.lr:g}); "
            "the state before that is kept"
        )
    return loss_sum


def _out_of_patience(state: _State, patience: int | None) -> bool:
    return patience is not None and state.epoch - 1 - state.best_epoch >= patience and state.best_epoch >= 0


def _line(row: dict[str, Any]) -> str:
    waiting = f", {row['waiting_share']:.0%} of the time waiting for images" if row["waiting_share"] >= 0.01 else ""
    return (
        f"loss {row['train_loss']:.3f}, val MAE {row['val_mae']:.2f}, bins {row['val_bin_accuracy']:.1%}, "
        f"off-by-one {row['val_off_by_one_accuracy']:.1%}, {row['images_per_second']:,.0f} img/s{waiting}"
    )


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Let Ctrl-C and SIGTERM end the step that is running; a second one ends at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    try:
        for number in before:
            signal.signal(number, handle)
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
