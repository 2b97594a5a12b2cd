"""What every loss is to its callers: a criterion that knows its head and its class distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, Literal, Self, TypedDict, TypeVar, Unpack, cast

import torch
from torch import Tensor, nn

from .checks import (
    REDUCTIONS,
    Reduction,
    as_class_values,
    as_integer,
    as_prior,
    as_weights,
    check_choice,
    check_width,
)
from .heads import linear_head, set_bias

Decoder = Literal["mode", "median", "mean"]
T = TypeVar("T")


class CallOptions(TypedDict, total=False):
    """The keyword arguments that every loss function takes."""

    class_weights: Tensor | None
    sample_weight: Tensor | None
    ignore_index: int
    reduction: Reduction


class LossOptions(TypedDict, total=False):
    """The keyword arguments that every loss module takes."""

    class_values: Tensor | Sequence[float] | None
    class_weights: Tensor | Sequence[float] | None
    ignore_index: int
    reduction: Reduction


class Option(Generic[T]):
    """An attribute that reads a tensor of :meth:`OrdinalLoss.register_option`.

    Without it the tensor is found too, but only by ``nn.Module.__getattr__``, when everything else has failed. A loss
    of 256 samples spends a twentieth of its time on that.

    Raises:
        AttributeError: when it is read, if the tensor is not registered.

    Example:
        >>> class Scaled(nn.Module):
        ...     scale: Option[Tensor] = Option()
        >>> module = Scaled()
        >>> module.register_buffer("scale", torch.ones(1), persistent=False)
        >>> module.scale
        tensor([1.])
    """

    def __set_name__(self, owner: type[nn.Module], name: str) -> None:
        self.name = name

    def __get__(self, module: nn.Module, owner: type[nn.Module] | None = None) -> T:
        try:
            return cast(T, module._buffers[self.name])
        except (AttributeError, KeyError):  # asked of the class, or before it is registered
            raise AttributeError(self.name) from None


class OrdinalLoss(nn.Module, ABC):
    """Base class of all losses: ``loss(logits, target)`` like any criterion, and what belongs to it.

    A subclass implements :meth:`compute_loss` and :meth:`compute_log_probs`, names its ``summary``, ``source`` and
    ``paper_decoder``, and is registered with :func:`register`. Unless it says otherwise its head is linear with one
    logit a class. Options are read when a loss is made: for others make another loss.

    Args:
        num_classes: Number of ordered classes K, at least 2.
        class_values: The value that stands for each class, e.g. its age: ``(K,)``, increasing; 0 to K - 1 without.
        class_weights: Non-negative weight of each class, ``(K,)``.
        ignore_index: The class of samples that do not count.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, see :func:`reduce_loss`.

    Raises:
        ValueError: if an argument has a wrong type, shape or value.

    Attributes:
        name: The name it is registered under.
        summary: What it is, in one line.
        source: Where it comes from, in one line.
        paper_decoder: How its source reads a class or value off the distribution; the name of a function of
            :mod:`decoding`.
        separable: Whether the loss of a batch is the weighted mean of the losses of its samples.
        predicts_point: Whether the head predicts one value instead of a distribution; its log-probabilities are 0 at
            the class nearest to it and minus infinity elsewhere, and are no likelihood.
        num_classes: Number of classes K.
        class_values: ``(K,)``, see :meth:`register_option`.
        class_weights: ``(K,)`` or None, see :meth:`register_option`.

    Example:
        >>> from ordage.losses import CornLoss
        >>> loss = CornLoss(num_classes=3)
        >>> head = loss.make_head(in_features=8)
        >>> logits = head(torch.zeros(4, 8))
        >>> loss(logits, torch.tensor([0, 1, 2, 2])).shape, loss.log_probs(logits).shape
        (torch.Size([]), torch.Size([4, 3]))
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    paper_decoder: ClassVar[Decoder]
    separable: ClassVar[bool] = True
    predicts_point: ClassVar[bool] = False

    class_values: Option[Tensor] = Option()
    class_weights: Option[Tensor | None] = Option()

    def __init__(
        self,
        num_classes: int,
        *,
        class_values: Tensor | Sequence[float] | None = None,
        class_weights: Tensor | Sequence[float] | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        num_classes = as_integer("num_classes", num_classes, at_least=2)
        check_choice("reduction", reduction, REDUCTIONS)
        values = range(num_classes) if class_values is None else class_values
        weights = None if class_weights is None else as_weights("class_weights", class_weights, num_classes)
        self.num_classes = num_classes
        self.ignore_index = as_integer("ignore_index", ignore_index)
        self.reduction: Reduction = reduction
        self.register_option("class_values", as_class_values(values, num_classes))
        self.register_option("class_weights", weights)

    def register_option(self, name: str, value: Tensor | None) -> None:
        """Keep a tensor that is an option, or follows from options, as the attribute ``name``.

        It moves with the module to another device and is not part of the state: a checkpoint of a model must not
        depend on its loss. ``half()`` does not round it, and float64 becomes float32, which every device has.
        """
        if value is not None and value.dtype == torch.float64:
            value = value.float()
        self.register_buffer(name, value, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        options = {name: value for name, value in self._buffers.items() if value is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call, unused-ignore]
        for name, value in options.items():
            moved = self._buffers[name]
            assert moved is not None
            self._buffers[name] = value.to(moved.device)
        return self

    @property
    def out_features(self) -> int:
        """Number of logits that the loss takes."""
        return self.num_classes

    def make_head(self, in_features: int, *, prior: Tensor | Sequence[float] | None = None) -> nn.Module:
        """Return a fresh last layer: ``(N, in_features)`` to ``(N, out_features)``.

        Args:
            in_features: Number of features.
            prior: Positive class probabilities ``(K,)``, as a rule the shares of the training set. The biases start
                from them, so that training starts from the best constant answer instead of finding it first; with
                many classes that takes the K - 1 biases of an ordinal head hundreds of steps.

        Raises:
            ValueError: if ``in_features`` is not an integer of at least 1, or ``prior`` is no distribution over K.
        """
        head = linear_head(in_features, self.out_features)
        if prior is not None:
            set_bias(head.bias, self.prior_logits(as_prior(prior, self.num_classes)))
        return head

    def prior_logits(self, probs: Tensor) -> Tensor:
        """Return logits ``(out_features,)`` whose distribution is ``probs``, ``(K,)``, all positive.

        Example:
            >>> from ordage.losses import CornLoss
            >>> loss = CornLoss(num_classes=3)
            >>> loss.log_probs(loss.prior_logits(torch.tensor([0.5, 0.2, 0.3]))).exp()
            tensor([0.5000, 0.2000, 0.3000])
        """
        return probs.log()

    def forward(self, logits: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            logits: ``(..., out_features)``, any floating-point type; half precision is computed in float32.
            target: Classes ``(...)``, integers, or class probabilities ``(..., K)``.
            sample_weight: Non-negative weights ``(...)``.

        Returns:
            A scalar, or ``(...)`` for ``reduction="none"``, in float32 or wider.

        Raises:
            ValueError: if an argument has a wrong type, shape or value; values are looked at on the CPU only.
        """
        # The functions take K from the logits, so only here can a head of the wrong width be told.
        check_width(logits, self.out_features)
        return self.compute_loss(
            logits,
            target,
            class_weights=self.class_weights,
            sample_weight=sample_weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )

    def log_probs(self, logits: Tensor) -> Tensor:
        """Return the class log-probabilities ``(..., K)`` in float32 or wider.

        Raises:
            ValueError: if ``logits`` are not ``(..., out_features)``.
        """
        check_width(logits, self.out_features)
        return self.compute_log_probs(logits)

    @abstractmethod
    def compute_loss(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """Return the loss of logits of the right width, with ``options`` as :func:`reduce_loss` takes them."""

    @abstractmethod
    def compute_log_probs(self, logits: Tensor) -> Tensor:
        """Return the class log-probabilities of logits of the right width."""

    def normalizer(self, target: Tensor) -> Tensor:
        """Return what each sample adds to the divisor of ``reduction="mean"``, before any weight.

        That is 1 unless the loss counts something else than samples. Sums over batches or processes are averaged
        exactly by dividing with the sum of these numbers.

        Args:
            target: Valid classes ``(...)``.

        Returns:
            ``(...)``, float32.
        """
        return torch.ones_like(target, dtype=torch.float32)

    def violations(self, logits: Tensor) -> Tensor:
        """Return where the head contradicts the order: ``P(y > k)`` increases somewhere in k.

        :meth:`log_probs` is a proper distribution all the same; this tells how often it had to be repaired.

        Returns:
            ``(...)``, bool. All false for a head that cannot contradict the order.

        Raises:
            ValueError: if ``logits`` are not ``(..., out_features)``.
        """
        check_width(logits, self.out_features)
        return logits.new_zeros(logits.shape[:-1], dtype=torch.bool)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        weights = "" if self.class_weights is None else ", class_weights=..."
        return f"num_classes={self.num_classes}, reduction={self.reduction!r}{weights}"
