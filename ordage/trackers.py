"""Where the figures of a run are shown while it goes on, by accelerate's trackers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .errors import MissingError, UsageError, did_you_mean

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .config import RunConfig
    from .runs import Run

__all__ = ["check_trackers", "log", "tracked"]

TRACKERS = ("tensorboard", "wandb", "mlflow")  # each the name of its package and of our extra


def check_trackers(names: Sequence[str]) -> None:
    """Make sure that these trackers can be used.

    Raises:
        UsageError: one that is not known.
        MissingError: one that is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"--log {name}: expected one of {', '.join(TRACKERS)}{did_you_mean(name, TRACKERS)}")
        if find_spec(name) is None:
            raise MissingError(f"--log {name}: it is not installed; pip install 'ordage[{name}]'")


@contextmanager
def tracked(config: RunConfig, run: Run, accelerator: Accelerator) -> Iterator[None]:
    """Let the accelerator's trackers follow a run while the block lasts."""
    if not config.log:
        yield
        return
    plain = {name: value if _is_plain(value) else str(value) for name, value in config.to_dict().items()}
    named = {"wandb": {"name": run.path.name, "dir": str(run.path)}, "mlflow": {"run_name": run.path.name}}
    accelerator.init_trackers("ordage", plain, {name: named[name] for name in config.log if name in named})
    try:
        yield
    finally:
        for tracker in accelerator.trackers:  # not end_training, which would also part the processes
            tracker.finish()


def log(accelerator: Accelerator, figures: Mapping[str, Any], epoch: int) -> None:
    """Show an epoch's figures."""
    if getattr(accelerator, "trackers", None):
        accelerator.log({name: float(value) for name, value in figures.items() if name != "epoch"}, step=epoch)


def _is_plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str))
