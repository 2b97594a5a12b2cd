"""What is compared: arms, each a way of training, and the cells in which they are trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..config import REFERENCE, CompareConfig, RunConfig
from ..data.manifest import Manifest
from ..runs import Run
from ..workspace import file_name
from .ladder import climb

__all__ = ["Arm", "Cell", "Design", "make_design"]


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
        name: what tables call it.
        config: its options, with the first seed and the first fold.
        against: name of the arm that it is held against first of all.
    """

    name: str
    config: RunConfig
    against: str | None = None

    @property
    def loss(self) -> str:
        """Its loss."""
        return self.config.loss


@dataclass(frozen=True)
class Cell:
    """One training of an arm.

    Attributes:
        arm: which.
        config: its options.
        run: where it is.
    """

    arm: Arm
    config: RunConfig
    run: Run

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.config.seed

    @property
    def fold(self) -> int | None:
        """The fold that it is tested on."""
        return self.config.fold

    @property
    def key(self) -> tuple[str, int, int | None]:
        """What tells it apart, its learning rate aside."""
        return self.arm.name, self.seed, self.fold

    @property
    def title(self) -> str:
        """What a line about it begins with."""
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{self.arm.name}, seed {self.seed}{fold}"


@dataclass(frozen=True)
class Design:
    """All that will be trained.

    Attributes:
        arms: the ways of training, the reference last.
        seeds: each arm is trained with each.
        folds: and tested on each; None alone where there are none.
        lrs: peak learning rates to choose from, with the first seed and fold; none for the arm's own.
    """

    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    folds: tuple[int | None, ...]
    lrs: tuple[float, ...] = ()

    def trials(self, folder: Path) -> list[Cell]:
        """Return the cells that the learning rates are chosen by."""
        first = self.seeds[0], self.folds[0]
        return [self._cell(folder, arm, *first, lr) for lr in self.lrs for arm in self.arms]

    def cells(self, folder: Path, lrs: Mapping[str, float]) -> list[Cell]:
        """Return every arm with every seed and fold; whole rounds, so that what is interrupted can be compared.

        Args:
            folder: of the comparison.
            lrs: learning rate of each arm by its name, where it was chosen; an arm without one has no cells.
        """
        return [
            self._cell(folder, arm, seed, fold, lrs.get(arm.name))
            for fold in self.folds
            for seed in self.seeds
            for arm in self.arms
            if not self.lrs or arm.name in lrs
        ]

    def _cell(self, folder: Path, arm: Arm, seed: int, fold: int | None, lr: float | None) -> Cell:
        changes: dict[str, Any] = {"seed": seed, "fold": fold} | ({} if lr is None else {"lr": lr})
        name = "-".join(
            [
                file_name(arm.name),
                *([] if lr is None else [f"lr{lr:g}"]),
                *([] if fold is None else [f"fold{fold}"]),
                f"seed{seed}",
            ]
        )
        return Cell(arm, dataclasses.replace(arm.config, **changes), Run(folder / "cells" / name))

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON holds it."""
        arms = [{"name": arm.name, "against": arm.against, "config": arm.config.to_dict()} for arm in self.arms]
        return {"arms": arms, "seeds": list(self.seeds), "folds": list(self.folds), "lrs": list(self.lrs)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return what `to_dict` wrote."""
        arms = tuple(Arm(arm["name"], RunConfig.parse(arm["config"]), arm["against"]) for arm in data["arms"])
        return cls(arms, tuple(data["seeds"]), tuple(data["folds"]), tuple(data["lrs"]))


def make_design(config: CompareConfig, manifest: Manifest) -> Design:
    """Return what the options ask for, each arm's own options still open where they leave them open."""
    folds = _folds(config, manifest)
    changes = climb(config, manifest) if config.ladder else _grid(config)
    arms = tuple(Arm(name, config.run({**own, "fold": folds[0]}), against) for name, own, against in changes)
    return Design(arms, config.seeds, folds, config.lrs)


def _grid(config: CompareConfig) -> list[tuple[str, dict[str, Any], str | None]]:
    """Return every loss on every backbone: name, options and what it is held against, which shares its backbone."""
    found = []
    for model in config.models or (config.model,):
        names = {loss: f"{loss}, {model}" if len(config.models) > 1 else loss for loss in config.losses}
        for loss in config.losses:
            against = names.get(REFERENCE) if loss != REFERENCE else None
            found.append((names[loss], {"loss": loss, "model": model}, against))
    return found


def _folds(config: CompareConfig, manifest: Manifest) -> tuple[int | None, ...]:
    if config.fold is not None:
        return (config.fold,)
    if config.folds is not None:
        return tuple(range(config.folds))
    table = manifest.table
    if config.splits is None and "part" not in table and "fold" in table:  # the folds that the data brings
        return tuple(range(int(table["fold"].max()) + 1))
    return (None,)
