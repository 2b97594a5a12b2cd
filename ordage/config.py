"""What a run is asked to do: one validated, typed object, from YAML, from the command line, or from Python.

The fields below are the one home of every option: its name, type, default and help. The command line makes its flags
from them, YAML uses the same names as keys. Plain dataclasses keep ``ordage --help`` quick; pydantic validates them
when a configuration is really used.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from .errors import DataError, UsageError, did_you_mean

__all__ = ["REFERENCE", "CompareConfig", "DataConfig", "RunConfig", "TrainingConfig", "read_duration", "read_yaml"]


REFERENCE = "softmax"  # the loss that all others are held against


def option(default: Any, help: str, *, panel: str, flags: tuple[str, ...] = (), minimum: float | None = None) -> Any:
    """Declare a configuration field that is also a command-line flag.

    Args:
        default: value when the user says nothing; ``None`` where it is chosen from the data and the model.
        help: one line for ``--help``.
        panel: heading under which ``--help`` shows it.
        flags: flag names where they differ from ``--field-name``.
        minimum: smallest value allowed.
    """
    return field(default=default, metadata={"help": help, "panel": panel, "flags": flags, "minimum": minimum})


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The options that say which data is meant and how it is read: what ``inspect`` takes, and all that train."""

    data: str = option("demo", "Folder, table or arrays; the built-in demo set when left out.", panel="Data")
    layout: str | None = option(None, "How the data lies on disk; recognised by itself.", panel="Data")
    image_root: str | None = option(None, "Folder that the table's image paths start from.", panel="Data")
    image_col: str | None = option(None, "Column with the image paths.", panel="Data")
    age_col: str | None = option(None, "Column with the ages or age intervals.", panel="Data")
    subject_col: str | None = option(
        None, "Column that tells whose image it is; no person gets on two sides.", panel="Data"
    )
    group_col: tuple[str, ...] = option((), "Columns to carry along as groups, separated by commas.", panel="Data")
    split_col: str | None = option(None, "Column with train, val or test.", panel="Data")
    bins: str | None = option(
        None,
        "Bins to judge on: '0-10,11-20,21+'; '10', that many of equal width; 'width:5', of so many years; "
        "'quantile:8'; 'years'.",
        panel="Data",
    )
    train_on: Literal["years", "bins"] | None = option(
        None, "Classes of the model; years when exact ages are known.", panel="Data"
    )
    splits: str | None = option(
        None, "A splits.csv to use again, or a JSON file of the Facial-Age-Estimation-Benchmark.", panel="Data"
    )
    split_seed: int = option(0, "Seed of the split, the same for every training seed.", panel="Data", minimum=0)
    folds: int | None = option(
        None,
        "Make so many folds: one is tested, the one before it validates, the others train.",
        panel="Data",
        minimum=3,
    )
    fold: int | None = option(
        None,
        "Which fold is tested, also of folds that the data brings; the first, 0, when left out, and in compare every "
        "one in turn.",
        panel="Data",
        minimum=0,
    )
    near_duplicates: bool = option(
        False,
        "Keep near-identical images on one side of the split too, not only identical ones.",
        panel="Data",
        flags=("--near-duplicates",),
    )
    allow_rejected: bool = option(
        False, "Go on although more than 1 % of the samples cannot be read.", panel="Data", flags=("--allow-rejected",)
    )
    cache_limit: float | None = option(
        None,
        "Sets that take more GB decoded are decoded anew every epoch instead of cached; half of the free disk.",
        panel="Data",
        minimum=0,
    )

    img_size: int | None = option(
        None,
        "Side of the square input, in pixels: 64 for the built-in nets, at most 128 for others, or as arrays have it.",
        panel="Input",
        minimum=8,
    )
    in_chans: Literal[1, 3] | None = option(None, "1 for grey, 3 for colour.", panel="Input")
    fit: Literal["crop", "pad", "stretch"] = option(
        "crop", "How an image that is not square becomes so.", panel="Input"
    )

    __pydantic_config__ = {"coerce_numbers_to_str": True}  # noqa: RUF012 - pydantic's name; YAML reads `bins: 10` as 10

    @classmethod
    def field(cls, name: str) -> dataclasses.Field[Any]:
        """Return the field called ``name`` or raise `UsageError` with the closest one."""
        fields = {f.name: f for f in dataclasses.fields(cls)}
        if name not in fields:
            raise UsageError(f"unknown option {name!r}{did_you_mean(name, fields)}")
        return fields[name]

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Self:
        """Validate options given by name.

        Args:
            options: field names and values; values may be text, as YAML and shells give them.

        Raises:
            UsageError: unknown name, wrong type or value out of range; the message names the option.
        """
        import pydantic

        for name in options:
            cls.field(name)
        try:
            config: Self = pydantic.TypeAdapter(cls).validate_python(dict(options))
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else "option"
            message = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            if message.startswith("--"):  # an error of our own, which says all
                raise UsageError(message) from None
            if name == "lr":  # of the two errors, one for each type, neither says the other
                message = "a number or 'find'"
            raise UsageError(f"Expected {name} to be {message}, but got {first['input']!r}") from None
        for declared in dataclasses.fields(config):
            minimum, value = declared.metadata["minimum"], getattr(config, declared.name)
            if minimum is not None and isinstance(value, (int, float)) and not value >= minimum:
                raise UsageError(f"Expected {declared.name} to be at least {minimum:g}, but got {value:g}")
        return config

    @property
    def given(self) -> dict[str, Any]:
        """The options that are not as they are when left out, as `to_dict` returns them."""
        usual = type(self)().to_dict()
        return {name: value for name, value in self.to_dict().items() if value != usual[name]}

    def to_dict(self) -> dict[str, Any]:
        """Return the options as YAML and JSON can hold them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(DataConfig):
    """The options that ``fit`` and ``compare`` share."""

    augment: Literal["none", "light", "full"] | None = option(
        None,
        "light: flip, shift, tone, a square erased; full: half are rotated and scaled too, on a GPU and in long runs.",
        panel="Input",
    )

    model: str = option(
        "auto",
        "Any timm backbone, seed_cnn, ordage_tiny, _small or _base; auto: what --weights are of, or the one of "
        "these three that suits time and device.",
        panel="Model",
    )
    stem: Literal["usual", "small"] = option(
        "usual", "small: shrink the image less at the start, for images far below 224 pixels.", panel="Model"
    )
    members: int | None = option(
        None,
        "Nets of the kind that are trained side by side and answer together; with --model auto as many as "
        "--time-limit allows, else 1.",
        panel="Model",
        minimum=1,
    )
    weights: str | None = option(None, "File with the backbone's weights (safetensors or state dict).", panel="Model")
    pretrained: bool = option(
        True,
        "Start from timm's pretrained weights, where there are any.",
        panel="Model",
        flags=("--pretrained/--no-pretrained",),
    )

    epochs: int | None = option(
        None,
        "Passes over the training part; 30, or as many as --time-limit allows.",
        panel="Training",
        minimum=1,
    )
    time_limit: str | None = option(
        None,
        "Longest time of each training, such as 90s, 10m or 1h30m; the learning rate's schedule is fitted into it.",
        panel="Training",
    )
    batch_size: int | None = option(
        None,
        "Images in a step, of all processes together; up to 128 for the built-in nets, 64 for others.",
        panel="Training",
        flags=("--batch-size", "-b"),
        minimum=1,
    )
    lr: float | Literal["find"] | None = option(
        None,
        "Peak learning rate; 8e-3 with muon, else 2e-3 from scratch, 3e-4 pretrained. find: by a range test.",
        panel="Training",
        minimum=0,
    )
    opt: str | None = option(
        None, "muon, or any optimiser of timm; muon for the built-in nets, adamw for all others.", panel="Training"
    )
    weight_decay: float = option(0.05, "Not on norms and biases.", panel="Training", minimum=0)
    layer_decay: float | None = option(
        None, "Learning-rate factor from one layer to the one below.", panel="Training", minimum=0
    )
    warmup_epochs: float = option(1.0, "Epochs of linear warm-up before the cosine.", panel="Training", minimum=0)
    freeze: int | None = option(
        None,
        "First epochs that train the head alone; 1 with pretrained weights, 0 under a time limit.",
        panel="Training",
        minimum=0,
    )
    ema: float = option(
        0.999, "Decay of the weights' moving average, which is judged and kept; 0: none.", panel="Training", minimum=0
    )
    patience: int | None = option(
        None,
        "Epochs without a better validation MAE before it stops; the whole schedule when left out.",
        panel="Training",
        minimum=1,
    )
    class_weights: Literal["balanced", "effective"] | None = option(None, "Weigh rare classes more.", panel="Training")
    sampling: Literal["shuffle", "balanced"] = option(
        "shuffle",
        "shuffle: every sample once in an epoch; balanced: every bin equally often, so rare ones repeat.",
        panel="Training",
    )
    tta: Literal["none", "flip", "shift"] | None = option(
        None,
        "Views that a prediction is the mean of; flip: the image and its mirror image; shift: four, moved by a pixel.",
        panel="Training",
    )

    device: str | None = option(None, "cpu, cuda, cuda:1, mps; the best there is when left out.", panel="Machine")
    precision: Literal["fp32", "bf16", "fp16"] | None = option(
        None, "bf16 where the device has it and the net gains by it, fp16 on older GPUs, else fp32.", panel="Machine"
    )
    compile: bool = option(False, "Compile the model with torch.compile.", panel="Machine", flags=("--compile",))
    record: bool = option(
        True,
        "Record a GPU's training step once and replay it: the same, several times as fast for small nets.",
        panel="Machine",
        flags=("--record/--no-record",),
    )
    deterministic: bool = option(
        False, "Prefer algorithms that repeat bit for bit, also on a GPU.", panel="Machine", flags=("--deterministic",)
    )

    usual_epochs = 30  # without a time limit; no annotation, or it would be an option

    def __post_init__(self) -> None:
        """Read what has a form of its own, so that an error is told before any work.

        Raises:
            UsageError: a time limit that is none.
        """
        if self.time_limit is not None:
            read_duration(self.time_limit)

    @property
    def seconds(self) -> float | None:
        """The time limit in seconds, if there is one."""
        return None if self.time_limit is None else read_duration(self.time_limit)

    @property
    def most_epochs(self) -> int | None:
        """The number of epochs; ``None`` for as many as the time limit allows."""
        return self.epochs or (None if self.time_limit is not None else self.usual_epochs)


@dataclass(frozen=True, kw_only=True)
class RunConfig(TrainingConfig):
    """One training run: ``ordage fit``."""

    devices: str = option(
        "1",
        "Processes that train one model together, each on its GPU or share of the cores; all: every GPU.",
        panel="Machine",
    )
    log: tuple[str, ...] = option(
        (), "Show the run in tensorboard, wandb or mlflow; several with commas between.", panel="Run"
    )
    loss: str = option(
        "dldl-v2:mean_weight=0.1", "See `ordage losses`; options after colons, e.g. coral:monotone=true.", panel="Model"
    )
    seed: int = option(0, "Initial weights, batch order and augmentation.", panel="Training", minimum=0)


@dataclass(frozen=True, kw_only=True)
class CompareConfig(TrainingConfig):
    """The same protocol over several losses, seeds, folds and backbones: ``ordage compare``."""

    losses: tuple[str, ...] = option(
        ("coral", "softmax"),
        "Losses to compare, separated by commas; see `ordage losses`.",
        panel="Model",
        flags=("--losses", "--loss"),
    )
    models: tuple[str, ...] = option(
        (), "Backbones to compare the losses on, separated by commas, instead of one --model.", panel="Model"
    )
    seeds: tuple[int, ...] = option(
        (0, 1, 2), "Training seeds, separated by commas.", panel="Training", flags=("--seeds", "--seed")
    )
    lrs: tuple[float, ...] = option(
        (),
        "Peak learning rates to try for every loss alike; the one that is best on validation, by the first seed, "
        "trains all seeds.",
        panel="Training",
    )
    baseline: bool = option(
        True, "Also train plain softmax as the reference.", panel="Model", flags=("--baseline/--no-baseline",)
    )
    ladder: bool = option(
        False,
        "Instead of losses, compare the steps from a plain small net to the best that the data allows, each with "
        "what it brings.",
        panel="Model",
        flags=("--ladder",),
    )
    epochs: int | None = option(
        None, "Passes over the training part; 12, or as many as --time-limit allows.", panel="Training", minimum=1
    )
    jobs: int | None = option(
        None,
        "Trainings side by side, each in a process with its share of the cores; on a CPU without a time limit one a "
        "core, at most 4, else 1.",
        panel="Machine",
        minimum=1,
    )
    devices: str = option(
        "1", "GPUs that the trainings are dealt to, as many side by side; all: every one.", panel="Machine"
    )

    usual_epochs = 12

    def __post_init__(self) -> None:
        """Put the reference last and refuse repeated cells."""
        super().__post_init__()
        losses = self.losses
        if self.baseline and REFERENCE not in losses:
            losses = (*losses, REFERENCE)
        axes: dict[str, tuple[Any, ...]] = {"losses": losses, "seeds": self.seeds}
        for name, values in {**axes, "models": self.models, "lrs": self.lrs}.items():
            if len(set(values)) < len(values) or (name in axes and not values):
                raise ValueError(f"one or more different {name}")
        if self.models and self.model != "auto":
            raise ValueError("--models or --model, not both")
        if self.lrs and self.lr is not None:
            raise ValueError("--lrs or --lr, not both")
        object.__setattr__(self, "losses", losses)

    def run(self, changes: Mapping[str, Any]) -> RunConfig:
        """Return the options of one training, with the first seed, and with ``changes`` of these."""
        shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(TrainingConfig)}
        shared["epochs"] = self.most_epochs
        return RunConfig(**{**shared, "seed": self.seeds[0], **changes})


def read_duration(text: str) -> float:
    """Return seconds, at least one.

    Raises:
        UsageError: the text is no duration.

    Example:
        >>> read_duration("90"), read_duration("10m"), read_duration("1h30m")
        (90.0, 600.0, 5400.0)
    """
    number = r"(\d+(?:\.\d+)?)"
    form = rf"{number}|(?:{number}\s*h)?\s*(?:{number}\s*m(?:in)?)?\s*(?:{number}\s*s)?"
    found = re.fullmatch(form, text.strip())
    parts = found.groups() if found else ()
    seconds = sum(factor * float(part or 0) for factor, part in zip((1, 3600, 60, 1), parts, strict=False))
    if seconds < 1:
        raise UsageError(f"--time-limit {text}: expected a time of a second or more, such as 90s, 10m or 1h30m")
    return float(seconds)


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read options from a YAML file whose keys are option names, ``-`` and ``_`` alike."""
    import yaml

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"--config {path}: not a YAML file ({' '.join(str(error).split())})") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise DataError(f"--config {path}: expected 'option: value' lines, but got a {type(content).__name__}")
    return {str(name).replace("-", "_"): value for name, value in content.items()}
