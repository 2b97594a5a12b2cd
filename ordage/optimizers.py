"""How a model is optimised where the options leave it open, and the optimiser itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import timm.optim
import torch
from torch import nn

from . import processes
from .devices import choose_precision
from .errors import UsageError, did_you_mean
from .model import OWN_NETS, OrdinalModel, Plan
from .muon import Muon

if TYPE_CHECKING:
    from .config import RunConfig, TrainingConfig

__all__ = ["check_optimizer", "make_optimizer", "open_options"]

# benchmarks/recipes.md has the evidence.
LR_MUON = 8e-3
LR_FROM_SCRATCH = 2e-3
LR_PRETRAINED = 3e-4
LARGEST_BATCH = {True: 128, False: 64}  # for the built-in nets, and for others
FUSED = ("adam", "adamw", "sgd", "momentum")  # torch's own, in one call a group: on a CPU five times as fast
CAPTURABLE = ("adam", "adamw")  # those of torch's own that can be part of a CUDA graph
SMALLEST_BATCH = 16
FEWEST_STEPS = 50  # of an epoch, for which a batch is made smaller


def open_options(
    config: TrainingConfig, plan: Plan, backbone: nn.Module, device: torch.device, samples: int
) -> dict[str, Any]:
    """Return values for the options that are left open, as model, device and the number of samples suggest them."""
    augment = config.augment or ("full" if device.type == "cuda" else "light")
    own = plan.model in OWN_NETS
    opt = (config.opt or ("muon" if own else "adamw")).lower()
    # Under a time limit nobody knows yet whether there will be a second epoch.
    freeze = int(plan.pretrained and config.most_epochs is not None and config.most_epochs > 1)
    batch_size = LARGEST_BATCH[own]
    while batch_size > SMALLEST_BATCH and samples // batch_size < FEWEST_STEPS:
        batch_size //= 2
    batch_size = max(1, batch_size // processes.count()) * processes.count()
    usual = LR_MUON if opt == "muon" else LR_PRETRAINED if plan.pretrained else LR_FROM_SCRATCH
    return {
        "precision": config.precision or choose_precision(device, backbone),
        "augment": augment,
        # What training does not show a net, it need not answer alike.
        "tta": config.tta or ("none" if augment == "none" else "shift" if own else "flip"),
        "batch_size": config.batch_size or batch_size,
        "opt": opt,
        "lr": usual if config.lr is None else config.lr,
        "freeze": freeze if config.freeze is None else config.freeze,
        "epochs": config.most_epochs,
    }


def check_optimizer(name: str | None) -> None:
    """Raise `UsageError` for an optimiser that timm does not have, or that needs second derivatives."""
    if name is None:
        return
    known = ["muon", *(known for known in timm.optim.list_optimizers() if known != "adahessian")]
    if name.lower() not in known:
        raise UsageError(f"--opt {name}: no such optimiser of timm{did_you_mean(name, known)}")


def make_optimizer(model: OrdinalModel, config: RunConfig) -> torch.optim.Optimizer:
    """Make the optimiser: no decay on norms and biases, lower rates towards the input where layer decay is on."""
    decay = config.weight_decay
    if config.layer_decay is not None:
        backbone = [
            group
            for member in model.backbones
            for group in timm.optim.param_groups_layer_decay(member, decay, layer_decay=config.layer_decay)
        ]
    else:
        backbone = timm.optim.param_groups_weight_decay(model.backbone, decay)
    head = timm.optim.param_groups_weight_decay(model.head, decay)
    assert isinstance(config.lr, float)  # `open_options` and `find_lr` have chosen
    assert config.opt is not None
    if config.opt == "muon":
        return Muon([*backbone, *({**group, "matrix": False} for group in head)], lr=config.lr)
    options = {"fused": True} if config.opt in FUSED else {}
    if config.opt in CAPTURABLE and next(model.parameters()).is_cuda:
        options["capturable"] = True
    return timm.optim.create_optimizer_v2([*backbone, *head], opt=config.opt, lr=config.lr, **options)
