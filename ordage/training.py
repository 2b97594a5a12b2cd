"""The training loop: one file, read from top to bottom.

Everything random is a function of the seed and the position: the order of an epoch of ``(seed, epoch)``, augmentation
and dropout of ``(seed, step)``. So a run that is stopped at any moment and resumed ends with the same weights
as one that was not, bit for bit on a CPU, and no generator's state needs saving.
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
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import timm.utils
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ordage.eval import metrics

from . import processes
from .balance import class_shares, class_weights, draw_epoch
from .data.batches import Batch, Batches
from .errors import DataError, Interrupted, NonFiniteError, UsageError
from .memory import in_pieces
from .model import Plan, build_model, make_loss, save_model
from .optimizers import make_optimizer
from .prediction import predict_log_probs, predictions_of
from .schedule import Schedule, TimeLimit
from .trackers import log
from .transforms import AUGMENTATIONS, DRAWS

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
    config: RunConfig, plan: Plan, dataset: Dataset, run: Run, accelerator: Accelerator, reporter: Reporter
) -> TrainingResult:
    """Train one model, keep the best weights by validation MAE, and save the state to resume from.

    Raises:
        Interrupted: on SIGINT or SIGTERM, after the state is saved.
        NonFiniteError: the loss became infinite or NaN; the state before that epoch stays.
    """
    device = accelerator.device
    train_rows, val_rows = dataset.index("train"), dataset.index("val")
    batches = Batches(dataset.images, dataset.row[train_rows], dataset.target[train_rows], device)
    val_batches = Batches(dataset.images, dataset.row[val_rows], dataset.target[val_rows], device)
    wanted = config.batch_size or 64  # nothing is left open by `open_options`
    if wanted % processes.count():
        raise UsageError(f"--batch-size {wanted}: {processes.count()} processes need a multiple of their number")
    batch_size = min(wanted, len(batches) // processes.count() * processes.count())
    if batch_size < 2 or min(len(batches), len(val_batches)) < processes.count():
        raise DataError(
            f"{dataset.manifest.source}: {len(batches)} images to train on and {len(val_batches)} to validate; batch "
            "statistics need 2 or more, and every process at least one"
        )
    share = batch_size // processes.count()  # of a batch that this process works on
    mine = slice(processes.rank() * share, (processes.rank() + 1) * share)
    steps = len(batches) // batch_size  # the rest of a permutation waits for the next epoch: all batches are alike

    torch.manual_seed(config.seed)
    weighting = None if config.class_weights is None else class_weights(config.class_weights, dataset)
    drawing = class_weights("balanced", dataset) if config.sampling == "balanced" else None
    criterion = make_loss(config.loss, dataset.classes, weighting).to(device)
    saved = run.load_state()
    # What is saved replaces the initial weights, so a resumed run needs neither the weight file nor the network.
    start = plan if saved is None else dataclasses.replace(plan, pretrained=False)
    weights = config.weights if saved is None else None
    model = build_model(start, criterion, weights, prior=class_shares(dataset, weighting, drawing))
    raw_model = model = model.to(memory_format=torch.channels_last).to(device)
    optimizer = make_optimizer(model, config)
    most = None if config.most_epochs is None else config.most_epochs * steps
    limit = None
    if config.seconds is not None:
        limit = TimeLimit(config.seconds, steps, len(val_batches) / (steps * batch_size), most)
    average = timm.utils.ModelEmaV3(model, decay=config.ema, use_warmup=True) if config.ema else None
    if config.compile:
        model.compile()
    model = accelerator.prepare_model(model, evaluation_mode=True)  # autocast; the processes are joined below
    optimizer = accelerator.prepare_optimizer(optimizer)
    augment = AUGMENTATIONS[config.augment or "none"]
    # Losses differ in scale a hundredfold (K = 101 at zero logits: softmax 4.6, CORAL 69, CORN 0.69). Gradients are
    # brought to the scale of softmax, so that one learning rate means the same to each under any optimiser.
    loss_scale = _loss_scale(criterion)

    state = _State()
    sampler = torch.Generator()
    chances = None if drawing is None else drawing[batches.target.cpu()]
    noise = torch.Generator(device)
    if saved is not None:
        _restore(saved, state, raw_model, optimizer, average, accelerator)
        reporter.note(f"resuming at epoch {state.epoch + 1}, step {state.step + 1} of {steps}")
    frozen = config.freeze or 0
    begin = updates = state.epoch * steps + state.step
    schedule = Schedule(optimizer, state.total or most, int(config.warmup_epochs * steps))
    if limit is not None:
        limit.resume(state.spent)

    def save() -> None:
        if not processes.is_first():
            return
        state.total, state.spent = schedule.total, 0.0 if limit is None else limit.spent
        run.save_state(_snapshot(state, raw_model, optimizer, average, accelerator))

    joined = model
    # To agree, the host waits for the device: on several GPUs not in every step.
    agree_every = 20 if processes.count() > 1 and device.type == "cuda" else 1
    # One process alone can go over a batch again; the others of a group would wait for it forever.
    most_pieces = share // 2 if processes.count() == 1 else 1

    def gradients(batch: Batch, updates: int, pieces: int) -> Tensor:
        """Go forward and backward over a batch, in as many pieces; return the loss."""
        optimizer.zero_grad()
        torch.manual_seed(_mix(config.seed, updates, 1, processes.rank()))
        noise.manual_seed(_mix(config.seed, updates, 2))
        draws = torch.rand(batch_size, DRAWS, generator=noise, device=device)[mine]
        value = torch.zeros((), device=device)
        parts = [whole.tensor_split(pieces) for whole in (batch.index, batch.target, draws)]
        for index, target, changes in zip(*parts, strict=True):
            loss = criterion(joined(augment(batch.source, index, changes)), target) * (len(target) / share)
            accelerator.backward(loss * loss_scale)
            value += loss.detach()
        return value

    with _interrupts() as interrupted, reporter.bar("training", schedule.total) as bar:
        bar.advance(updates)
        # An epoch that was interrupted after its last step still lacks its validation.
        while (state.step or not schedule.is_over(updates)) and not _out_of_patience(state, config.patience):
            sampler.manual_seed(_mix(config.seed, state.epoch))
            raw_model.backbone.requires_grad_(state.epoch >= frozen)
            model.train()
            if state.epoch < frozen:
                raw_model.backbone.eval()
            order = draw_epoch(len(batches), steps * batch_size, chances, sampler).view(steps, batch_size)
            order = order[steps if schedule.is_over(updates) else state.step :, mine].reshape(-1)
            if updates == begin or state.epoch == frozen:
                joined = _join(model)  # anew when the backbone begins to learn: its gradients are exchanged from now on
            total = torch.tensor(state.loss_sum, device=device)
            begun = last_save = time.perf_counter()

            for batch in batches.take(order, share):
                schedule.before_step(updates)
                loss, pieces = in_pieces(partial(gradients, batch, updates), state.pieces, most_pieces)
                if pieces != state.pieces:
                    state.pieces = pieces
                    reporter.note(f"memory ran out: {pieces} steps of {batch_size // pieces} images now make a batch")
                optimizer.step()
                if average is not None:
                    average.update(raw_model, step=updates)
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
            begun = time.perf_counter()
            judged = average.module if average is not None else raw_model
            _share_buffers(judged)
            figures = _validate(judged, criterion, val_batches, dataset, accelerator)
            state.rows.append(
                {
                    "epoch": state.epoch + 1,
                    "lr": max(group["lr"] for group in optimizer.param_groups),
                    "train_loss": train_loss,
                    **figures,
                    "seconds": round(state.seconds, 3),
                    "images_per_second": round(state.step * batch_size / max(state.seconds, 1e-9), 1),
                }
            )
            if figures["val_mae"] < state.best:
                state.best, state.best_epoch = figures["val_mae"], state.epoch
                if processes.is_first():
                    save_model(
                        run.best, judged, plan, config.loss, dataset.classes, dataset.bins, tta=config.tta or "none"
                    )
            state.epoch, state.step, state.loss_sum, state.seconds = state.epoch + 1, 0, 0.0, 0.0
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
        parameters=sum(parameter.numel() for parameter in raw_model.parameters()),
        peak_memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )


def _join(model: nn.Module) -> nn.Module:
    """Let the processes of a group exchange the gradients of what is to be trained."""
    return nn.parallel.DistributedDataParallel(model) if processes.count() > 1 else model


def _share_buffers(model: nn.Module) -> None:
    """Give every process the batch statistics of the first, so that all judge one model."""
    if processes.count() > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)


def _validate(
    model: nn.Module, criterion: OrdinalLoss, batches: Batches, dataset: Dataset, accelerator: Accelerator
) -> dict[str, float]:
    """Return the validation figures of an epoch, under the decoders that all losses share."""
    log_probs, violations = predict_log_probs(model, criterion, batches, accelerator)
    if bool(log_probs.isnan().any()):
        raise NonFiniteError("the model's answers on the validation part became NaN; lower --lr")
    predictions = predictions_of(dataset, dataset.index("val"), criterion, log_probs, violations, {})
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


def _loss_scale(criterion: OrdinalLoss) -> float:
    """Return log K over the loss of a head that says nothing, averaged over the classes."""
    device = next((buffer.device for buffer in criterion.buffers()), torch.device("cpu"))
    logits = torch.zeros(criterion.num_classes, criterion.out_features, device=device)
    value = float(criterion(logits, torch.arange(criterion.num_classes, device=device)))
    return math.log(criterion.num_classes) / value if value > 0 else 1.0


def _mix(*numbers: int) -> int:
    """Return one seed for several small numbers, mixed by SplitMix64 so that neighbours give unrelated generators."""
    value = 0
    for number in numbers:
        value = (value ^ number) + 0x9E3779B97F4A7C15
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 31
    return value >> 1


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
    return (
        f"loss {row['train_loss']:.3f}, val MAE {row['val_mae']:.2f}, bins {row['val_bin_accuracy']:.1%}, "
        f"off-by-one {row['val_off_by_one_accuracy']:.1%}, {row['images_per_second']:,.0f} img/s"
    )


def _snapshot(
    state: _State,
    model: nn.Module,
    optimizer: Any,
    average: timm.utils.ModelEmaV3 | None,
    accelerator: Accelerator,
) -> dict[str, Any]:
    return {
        "state": {**vars(state)},
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.module.state_dict() if average is not None else None,
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
    }


def _restore(
    saved: dict[str, Any],
    state: _State,
    model: nn.Module,
    optimizer: Any,
    average: timm.utils.ModelEmaV3 | None,
    accelerator: Accelerator,
) -> None:
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    if average is not None:
        average.module.load_state_dict(saved["average"])
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(saved["scaler"])
    for name, value in saved["state"].items():
        setattr(state, name, value)


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
