"""What the cells of a comparison need, made once for all that need the same."""

from __future__ import annotations

import dataclasses

from ..cell import Prepared, prepare_run
from ..config import RunConfig
from ..data.layouts import read
from ..data.manifest import Manifest
from ..progress import Reporter
from .design import Arm, Design

__all__ = ["Workshop"]


class Workshop:
    """Data and models in preparation.

    Images are decoded once, into the cache that all preparations share; what is kept here is their assignment to
    classes and parts, and the choice of a model.
    """

    def __init__(self, reporter: Reporter, manifest: Manifest | None = None) -> None:
        """Take a manifest that is read already; others are read when they are needed."""
        self._reporter, self._manifest = reporter, manifest
        self._made: dict[RunConfig, Prepared] = {}

    def settle(self, design: Design) -> Design:
        """Return the design with nothing left open in the options of its arms, and all of them tried.

        Raises:
            OrdageError: as `prepare_run` does.
        """
        settled: dict[RunConfig, RunConfig] = {}
        arms = []
        for arm in design.arms:
            shared = _shared(arm.config)
            if shared not in settled:
                losses = [other.loss for other in design.arms if _shared(other.config) == shared]
                settled[shared] = self._prepare(arm.config, losses, check_weights=True)
            arms.append(Arm(arm.name, dataclasses.replace(settled[shared], loss=arm.loss), arm.against))
        return dataclasses.replace(design, arms=tuple(arms))

    def prepared(self, config: RunConfig) -> Prepared:
        """Return what a cell with these options needs, none of which may be open."""
        shared = _shared(config)
        if shared not in self._made:
            # Folds come one after another: what was made for another one is not needed again.
            self._made = {key: made for key, made in self._made.items() if key.fold == config.fold}
            self._prepare(config, [config.loss], check_weights=False)
        return self._made[shared]

    def _prepare(self, config: RunConfig, losses: list[str], *, check_weights: bool) -> RunConfig:
        """Prepare for some options, and return these with nothing left open."""
        # A preparation notes in the manifest what it rejects, so that each begins with one of its own.
        manifest, self._manifest = self._manifest or read(config), None
        made, resolved = prepare_run(config, manifest, losses, self._reporter, check_weights=check_weights)
        self._made[_shared(resolved)] = made
        self._reporter = Reporter(max(0, self._reporter.level - 1))  # most of it has been said
        return resolved


def _shared(config: RunConfig) -> RunConfig:
    """Return the options that preparation looks at."""
    return dataclasses.replace(config, loss="", seed=0, lr=None)
