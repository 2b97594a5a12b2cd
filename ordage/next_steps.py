"""What to try next, each with the command that tries it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .config import CompareConfig, DataConfig, RunConfig

__all__ = ["NextStep", "command_line", "next_steps"]

COMMANDS: dict[str, type[DataConfig]] = {"fit": RunConfig, "compare": CompareConfig}
SWEEPS = {"model": "models", "lr": "lrs"}  # what an option of one value cannot stand beside
# What the ladder's command leaves out: what it sets itself, what is chosen for each net, and what fit alone means so.
LADDER_SETS = (
    *("model", "models", "loss", "losses", "augment", "train_on", "baseline", "ladder"),
    *("opt", "lr", "lrs", "batch_size", "devices"),
)


@dataclass(frozen=True)
class NextStep:
    """Something to try.

    Attributes:
        what: in a few words.
        why: the finding that suggests it, with its evidence.
        command: to be typed.
    """

    what: str
    why: str
    command: str


def next_steps(command: str, given: Mapping[str, Any], diagnosis: Iterable[Mapping[str, Any]]) -> list[NextStep]:
    """Return what the findings on a model suggest, the gravest first, and at the end the ladder.

    Args:
        command: ``fit`` or ``compare``, which made the model.
        given: the options that it was given.
        diagnosis: the findings, as a report holds them.
    """
    steps = []
    for finding in [] if given.get("ladder") else diagnosis:  # the ladder's steps set these options themselves
        for tried in finding.get("tries", []):
            why = f"{finding['name']}: {finding['evidence']}"
            options = tried["options"]
            dropped = [SWEEPS[name] for name in options if name in SWEEPS]
            kept = {name: value for name, value in given.items() if name not in dropped}
            steps.append(NextStep(tried["what"], why, command_line(command, {**kept, **options})))
    if not given.get("ladder"):
        kept = {name: value for name, value in given.items() if name not in LADDER_SETS and _known("compare", name)}
        why = "from a plain small net upwards, each change by itself and with its interval"
        steps.append(NextStep("see what each step brings", why, command_line("compare", {**kept, "ladder": True})))
    return steps


def command_line(command: str, options: Mapping[str, Any]) -> str:
    """Return the command that a shell takes for these options.

    Example:
        >>> command_line("fit", {"data": "my faces", "img_size": 64, "pretrained": False, "log": ("wandb", "mlflow")})
        "ordage fit 'my faces' --img-size 64 --no-pretrained --log wandb,mlflow"
    """
    config = COMMANDS[command]
    words = ["ordage", command]
    if "data" in options:
        words.append(str(options["data"]))
    for name, value in options.items():
        if name == "data" or value is None:
            continue
        flag = (config.field(name).metadata["flags"] or (f"--{name.replace('_', '-')}",))[0]
        yes, _, no = flag.partition("/")
        if isinstance(value, bool):
            words += [yes] if value else [no] if no else []
        else:
            words += [yes, ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)]
    return shlex.join(words)


def _known(command: str, name: str) -> bool:
    return name in {field.name for field in dataclasses.fields(COMMANDS[command])}
