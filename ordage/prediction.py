"""What a model says of the samples of a data set: log-probabilities in order, joined with what is true."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ordage.eval import Predictions

from . import processes
from .data.batches import Batches
from .data.dataset import age_text
from .data.store import open_images
from .data.targets import choose_bins, class_of
from .errors import DataError, UsageError
from .memory import in_pieces
from .model import load_model

if TYPE_CHECKING:
    from accelerate import Accelerator
    from numpy.typing import NDArray

    from ordage.eval import OrdinalScale
    from ordage.losses import OrdinalLoss

    from .config import DataConfig
    from .data.dataset import Dataset
    from .data.manifest import Manifest
    from .progress import Bar, Reporter
    from .runs import Run

__all__ = ["OtherData", "predict_data", "predict_log_probs", "predict_part", "predictions_of"]

EVALUATION_BATCH = 256
EVALUATION_PIXELS = 2**21  # in a batch on a GPU, where many small images take as long as a few

Autocast = Callable[[], AbstractContextManager[Any]]


@torch.inference_mode()
def predict_log_probs(
    model: nn.Module, criterion: OrdinalLoss, batches: Batches, autocast: Autocast, bar: Bar | None = None
) -> tuple[Tensor, Tensor]:
    """Return class log-probabilities ``(n, K)`` and rank violations ``(n,)`` of all samples in order, on the CPU.

    Args:
        model: to be asked.
        criterion: which knows what its outputs mean.
        batches: the samples.
        autocast: makes the context in which the model goes forward.
        bar: counts the samples that are done.
    """
    model.eval()

    mine = torch.arange(len(batches))[processes.rank() :: processes.count()]
    whole = EVALUATION_BATCH
    if batches.device.type == "cuda":
        whole = max(whole, EVALUATION_PIXELS // batches.pixels)

    def predict(pieces: int) -> tuple[Tensor, Tensor]:
        found = []
        for batch in batches.take(mine, whole // pieces):
            with autocast():
                logits = model(batch.source[batch.index].permute(0, 3, 1, 2)).float()
            found.append((criterion.log_probs(logits), criterion.violations(logits)))
            if bar is not None:
                bar.advance(len(logits))
        log_probs, violations = zip(*found, strict=True)
        return torch.cat(log_probs), torch.cat(violations)

    log_probs, violations = in_pieces(predict, 1, whole)[0]
    return _gathered(log_probs, len(batches)).cpu(), _gathered(violations, len(batches)).cpu()


def _gathered(own: Tensor, size: int) -> Tensor:
    """Join what each process has of every ``count``-th sample, in the order of all ``size`` samples, none twice."""
    if processes.count() == 1:
        return own
    longest = math.ceil(size / processes.count())
    padded = own.new_zeros(longest, *own.shape[1:])
    padded[: len(own)] = own
    everyone = [torch.empty_like(padded) for _ in range(processes.count())]
    torch.distributed.all_gather(everyone, padded)
    return torch.stack(everyone, dim=1).flatten(0, 1)[:size]


def predictions_of(
    manifest: Manifest,
    rows: NDArray[np.int64],
    scale: OrdinalScale,
    target: NDArray[np.int64],
    criterion: OrdinalLoss,
    log_probs: Tensor,
    violations: Tensor,
    meta: dict[str, Any],
) -> Predictions:
    """Join what the model says about some rows of a manifest with what is true of them."""
    table = manifest.table.iloc[rows]
    return Predictions(
        ids=table["id"].to_numpy(np.str_),
        log_probs=log_probs.numpy().astype(np.float32),
        scale=scale,
        age=manifest.ages[rows],
        target=target,
        subject=table["subject"].to_numpy(np.str_) if "subject" in table else None,
        groups={name: table[name].to_numpy(np.str_) for name in manifest.groups},
        meta={**meta, "paper_decoder": criterion.paper_decoder, "point_predictor": criterion.predicts_point},
        violation=violations.numpy(),
        age_std=table["age_std"].to_numpy(np.float64) if "age_std" in table else None,
    )


def predict_part(
    run: Run, dataset: Dataset, part: str, accelerator: Accelerator, meta: dict[str, Any], *, most: int | None = None
) -> Predictions:
    """Predict a part, or ``most`` samples spread over it, by the run's best model.

    In float32 whatever it was trained in, so that what is reported is what the saved model says on any machine.
    """
    loaded = load_model(run.best)
    rows = dataset.index(part)
    rows = rows if most is None else rows[:: math.ceil(len(rows) / most)]
    batches = Batches(dataset.images, dataset.row[rows], dataset.target[rows], accelerator.device)
    model = loaded.model.to(memory_format=torch.channels_last).to(accelerator.device)
    log_probs, violations = predict_log_probs(model, loaded.criterion, batches, nullcontext)
    target = dataset.target[rows]
    return predictions_of(
        dataset.manifest, rows, dataset.classes, target, loaded.criterion, log_probs, violations, meta
    )


@dataclass(frozen=True)
class OtherData:
    """What a model says of data that it does not come from.

    Attributes:
        predictions: on the model's own classes; on ``bins`` where these are given.
        bins: the intervals that the data has instead of exact ages.
        notes: one line each on what was left out.
    """

    predictions: Predictions
    bins: OrdinalScale | None
    notes: list[str]


def predict_data(run: Run, manifest: Manifest, config: DataConfig, reporter: Reporter) -> OtherData:
    """Predict the test part that a data set brings, else all of it, without what the model has seen.

    Raises:
        DataError: too much is unreadable, or no sample is left.
        UsageError: the classes of the model do not fit the intervals of the data.
    """
    loaded = load_model(run.best)
    total = len(manifest) + len(manifest.rejected)
    store = open_images(manifest, loaded.spec, reporter, limit_gb=config.cache_limit)
    bins = None if manifest.exact else choose_bins(manifest, config.bins)
    target = loaded.classes.class_of(manifest.ages) if bins is None else class_of(manifest, bins)
    usable = (store.errors == "") & (target >= 0)
    for index in np.flatnonzero(~usable):
        reason = store.errors[index] or f"{age_text(manifest, int(index))} lies in none of the bins, or in several"
        manifest.rejected.add(manifest.table["id"].iat[index], reason)
    manifest.rejected.check(total, allowed=config.allow_rejected, source=manifest.source)

    notes = list(manifest.notes)
    if "part" in manifest.table and (test := (manifest.table["part"] == "test").to_numpy()).any():
        usable &= test
        notes.append(f"its own test part, {int(usable.sum()):,} of {len(manifest):,} samples")
    seen = usable & np.isin(store.digests, run.seen_digests())
    if seen.any():
        notes.append(f"{int(seen.sum()):,} of its images were trained or validated on, and are left out")
    rows = np.flatnonzero(usable & ~seen)
    if not len(rows):
        raise DataError(f"{manifest.source}: no image is left that the model has not seen")

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = Batches(store.images, store.row[rows], target[rows], device)
    model = loaded.model.to(memory_format=torch.channels_last).to(device)
    with reporter.bar(f"predicting {manifest.source}", len(rows)) as bar:
        log_probs, violations = predict_log_probs(model, loaded.criterion, batches, nullcontext, bar)
    meta = {name: run.report[name] for name in ("loss", "seed", "model")}
    if bins is not None:
        try:
            log_probs = torch.from_numpy(loaded.classes.coarsen(log_probs.numpy(), bins, log=True))
        except ValueError as error:
            raise UsageError(f"{manifest.source}: its ages are intervals that the model cannot tell: {error}") from None
    scale = loaded.classes if bins is None else bins
    predictions = predictions_of(manifest, rows, scale, target[rows], loaded.criterion, log_probs, violations, meta)
    return OtherData(predictions, bins, notes)
