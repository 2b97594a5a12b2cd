"""What a model says of the samples of a data set: log-probabilities in order, joined with what is true."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ordage.eval import Predictions

from . import processes
from .data.batches import Batches
from .memory import in_pieces
from .model import load_model

if TYPE_CHECKING:
    from accelerate import Accelerator
    from numpy.typing import NDArray

    from ordage.losses import OrdinalLoss

    from .data.dataset import Dataset
    from .runs import Run

__all__ = ["predict_log_probs", "predict_part", "predictions_of"]

EVALUATION_BATCH = 256


@torch.inference_mode()
def predict_log_probs(
    model: nn.Module, criterion: OrdinalLoss, batches: Batches, accelerator: Accelerator
) -> tuple[Tensor, Tensor]:
    """Return class log-probabilities ``(n, K)`` and rank violations ``(n,)`` of all samples in order, on the CPU."""
    model.eval()

    mine = torch.arange(len(batches))[processes.rank() :: processes.count()]

    def predict(pieces: int) -> tuple[Tensor, Tensor]:
        found = []
        for batch in batches.take(mine, EVALUATION_BATCH // pieces):
            with accelerator.autocast():
                logits = model(batch.source[batch.index].permute(0, 3, 1, 2)).float()
            found.append((criterion.log_probs(logits), criterion.violations(logits)))
        log_probs, violations = zip(*found, strict=True)
        return torch.cat(log_probs), torch.cat(violations)

    log_probs, violations = in_pieces(predict, 1, EVALUATION_BATCH)[0]
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
    dataset: Dataset,
    rows: NDArray[np.int64],
    criterion: OrdinalLoss,
    log_probs: Tensor,
    violations: Tensor,
    meta: dict[str, Any],
) -> Predictions:
    """Join what the model says about samples with what is true of them."""
    table = dataset.manifest.table.iloc[rows]
    return Predictions(
        ids=table["id"].to_numpy(np.str_),
        log_probs=log_probs.numpy().astype(np.float32),
        scale=dataset.classes,
        age=dataset.manifest.ages[rows],
        target=dataset.target[rows],
        subject=None if dataset.subject is None else dataset.subject[rows],
        groups={name: table[name].to_numpy(np.str_) for name in dataset.manifest.groups},
        meta={**meta, "paper_decoder": criterion.paper_decoder, "point_predictor": criterion.predicts_point},
        violation=violations.numpy(),
    )


def predict_part(
    run: Run, dataset: Dataset, part: str, accelerator: Accelerator, meta: dict[str, Any], *, most: int | None = None
) -> Predictions:
    """Predict a part, or ``most`` samples spread over it, by the run's best model."""
    loaded = load_model(run.best)
    rows = dataset.index(part)
    rows = rows if most is None else rows[:: math.ceil(len(rows) / most)]
    batches = Batches(dataset.images, dataset.row[rows], dataset.target[rows], accelerator.device)
    model = loaded.model.to(memory_format=torch.channels_last).to(accelerator.device)
    log_probs, violations = predict_log_probs(model, loaded.criterion, batches, accelerator)
    return predictions_of(dataset, rows, loaded.criterion, log_probs, violations, meta)
