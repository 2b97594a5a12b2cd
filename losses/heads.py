"""The last layers that losses ask for: features in, logits out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from .checks import as_integer


def set_bias(bias: Tensor, values: Tensor) -> None:
    """Overwrite a parameter without recording it."""
    with torch.no_grad():
        bias.copy_(values)


def linear_head(in_features: int, out_features: int) -> nn.Linear:
    """Return a linear layer.

    Example:
        >>> linear_head(8, 3)(torch.zeros(2, 8)).shape
        torch.Size([2, 3])
    """
    return nn.Linear(as_integer("in_features", in_features, 1), as_integer("out_features", out_features, 1))


def coral_head(in_features: int, num_classes: int, biases: Tensor | None = None) -> nn.Module:
    """Return the CORAL layer of ``coral-pytorch``: one weight vector, K - 1 free biases.

    Args:
        in_features: Number of features.
        num_classes: Number of classes K.
        biases: ``(K - 1,)`` to start from, instead of evenly spaced ones from 1 to 1 / (K - 1).

    Raises:
        ImportError: if ``coral-pytorch`` is not installed.

    Example:
        >>> coral_head(8, num_classes=3)(torch.zeros(2, 8)).shape
        torch.Size([2, 2])
    """
    in_features = as_integer("in_features", in_features, at_least=1)
    num_classes = as_integer("num_classes", num_classes, at_least=2)
    try:
        # Only this head needs the package: the losses themselves run on torch alone.
        from coral_pytorch.layers import CoralLayer  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise ImportError(
            "The CORAL head is the layer of coral-pytorch, which is not installed: run `pip install coral-pytorch`, "
            "or pass `monotone=True` for a head that needs no other package"
        ) from error
    head: nn.Module = CoralLayer(in_features, num_classes)
    if biases is not None:
        set_bias(head.get_parameter("coral_bias"), biases)
    return head


class OrderedHead(nn.Module):
    r"""A shared weight vector and biases that decrease by construction.

    .. math:: z_k = w^\top x + b_0 - \sum_{0 < j \le k} \operatorname{softplus}(d_j)

    so :math:`\sigma(z_k)` never increases in k, whatever the parameters are. It starts from the biases of
    ``coral_pytorch.layers.CoralLayer``: evenly spaced from 1 down to 1 / (K - 1).

    Args:
        in_features: Number of features.
        num_classes: Number of classes K.
        biases: ``(K - 1,)`` to start from, each smaller than the one before it.

    Raises:
        ValueError: if a number is not an integer of at least 1, or 2 for the classes.

    Example:
        >>> OrderedHead(8, num_classes=5)(torch.zeros(8))
        tensor([1.0000, 0.7500, 0.5000, 0.2500], grad_fn=<AddBackward0>)
    """

    def __init__(self, in_features: int, num_classes: int, biases: Tensor | None = None) -> None:
        super().__init__()
        in_features = as_integer("in_features", in_features, at_least=1)
        num_classes = as_integer("num_classes", num_classes, at_least=2)
        self.weight = nn.Linear(in_features, 1, bias=False)
        if biases is None:
            biases = torch.arange(num_classes - 1, 0, -1) / (num_classes - 1)
        falls = biases[:-1] - biases[1:]
        self.first_bias = nn.Parameter(biases[:1].clone())
        # The inverse of softplus, log(expm1(x)), in a form that does not overflow.
        self.steps = nn.Parameter(falls + torch.log(-torch.expm1(-falls)))

    def biases(self) -> Tensor:
        """Return the ``(K - 1,)`` biases, none larger than the one before it.

        Example:
            >>> OrderedHead(8, num_classes=3).biases().detach()
            tensor([1.0000, 0.5000])
        """
        steps = F.softplus(self.steps).cumsum(0)
        return self.first_bias - F.pad(steps, (1, 0))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., K - 1)`` logits."""
        scores: Tensor = self.weight(features)
        return scores + self.biases()


class ValueHead(nn.Module):
    r"""One predicted value, learned in units of the spread of the class values.

    .. math:: f = c + s\,(w^\top x + b)

    with the mean c and the standard deviation s of the class values. A weight of ordinary size then moves the
    prediction over the whole range, and half precision rounds the deviation from c, not the value.

    Args:
        in_features: Number of features.
        class_values: ``(K,)``, at least 2 different ones.
        start: The prediction to start from ``(1,)``; c without.

    Raises:
        ValueError: if ``in_features`` is not an integer of at least 1.

    Example:
        >>> ValueHead(8, torch.tensor([0.0, 50.0, 100.0]), start=torch.tensor([30.0]))(torch.zeros(8))
        tensor([30.], grad_fn=<AddBackward0>)
    """

    center: Tensor
    spread: Tensor

    def __init__(self, in_features: int, class_values: Tensor, start: Tensor | None = None) -> None:
        super().__init__()
        self.linear = linear_head(in_features, 1)
        # Buffers that are saved: a checkpoint has to predict without the loss.
        self.register_buffer("center", class_values.mean())
        self.register_buffer("spread", class_values.std(correction=0))
        bias = self.center if start is None else start
        set_bias(self.linear.bias, (bias - self.center) / self.spread)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., 1)`` values, in float32 or wider."""
        deviation: Tensor = self.linear(features)
        wide = torch.promote_types(deviation.dtype, torch.float32)
        return self.center.to(wide) + self.spread.to(wide) * deviation.to(wide)
