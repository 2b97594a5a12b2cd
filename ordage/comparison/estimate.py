"""`compare --dry-run`: what would be trained, and how long it would take, by some steps of each arm."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..cell import Prepared
from ..config import CompareConfig, RunConfig
from ..data.layouts import read
from ..devices import make_accelerator
from ..learner import Learner
from ..prediction import predict_log_probs
from ..progress import Reporter
from ..workspace import merge_options
from .cells import cell_devices
from .design import make_design
from .workshop import Workshop

__all__ = ["estimate"]

UNTIMED, TIMED = 3, 12  # steps
ANY_RATE = 1e-3


def estimate(options: Mapping[str, Any], *, verbosity: int = 1) -> dict[str, Any]:
    """Return the plan of a comparison; nothing is trained or written but the cache of decoded images.

    Args:
        options: fields of `CompareConfig` by name.
        verbosity: 0 says nothing, 1 a few lines on stderr.

    Returns:
        JSON-ready: ``arms`` (name, cells, seconds of a step and of a cell), ``cells`` and ``seconds`` in all, ``jobs``.
    """
    reporter = Reporter(verbosity)
    asked = CompareConfig.parse(merge_options(None, options))
    manifest = read(asked)
    workshop = Workshop(reporter, manifest)
    design = workshop.settle(make_design(asked, manifest))
    places = cell_devices(asked, design, workshop.prepared(design.arms[0].config).dataset, reporter)
    folder = Path()
    trials = design.trials(folder)
    lrs = {arm.name: design.lrs[0] for arm in design.arms} if design.lrs else {}
    # The trial that was best is the first cell, and not trained again.
    cells = trials + [cell for cell in design.cells(folder, lrs) if cell.run.path not in {t.run.path for t in trials}]
    arms: list[dict[str, Any]] = []
    for arm in design.arms:
        step, seconds = _cell_seconds(arm.config, workshop.prepared(arm.config))
        count = sum(cell.arm.name == arm.name for cell in cells)
        arms.append({"arm": arm.name, "cells": count, "seconds_per_step": step, "seconds_per_cell": seconds})
    return {
        "arms": arms,
        "cells": len(cells),
        # Side by side on one device, they share what a step was timed with alone.
        "seconds": sum(arm["cells"] * arm["seconds_per_cell"] for arm in arms) / len(set(places)),
        "jobs": len(places),
        "seeds": list(design.seeds),
        "folds": len(design.folds),
        "lrs": list(design.lrs),
    }


def _cell_seconds(config: RunConfig, prepared: Prepared) -> tuple[float, float]:
    """Return the seconds of a step, measured, and of a whole training with its validations."""
    accelerator = make_accelerator(config)
    plan = replace(prepared.plan, pretrained=False)  # a step takes as long with any weights
    config = replace(config, lr=ANY_RATE)  # one that is to be found is a number only then
    learner = Learner(config, plan, prepared.dataset, accelerator, None)
    learner.begin_epoch(config.freeze or 0)
    batches = learner.epoch_batches(0)
    begun = 0.0
    done = 0
    for updates, batch in zip(range(UNTIMED + TIMED), batches, strict=False):
        if updates == min(UNTIMED, learner.steps - 1):
            begun = time.perf_counter()
        loss, _ = learner.step(batch, updates, 1)
        loss.item()  # waits for the device
        done += begun > 0
    step = (time.perf_counter() - begun) / done
    begun = time.perf_counter()
    predict_log_probs(learner.judged(), learner.criterion, learner.val_batches, accelerator.autocast)
    validation = time.perf_counter() - begun
    if config.seconds is not None:
        return step, config.seconds
    return step, (config.most_epochs or 1) * (learner.steps * step + validation)
