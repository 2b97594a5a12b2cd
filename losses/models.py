"""A loss's own head in place of the classifier of somebody else's model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from .base import OrdinalLoss
from .checks import describe

# How many features enter a head. Those placed here carry it, because a head need not be a linear layer and must be
# found as a whole when it is replaced again.
MARK = "_ordinal_in_features"
TIMM_INSTEAD = "make it with num_classes=0 and use `loss.make_head(model.head_hidden_size)` behind it by hand"


def replace_head(model: nn.Module, loss: OrdinalLoss, *, prior: Tensor | Sequence[float] | None = None) -> nn.Module:
    """Put the head of a loss in place of the last layer of a model of timm, torchvision or your own.

    The classifier is what timm's ``get_classifier()`` returns, in other models the last :class:`torch.nn.Linear` in the
    order of registration. Everything around it stays: pooling, norm, dropout, hidden layers. The new head has the
    device, the dtype and the mode (train or eval) of the old one, and an attribute ``num_classes`` of the model becomes
    ``loss.out_features``. A timm model that was made with ``num_classes=0`` gets a classifier first. A head can be
    replaced again, by that of another loss.

    The auxiliary heads of torchvision's GoogLeNet and Inception, which such a model has while it trains, stay as they
    are: make it with ``aux_logits=False``, or replace those, too, e.g. by ``replace_head(model.AuxLogits, loss)``.

    Args:
        model: Maps images to ``(N, C)``; changed in place, unless there is an error.
        loss: Gives the head, see :meth:`OrdinalLoss.make_head`.
        prior: Positive class probabilities ``(K,)`` that the biases start from, as a rule the shares of the training
            set.

    Returns:
        The model, which now maps images to ``(N, loss.out_features)``.

    Raises:
        ValueError: if an argument has a wrong type, ``prior`` is no distribution over K, or the model does not end in
            one linear layer: it has several classifiers (a distilled DeiT), a convolution (SqueezeNet), or none.

    Example:
        >>> from ordage.losses import CornLoss, replace_head
        >>> model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(12, 1000))
        >>> replace_head(model, CornLoss(num_classes=5))
        Sequential(
          (0): Flatten(start_dim=1, end_dim=-1)
          (1): Dropout(p=0.5, inplace=False)
          (2): Linear(in_features=12, out_features=4, bias=True)
        )
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"Expected `model` to be a torch.nn.Module, but got {describe(model)}")
    if not isinstance(loss, OrdinalLoss):
        raise ValueError(f"Expected `loss` to be an OrdinalLoss, but got {describe(loss)}")
    # Before anything is changed: the prior may be wrong, or a package that the head needs be missing.
    loss.make_head(1, prior=prior)
    if callable(getattr(model, "get_classifier", None)):
        old, in_features = _timm_classifier(model, loss.out_features)
    elif hasattr(model, "pretrained_cfg"):  # timm's, too: its last linear layer is part of the features
        raise _refusal(model, "is an encoder without a classifier")
    else:
        old, in_features = _last_linear(model)
    like = next(old.parameters())
    head = loss.make_head(in_features, prior=prior).to(device=like.device, dtype=like.dtype).train(old.training)
    setattr(head, MARK, in_features)
    for parent in list(model.modules()):
        # Not `named_children`, which gives a module that is registered under two names only once.
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, head)
    if "num_classes" in vars(model):
        setattr(model, "num_classes", loss.out_features)  # noqa: B010 - type checkers take attributes for modules
    return model


def _timm_classifier(model: Any, out_features: int) -> tuple[nn.Module, int]:
    """Return the classifier of a timm model and the number of its inputs."""
    try:
        found = model.get_classifier()
    except AttributeError:  # some look for a part of the classifier that they were made without
        found = None
    if isinstance(found, (tuple, list)):
        raise _refusal(
            model, f"has {len(found)} classifiers, which `get_classifier()` returns as a tuple", TIMM_INSTEAD
        )
    if isinstance(found, nn.Module) and any(True for _ in found.parameters()):
        return _only_head(model, found)
    # Made with num_classes=0. Which width enters, timm knows best: that of a hidden layer, or `num_features` times the
    # number of poolings that are concatenated.
    like = list(model.parameters())[-1]
    pool = getattr(getattr(model, "global_pool", None), "pool_type", None)
    keep = {"global_pool": pool} if pool else {}  # older versions of timm go back to "avg" without it
    try:
        model.reset_classifier(out_features, **keep)
        return _only_head(model, model.get_classifier().to(device=like.device, dtype=like.dtype))
    except Exception as error:  # a model that can have none fails an assertion, or at whatever comes first
        model.reset_classifier(0)
        if isinstance(error, ValueError):
            raise
        raise _refusal(model, f"cannot make a classifier ({type(error).__name__}: {error})", TIMM_INSTEAD) from error


def _only_head(model: Any, classifier: nn.Module) -> tuple[nn.Module, int]:
    """Return the one linear layer of a classifier, which may have a norm, dropout or hidden layers around it."""
    if getattr(model, "aux_head", None) is not None:  # VOLO adds what it says to the output of the classifier
        raise _refusal(model, "has an auxiliary classifier beside the classifier", TIMM_INSTEAD)
    heads = list(_heads(classifier))
    if not heads and isinstance(classifier, nn.Conv2d):
        kind = "1x1 convolution on the pooled features" if classifier.kernel_size == (1, 1) else "convolution"
        raise _refusal(model, f"has a {kind} for its classifier", TIMM_INSTEAD)
    if not heads:
        raise _refusal(model, f"has no nn.Linear in its classifier, {type(classifier).__name__}", TIMM_INSTEAD)
    final = (
        [head for head in heads if MARK in vars(head[0])]
        or [head for head in heads if getattr(head[0], "out_features", None) == model.num_classes]
        or heads
    )
    if len(final) > 1:
        raise _refusal(model, f"has {len(final)} classifiers, in {type(classifier).__name__}", TIMM_INSTEAD)
    return final[0]


def _last_linear(model: nn.Module) -> tuple[nn.Module, int]:
    """Return the last linear layer of a model and the number of its inputs."""
    heads = list(_heads(model))
    name, last = "", model
    for path, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            name, last = path, module
    if isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1):
        raise _refusal(model, f"ends in a 1x1 convolution, `{name}`, on a feature map")
    if not heads:
        raise _refusal(model, "has no nn.Linear")
    head, in_features = heads[-1]
    if head is model:
        raise _refusal(model, "is itself a layer, and nothing can be put in its place")
    # What is registered behind the linear layer either uses its outputs, or the order is not that of the computation.
    if not any(last is part for part in head.modules()):
        where = next(path for path, module in model.named_modules() if module is head)
        raise _refusal(model, f"has `{name}` ({type(last).__name__}) behind its last nn.Linear, `{where}`")
    return head, in_features


def _heads(module: nn.Module) -> Iterator[tuple[nn.Module, int]]:
    """Yield what can be replaced, in the order of registration, each with the number of its inputs."""
    children = list(module.children())
    if MARK in vars(module):
        yield module, vars(module)[MARK]
    elif isinstance(module, nn.Linear):
        yield module, module.in_features
    elif isinstance(module, nn.MultiheadAttention):
        return  # its linear layer belongs to it
    elif len(children) == 1 and isinstance(children[0], nn.Linear) and next(module.parameters(False), None) is not None:
        # A linear layer and parameters beside it are one layer: heads of CORAL are made so.
        yield module, children[0].in_features
    else:
        for child in children:
            yield from _heads(child)


def _refusal(model: nn.Module, why: str, instead: str = "use `loss.make_head(in_features)` by hand") -> ValueError:
    return ValueError(f"Expected `model` to end in one linear classifier, but {type(model).__name__} {why}; {instead}")
