"""Small nets for small images, registered in timm.

Below about 96 pixels a stride-32 backbone ends in a 1x1 map, so most of it sees nothing. These keep resolution longer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from timm.layers import to_2tuple
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name the whole field uses

__all__ = ["FaceNet", "SeedCNN", "ordage_base", "ordage_small", "ordage_tiny", "seed_cnn", "shrink_stem"]


class _Backbone(nn.Module, ABC):
    """The part of timm's interface that a feature extractor needs."""

    num_features: int
    head_hidden_size: int
    num_classes: int
    head: nn.Module

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new classifier of ``num_classes`` outputs on the features, none for 0."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the classifier."""
        return self.head

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the last feature map ``(N, F, H', W')``."""

    @abstractmethod
    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map the last feature map to ``(N, num_features)``, or to ``(N, num_classes)`` with a classifier."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, num_features)``, or to ``(N, num_classes)`` with a classifier."""
        return self.forward_head(self.forward_features(x))


class SeedCNN(_Backbone):
    """Two 3x3 convolutions and a dense layer: the net of many first tutorials, kept as a point to start from.

    At 28x28x1 with 10 classes it has 203,434 parameters, of which the dense layer holds 90.6 %.
    """

    def __init__(self, num_classes: int = 0, in_chans: int = 3, img_size: int | tuple[int, int] = 28, **_: Any) -> None:
        """Build for images of ``img_size`` pixels, a side or height and width; the dense layer depends on it."""
        super().__init__()
        height, width = to_2tuple(img_size)
        self.stem = nn.Sequential(nn.Conv2d(in_chans, 64, 3), nn.ReLU(inplace=True))
        self.conv = nn.Sequential(nn.Conv2d(64, 32, 3), nn.ReLU(inplace=True))
        self.num_features = self.head_hidden_size = 32 * (height - 4) * (width - 4)
        self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the map of the second convolution, ``(N, 32, H - 4, W - 4)``."""
        features: Tensor = self.conv(self.stem(x))
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Flatten, the channels of a place side by side as Keras has them, and classify."""
        x = x.permute(0, 2, 3, 1).flatten(1)  # no copy of a map in channels-last memory
        out: Tensor = x if pre_logits else self.head(x)
        return out


class _Halve(nn.Module):
    """Halve a map by the average of overlapping maxima: which maximum is seen does not hang on where the grid lies.

    Zhang, "Making convolutional networks shift-invariant again", ICML 2019 (arXiv:1904.11486), with a filter of 2x2.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C, H // 2, W // 2)``."""
        # An even side has an odd number of maxima, and the last stands alone; without the pads of the paper.
        return F.avg_pool2d(F.max_pool2d(x, 2, stride=1), 2, ceil_mode=True, count_include_pad=False)


def _conv(in_width: int, width: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_width, width, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class FaceNet(_Backbone):
    """Plain stages of 3x3 convolutions, each on a map half as large as the one before, then the mean over what is left.

    No shortcuts: on so few layers they brought nothing for what they cost.

    Args:
        widths: channels of each stage.
        depths: convolutions of each stage; the first of the first one is the stem.
        num_classes: outputs of the classifier, 0 for the features alone.
        in_chans: input channels.
        img_size: side of the images in pixels, or height and width. Above 40 the stem halves the map, above 80 twice,
            so that four stages end near 4x4 and the cost stays near that of a small image. Any other size will do at
            use.
        drop_rate: dropout before the classifier.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        num_classes: int = 0,
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 32,
        drop_rate: float = 0.0,
        **_: Any,
    ) -> None:
        """Build for images of ``img_size`` pixels."""
        super().__init__()
        side = max(to_2tuple(img_size))
        width = widths[0]
        self.stem = _conv(in_chans, width, 2 if side > 40 else 1)
        stages = []
        for place, (stage_width, depth) in enumerate(zip(widths, depths, strict=True)):
            layers: list[nn.Module] = [_Halve()] if place else []
            for _layer in range(depth if place else depth - 1):
                halve = side > 80 and not place and not layers
                layers.append(_conv(width, stage_width, 2 if halve else 1))
                width = stage_width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.drop = nn.Dropout(drop_rate)
        self.num_features = self.head_hidden_size = width
        self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map."""
        features: Tensor = self.stages(self.stem(x))
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify."""
        x = self.drop(x.mean((2, 3)))
        out: Tensor = x if pre_logits else self.head(x)
        return out

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Tell timm's layer decay which parameters belong to which depth."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)"}


def shrink_stem(backbone: nn.Module, first_conv: str | Sequence[str]) -> None:
    """Let a backbone that begins by shrinking the image do so half as much, and without the pool that follows.

    Its weights still fit, and every later map is twice or four times as large in each direction. A backbone of stride
    32 sees a 32x32 image as one point otherwise.

    Args:
        backbone: of timm; changed in place.
        first_conv: timm's name of the first convolution, or of all that work side by side.

    Raises:
        ValueError: its stem is none that can be changed without its weights.
    """
    for name in [first_conv] if isinstance(first_conv, str) else first_conv:
        conv = backbone.get_submodule(name)
        if "patch_embed" in name or not isinstance(conv, nn.Conv2d) or min(conv.stride) < 2:
            raise ValueError("its first layer cuts patches or keeps the size")
        (stride, _), (kernel, _) = conv.stride, conv.kernel_size
        conv.stride = (stride // 2, stride // 2)
        if kernel == stride and not isinstance(conv.padding, str):  # patches side by side, which now overlap
            conv.padding = ((kernel - stride // 2) // 2,) * 2
    for pool in ("maxpool", "features.pool0"):  # of the ResNets, and of the DenseNets
        owner, _, attribute = pool.rpartition(".")
        with suppress(AttributeError):
            parent = backbone.get_submodule(owner)
            if isinstance(getattr(parent, attribute), nn.MaxPool2d):
                setattr(parent, attribute, nn.Identity())


def _cfg(size: int) -> dict[str, Any]:
    """Describe a net as timm does; no weights are published for it, so training starts from scratch."""
    return {
        "url": "",
        "num_classes": 0,
        "input_size": (3, size, size),
        "fixed_input_size": True,  # asks timm to pass the size on
        "interpolation": "bilinear",
        "mean": (0.5,) * 3,
        "std": (0.25,) * 3,
        "classifier": "head",
        "first_conv": "stem.0",
    }


# The name under which timm's registry looks for them.
default_cfgs = generate_default_cfgs(
    {"seed_cnn": _cfg(28), "ordage_tiny": _cfg(32), "ordage_small": _cfg(32), "ordage_base": _cfg(64)}
)


@register_model
def seed_cnn(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Conv 64, conv 32, flatten, dense: what the first try usually looks like."""
    return build_model_with_cfg(SeedCNN, "seed_cnn", pretrained, **kwargs)


@register_model
def ordage_tiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """A quick net for images of 24 to 64 pixels on a CPU, 0.3 million parameters."""
    return _face_net("ordage_tiny", (16, 32, 64, 128), pretrained, kwargs)


@register_model
def ordage_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Two thirds of the tiny one's speed, 0.7 million parameters."""
    return _face_net("ordage_small", (16, 48, 96, 192), pretrained, kwargs)


@register_model
def ordage_base(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """A third of the tiny one's speed on a CPU, the same on a GPU, 1.2 million parameters."""
    return _face_net("ordage_base", (32, 64, 128, 256), pretrained, kwargs)


def _face_net(name: str, widths: tuple[int, ...], pretrained: bool, options: dict[str, Any]) -> nn.Module:
    net: nn.Module = build_model_with_cfg(FaceNet, name, pretrained, widths=widths, depths=(2, 2, 2, 2), **options)
    return net
