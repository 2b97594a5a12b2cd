"""A backbone of timm, the loss's own head on it, and the file format that carries both with all they need."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import timm
import torch
import yaml
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name the whole field uses

from ordage import losses
from ordage.eval import Calibration, OrdinalScale
from ordage.losses import OrdinalLoss

from . import nets  # importing it registers the built-in nets in timm
from .calibration import read_calibration
from .errors import DataError, MissingError, UsageError, did_you_mean
from .members import BackboneMembers, HeadMembers
from .transforms import LARGEST_DEFAULT, ImageSpec, default_size

if TYPE_CHECKING:
    from .config import TrainingConfig

__all__ = [
    "OWN_NETS",
    "VIEWS",
    "OrdinalModel",
    "Plan",
    "TrainedOn",
    "build_model",
    "load_model",
    "parse_loss",
    "plan_model",
    "save_model",
]

OWN_NETS = ("seed_cnn", "ordage_tiny", "ordage_small", "ordage_base")
# 1: the built-in nets halved their maps by the maximum alone, with the same weights; 2: seed_cnn flattened a map
# channel by channel, not place by place.
FORMAT = 3
# What test-time augmentation looks at: (mirrored, pixels from the top, pixels from the left) of each view.
VIEWS = {
    "none": ((False, 0, 0),),
    "flip": ((False, 0, 0), (True, 0, 0)),
    "shift": ((False, 0, 1), (True, 0, 1), (False, 1, 0), (True, 1, 0)),  # an image and its mirror image share them
}
GIVEN = ("class_values", "class_weights", "ignore_index", "reduction")  # options of every loss that training sets


@dataclass(frozen=True)
class Plan:
    """What the options leave open about model and input, decided.

    Attributes:
        model: name that timm knows.
        spec: how images are prepared.
        pretrained: whether training starts from pretrained weights.
        reason: why this model, in a few words.
        stem: ``small`` where the backbone begins with less shrinking than it was made for.
        members: how many of it are trained side by side and answer together.
    """

    model: str
    spec: ImageSpec
    pretrained: bool
    reason: str
    stem: str = "usual"
    members: int = 1

    @property
    def name(self) -> str:
        """The model, and how many of it."""
        return self.model if self.members == 1 else f"{self.members} x {self.model}"


def plan_model(config: TrainingConfig, native: tuple[int, int, int] | None) -> Plan:
    """Choose the model, the input size and the channels where the options do not.

    Args:
        config: the options.
        native: height, width and channels of the images where the source holds arrays.

    Raises:
        UsageError: timm knows no such model, or weights of an unknown one are given.
    """
    name, reason = (config.model, "as asked") if config.model != "auto" else _choose_model(config.weights)
    cfg = _known_cfg(name)
    if cfg is None:
        known = [*OWN_NETS, *timm.list_models()]
        raise UsageError(
            f"--model {name}: timm {timm.__version__} has no such model{did_you_mean(name, known)}; "
            "any name of timm.list_models(pretrained=True) will do, and " + ", ".join(OWN_NETS)
        )
    own = name in OWN_NETS
    if config.img_size is not None:
        size = config.img_size
    elif native is not None or own:
        size = default_size(native)
    else:
        size = cfg.input_size[-1] if cfg.fixed_input_size else min(cfg.input_size[-1], LARGEST_DEFAULT)
    chans = config.in_chans or (native[2] if native is not None else 3)
    data = resolve_model_data_config(None, pretrained_cfg=cfg.to_dict())
    mean, std = data["mean"], data["std"]
    if chans == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    has_weights = config.weights is not None or (config.pretrained and not own and timm.is_model_pretrained(name))
    spec = ImageSpec(size, chans, config.fit, data["interpolation"], tuple(mean), tuple(std))
    if own and config.stem == "small":
        raise UsageError(f"--stem small: {name} is made for small images as it is")
    return Plan(name, spec, has_weights, reason, config.stem, config.members or 1)


def _choose_model(weights: str | None) -> tuple[str, str]:
    """Return the net that suits where none is asked for, and why."""
    if weights is None:
        return "ordage_tiny", "one of the built-in nets"  # `choose_net` looks closer once the images are counted
    if not Path(weights).is_file():
        raise DataError(f"--weights {weights}: no such file")
    name = Path(weights).name.split(".")[0]
    if not timm.is_model(name):
        raise UsageError(f"--weights {weights}: say by --model which backbone they are of")
    return name, "as the weight file is named"


def _known_cfg(name: str) -> Any:
    """Return timm's description of a model, ``None`` for a name, or a tag behind the dot, that it does not have."""
    if not timm.is_model(name.split(".")[0]):
        return None
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:
        return None


class OrdinalModel(nn.Module):
    """From a batch of images to the logits of an ordinal loss.

    Args:
        backbone: maps ``(N, C, H, W)`` to ``(N, F)``; `BackboneMembers` to ``(N, M, F)``.
        head: maps ``(N, F)`` to ``(N, out_features)``, see `OrdinalLoss.make_head`; `HeadMembers` where there are
            several backbones.
        spec: gives the normalisation, which is part of the model: what it takes are pixels.
        tta: test-time augmentation: outside of training the logits are the mean over these `VIEWS` of an image.
    """

    factor: Tensor
    offset: Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, spec: ImageSpec, tta: str = "none") -> None:
        """Join the two."""
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.tta = tta
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        self.register_buffer("factor", 1 / (255 * std), persistent=False)
        self.register_buffer("offset", -mean / std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, out_features)`` of ``(N, C, H, W)`` pixels, 0 to 255, uint8 or float.

        In training those of several members stand apart, ``(N, M, out_features)``: each has its own loss.
        """
        pixels = self._normalize(images)
        views = VIEWS["none" if self.training else self.tta]
        each = [self.head(self.backbone(_view(pixels, *view))) for view in views]
        logits: Tensor = each[0] if len(each) == 1 else sum(each) / len(each)
        return logits.mean(1) if self.members > 1 and not self.training else logits

    @property
    def backbones(self) -> list[nn.Module]:
        """The backbone, or all that answer together."""
        return list(self.backbone.members) if isinstance(self.backbone, BackboneMembers) else [self.backbone]

    @property
    def members(self) -> int:
        """How many of them there are."""
        return len(self.backbones)

    def _normalize(self, images: Tensor) -> Tensor:
        """Return float pixels in channels-last memory, less the mean and over the deviation of their channel."""
        count, chans, height, width = images.shape
        images = images.to(self.factor.dtype, memory_format=torch.channels_last)
        if chans == 1:
            return torch.addcmul(self.offset, images, self.factor)
        # By lines of pixels: over channels, of which there are three, torch is four times as slow on a CPU.
        lines = images.permute(0, 2, 3, 1).reshape(count, height, width * chans)
        lines = torch.addcmul(self.offset.repeat(width), lines, self.factor.repeat(width))
        return lines.view(count, height, width, chans).permute(0, 3, 1, 2)


def _view(pixels: Tensor, mirrored: bool, down: int, right: int) -> Tensor:
    """Return images mirrored and moved by whole pixels; uncovered ones repeat the border, as in training."""
    height, width = pixels.shape[2:]
    reach = max(abs(down), abs(right))
    if mirrored:
        pixels = pixels.flip(-1)
    if reach:
        top, left = reach - down, reach - right
        pixels = F.pad(pixels, (reach,) * 4, mode="replicate")[..., top : top + height, left : left + width]
    return pixels


def parse_loss(spec: str) -> tuple[str, dict[str, Any]]:
    """Split ``name:option=value:…`` into the loss's name and its options.

    Raises:
        UsageError: no such loss, or not of that form.

    Example:
        >>> parse_loss("coral:monotone=true")
        ('coral', {'monotone': True})
    """
    name, *pairs = spec.split(":")
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--loss {spec}: expected {name}:option=value, but got {pair!r}")
        if key in GIVEN:
            raise UsageError(f"--loss {spec}: {key} is decided by the data and the training, not by hand")
        options[key] = _read_value(value)
    if name not in losses.available():
        known = ", ".join(losses.available())
        raise UsageError(f"--loss {name}: expected one of {known}{did_you_mean(name, losses.available())}")
    return name, options


def _read_value(text: str) -> Any:
    """Read a number, a list, true or false; YAML 1.1 alone takes ``1e-3`` for text."""
    try:
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        return yaml.safe_load(text)


def make_loss(spec: str, classes: OrdinalScale, class_weights: Tensor | None = None) -> OrdinalLoss:
    """Create the loss that ``spec`` names for the classes of a scale.

    Raises:
        UsageError: an option that the loss does not take.
    """
    name, options = parse_loss(spec)
    own = losses.own_options(name)
    for key in options:
        if key not in own:
            known = f"its options: {', '.join(own)}" if own else "it has none"
            raise UsageError(f"--loss {spec}: {name} has no option {key!r}{did_you_mean(key, own)} ({known})")
    try:
        return losses.create(name, len(classes), classes.values, class_weights=class_weights, **options)
    except (ValueError, TypeError) as error:
        raise UsageError(f"--loss {spec}: {error}") from None


def build_model(plan: Plan, criterion: OrdinalLoss, weights: str | None, prior: Tensor | None = None) -> OrdinalModel:
    """Create the backbone, with its weights where the plan says so, and the head of the loss.

    The backbone is drawn before the head, so that one seed gives every loss the same initial backbone. With a ``prior``
    every loss also starts from the same constant answer, the class shares of the training part, however its head
    writes it down; without it CORAL on years spends its first epochs on 100 biases.

    Raises:
        MissingError: pretrained weights cannot be had.
        DataError: the weight file does not fit.
    """
    backbones = [_backbone_with_stem(plan, weights) for _ in range(plan.members)]
    first = backbones[0]
    features = int(getattr(first, "head_hidden_size", None) or first.num_features)  # type: ignore[arg-type]
    heads = [criterion.make_head(features, prior=prior) for _ in backbones]
    if plan.members == 1:
        return OrdinalModel(first, heads[0], plan.spec)
    return OrdinalModel(BackboneMembers(backbones), HeadMembers(heads), plan.spec)


def _backbone_with_stem(plan: Plan, weights: str | None) -> nn.Module:
    backbone = _create_backbone(plan, weights)
    if plan.stem == "small":
        try:
            nets.shrink_stem(backbone, _known_cfg(plan.model).first_conv)
        except ValueError as error:
            raise UsageError(f"--stem small: not for {plan.model}: {error}") from None
    return backbone


def _create_backbone(plan: Plan, weights: str | None) -> nn.Module:
    options: dict[str, Any] = {"num_classes": 0, "in_chans": plan.spec.chans}
    cfg = timm.get_pretrained_cfg(plan.model)
    if cfg is not None and cfg.fixed_input_size:
        options["img_size"] = plan.spec.size
    if weights is not None:
        return _create_from_file(plan, Path(weights), options)
    hub_logger = logging.getLogger("huggingface_hub")
    level = hub_logger.level
    hub_logger.setLevel(logging.ERROR)  # its warnings on the way to an error that is reported below
    try:
        return timm.create_model(plan.model, pretrained=plan.pretrained, **options)
    except Exception as error:  # whatever the hub, the network or the file system has to say
        if not plan.pretrained:
            raise UsageError(
                f"--model {plan.model} at {plan.spec.size} pixels: {' '.join(str(error).split())}"
            ) from error
        _create_backbone(dataclasses.replace(plan, pretrained=False), None)  # raises where the weights are not to blame
        raise MissingError(
            f"the pretrained weights of {plan.model} cannot be downloaded ({type(error).__name__}); give a file "
            "by --weights FILE, or start from random weights by --no-pretrained"
        ) from error
    finally:
        hub_logger.setLevel(level)


def _create_from_file(plan: Plan, path: Path, options: dict[str, Any]) -> nn.Module:
    state = read_state_dict(path)

    def create() -> nn.Module:
        # timm's own way in: it renames, adapts the first convolution to the channels, leaves the classifier out.
        return timm.create_model(
            plan.model, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)}, **options
        )

    try:
        backbone = create()
        # timm does not complain of what the file lacks. What two random starts leave different was not in it.
        with torch.random.fork_rng():
            torch.manual_seed(torch.initial_seed() + 1)
            other = create().state_dict()
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        reason = reason if len(reason) < 200 else reason[:200] + "…"
        raise DataError(f"--weights {path}: does not fit {plan.model}: {reason}") from None
    lacking = [name for name, value in backbone.state_dict().items() if not torch.equal(value, other[name])]
    if lacking:
        raise DataError(
            f"--weights {path}: does not fit {plan.model}: {len(lacking)} of its tensors are not in the file, "
            f"the first: {lacking[0]}"
        )
    return backbone


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read weights from safetensors, or from a state dict that holds nothing but tensors.

    Raises:
        DataError: no such file, or a file that is neither, one that could run code included.
    """
    if not path.is_file():
        raise DataError(f"--weights {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            state: Any = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises whatever the bytes lead it to
        raise DataError(
            f"--weights {path}: neither safetensors nor a plain state dict ({type(error).__name__}); "
            "nothing else is loaded"
        ) from None
    for key in ("state_dict_ema", "model_ema", "state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"--weights {path}: expected a state dict of tensors")
    state = {str(key).removeprefix("module."): value for key, value in state.items()}
    for prefix in ("backbone.members.0.", "backbone."):  # a checkpoint of ordage has the backbone beside the head
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if own:
            return own
    return state


def save_model(
    folder: Path,
    model: OrdinalModel,
    plan: Plan,
    loss: str,
    classes: OrdinalScale,
    bins: OrdinalScale,
    *,
    trained_on: TrainedOn | None = None,
    tta: str = "none",
) -> None:
    """Write ``model.safetensors`` and ``model.json``: all that is needed to use the model elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "format": FORMAT,
        "model": plan.model,
        "stem": plan.stem,
        "members": plan.members,
        "loss": loss,
        "spec": plan.spec.to_dict(),
        "tta": tta,
        "classes": classes.to_dict(),
        "bins": bins.to_dict(),
        "trained_on": None if trained_on is None else dataclasses.asdict(trained_on),
    }
    weights = folder / "model.safetensors.part"
    # cloned, because safetensors refuses tensors that share memory, and contiguous, whatever the memory format
    state = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    safetensors.torch.save_file(state, weights)
    part = folder / "model.json.part"
    part.write_text(json.dumps(about, indent=2), encoding="utf-8")
    weights.replace(folder / "model.safetensors")
    part.replace(folder / "model.json")


@dataclass(frozen=True)
class TrainedOn:
    """What the images of the training set are like, as they come: median of the shorter side, share that is square."""

    side: int
    square_share: float


@dataclass(frozen=True)
class LoadedModel:
    """A model read from disk with what came along; its backbone's and its loss's name are first."""

    name: str
    loss: str
    model: OrdinalModel
    criterion: OrdinalLoss
    spec: ImageSpec
    classes: OrdinalScale
    bins: OrdinalScale
    calibration: Calibration | None
    trained_on: TrainedOn | None


def load_model(folder: Path) -> LoadedModel:
    """Read what `save_model` wrote, in evaluation mode, on the CPU.

    Raises:
        DataError: files missing or broken; nothing in them is ever executed.
    """
    try:
        about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise DataError(f"{folder}: format {about['format']}, but this ordage reads format {FORMAT}")
        spec = ImageSpec.from_dict(about["spec"])
        classes, bins = OrdinalScale.from_dict(about["classes"]), OrdinalScale.from_dict(about["bins"])
        criterion = make_loss(about["loss"], classes)
        plan = Plan(about["model"], spec, False, "", about.get("stem", "usual"), about.get("members", 1))
        model = build_model(plan, criterion, None)
        model.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))
        model.tta = about.get("tta", "none")
        calibration = read_calibration(folder)
        trained_on = TrainedOn(**about["trained_on"]) if about.get("trained_on") else None
    except FileNotFoundError as error:
        raise DataError(
            f"{folder}: no {Path(str(error.filename)).name}; expected a folder that `ordage fit` wrote"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder}: the model cannot be read: {' '.join(str(error).split())[:200]}") from None
    names = about["model"], about["loss"]
    return LoadedModel(*names, model.eval(), criterion, spec, classes, bins, calibration, trained_on)
