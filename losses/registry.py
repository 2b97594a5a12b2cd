"""The losses by name: register, list, create.

Other packages add theirs through the entry-point group ``ordage.losses``::

    [project.entry-points."ordage.losses"]
    my-loss = "my_package.my_loss"

The module is imported the first time somebody asks for a loss by name or for the list; its ``@register`` does the rest.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

from torch import Tensor

from .base import Decoder, OrdinalLoss
from .checks import describe, did_you_mean

# The name under which this package is imported, "ordage.losses": a copy of the folder in another project has its own
# registry and, with it, its own group.
ENTRY_POINT_GROUP = __name__.rpartition(".")[0]

LossType = TypeVar("LossType", bound=type[OrdinalLoss])

_losses: dict[str, type[OrdinalLoss]] = {}
_entry_points_loaded = False


def register(name: str) -> Callable[[LossType], LossType]:
    """Make a subclass of :class:`OrdinalLoss` known by ``name`` (a class decorator).

    Args:
        name: What users type, e.g. ``"mean-variance"``.

    Returns:
        The decorator. It sets the class attribute ``name`` and returns the class.

    Raises:
        ValueError: if the name is taken, or the class is no :class:`OrdinalLoss` or lacks ``summary``, ``source`` or a
            valid ``paper_decoder``.

    Example:
        >>> from torch import Tensor, nn
        >>> @register("example")
        ... class ExampleLoss(OrdinalLoss):
        ...     summary, source, paper_decoder = "cross-entropy", "this example", "mode"
        ...     def compute_loss(self, logits, target, **options):
        ...         return softmax_loss(logits, target, **options)
        ...     def compute_log_probs(self, logits):
        ...         return softmax_log_probs(logits)
        >>> create("example", num_classes=5).name
        'example'
        >>> unregister("example")
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"Expected `name` to be a non-empty string, but got {describe(name)}")

    def decorate(loss: LossType) -> LossType:
        if not (isinstance(loss, type) and issubclass(loss, OrdinalLoss)):
            raise ValueError(f"Expected a subclass of OrdinalLoss to register as {name!r}, but got {describe(loss)}")
        known = _losses.get(name)
        # Reloading a module defines its class anew; that is no conflict.
        if known is not None and (known.__module__, known.__qualname__) != (loss.__module__, loss.__qualname__):
            raise ValueError(f"The name {name!r} of {loss.__qualname__} belongs to {known.__qualname__} already")
        for attribute in ("summary", "source"):
            if not isinstance(getattr(loss, attribute, None), str):
                raise ValueError(f"Expected {loss.__qualname__}.{attribute} to be one line of text")
        if getattr(loss, "paper_decoder", None) not in get_args(Decoder):
            words = ", ".join(map(repr, get_args(Decoder)))
            raise ValueError(f"Expected {loss.__qualname__}.paper_decoder to be one of {words}")
        loss.name = name
        _losses[name] = loss
        return loss

    return decorate


def unregister(name: str) -> None:
    """Forget a loss, e.g. at the end of a test that registered one.

    Raises:
        ValueError: if no loss has this name.

    Example:
        >>> from ordage.losses import unregister
        >>> unregister("corall")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: Unknown loss 'corall'; did you mean 'coral'? (available: ...)
    """
    get(name)
    del _losses[name]


def available() -> list[str]:
    """Return the names of all losses, sorted.

    Example:
        >>> from ordage.losses import available
        >>> [name for name in available() if name.startswith("cor")]
        ['coral', 'corn']
    """
    _load_entry_points()
    return sorted(_losses)


def get(name: str) -> type[OrdinalLoss]:
    """Return the class of a loss.

    Raises:
        ValueError: if no loss has this name; the message lists those there are.

    Example:
        >>> from ordage.losses import get
        >>> get("corn").__name__
        'CornLoss'
    """
    _load_entry_points()
    if name not in _losses:
        known = ", ".join(sorted(_losses))
        raise ValueError(f"Unknown loss {name!r}{did_you_mean(name, _losses)} (available: {known})")
    return _losses[name]


def options(name: str) -> list[str]:
    """Return the names of the options that :func:`create` passes on to a loss, sorted.

    Raises:
        ValueError: if no loss has this name.

    Example:
        >>> from ordage.losses import options
        >>> options("mean-variance")
        ['class_values', 'class_weights', 'ignore_index', 'mean_weight', 'reduction', 'variance_weight']
    """
    return sorted({**_keywords(get(name)), **_keywords(OrdinalLoss)})


def own_options(name: str) -> dict[str, Any]:
    """Return the options of a loss that not every loss has, with their defaults, sorted by name.

    Raises:
        ValueError: if no loss has this name.

    Example:
        >>> from ordage.losses import own_options
        >>> own_options("mean-variance")
        {'mean_weight': 0.2, 'variance_weight': 0.05}
    """
    common = _keywords(OrdinalLoss)
    return {option: default for option, default in sorted(_keywords(get(name)).items()) if option not in common}


def _keywords(loss: type) -> dict[str, Any]:
    """Return what a class takes by keyword only, with the defaults."""
    found: dict[str, Any] = {}
    # Constructors hand `**options` to the next one, so a loss has the options of all its base classes.
    for base in loss.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            found = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY} | found
        if base is OrdinalLoss:
            break
    return found


def create(
    name: str, num_classes: int, class_values: Tensor | Sequence[float] | None = None, **loss_options: Any
) -> OrdinalLoss:
    """Create a loss by name.

    Args:
        name: One of :func:`available`.
        num_classes: Number of ordered classes K.
        class_values: The value that stands for each class, e.g. its age: ``(K,)``; 0 to K - 1 without.
        **loss_options: What the class takes, see :func:`options`.

    Returns:
        The loss, a :class:`torch.nn.Module`.

    Raises:
        ValueError: if the name, an option or its value is wrong.

    Example:
        >>> from ordage.losses import create
        >>> create("corn", num_classes=5, reduction="sum")
        CornLoss(num_classes=5, reduction='sum', normalization='tasks')
    """
    loss = get(name)
    allowed = options(name)
    for option in loss_options:
        if option not in allowed:
            hint = did_you_mean(option, allowed)
            raise ValueError(f"Loss {name!r} has no option {option!r}{hint} (its options: {', '.join(allowed)})")
    return loss(num_classes, class_values=class_values, **loss_options)


def _load_entry_points() -> None:
    global _entry_points_loaded
    if _entry_points_loaded:
        return
    _entry_points_loaded = True  # first: a plug-in may itself ask what is available
    from importlib.metadata import entry_points  # reads every installed package: not at import

    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry_point.load()
        except Exception as error:  # one broken plug-in must not take the other losses away
            warnings.warn(
                f"The loss {entry_point.name!r} of the entry point {entry_point.value!r} could not be loaded: "
                f"{type(error).__name__}: {error}",
                stacklevel=3,
            )
