"""Ordinal losses for PyTorch: logits and targets in, a loss or class probabilities out.

Every loss is a function and a module. The module also knows the head it needs and the class distribution that its
logits stand for, so models, training and evaluation need not ask which loss it is::

    loss = create("corn", num_classes=101)
    head = loss.make_head(in_features=512)
    logits = head(features)
    loss(logits, target).backward()
    median(loss.log_probs(logits))

The package needs torch alone (the plain CORAL head also ``coral-pytorch``) and works under any name in another project.
"""

from .base import OrdinalLoss
from .coral import CoralLoss, coral_log_probs, coral_loss
from .corn import CornLoss, corn_log_probs, corn_loss
from .cross_entropy import SoftmaxLoss, softmax_log_probs, softmax_loss
from .decoding import interval, mean, median, mode, quantile
from .heads import OrderedHead
from .mean_variance import MeanVarianceLoss, mean_variance_log_probs, mean_variance_loss
from .reduction import reduce_loss
from .registry import available, create, get, options, register, unregister

__all__ = [
    "CoralLoss",
    "CornLoss",
    "MeanVarianceLoss",
    "OrderedHead",
    "OrdinalLoss",
    "SoftmaxLoss",
    "available",
    "coral_log_probs",
    "coral_loss",
    "corn_log_probs",
    "corn_loss",
    "create",
    "get",
    "interval",
    "mean",
    "mean_variance_log_probs",
    "mean_variance_loss",
    "median",
    "mode",
    "options",
    "quantile",
    "reduce_loss",
    "register",
    "softmax_log_probs",
    "softmax_loss",
    "unregister",
]
