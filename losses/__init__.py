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
from .cdw_ce import CdwCeLoss, cdw_ce_loss
from .clm import ClmLoss, clm_log_probs, clm_loss
from .coral import CoralLoss, coral_log_probs, coral_loss
from .corn import CornLoss, corn_log_probs, corn_loss
from .cross_entropy import SoftmaxLoss, softmax_log_probs, softmax_loss
from .decoding import interval, mean, median, mode, quantile
from .dldl import DldlLoss, dldl_loss
from .dldl_v2 import DldlV2Loss, dldl_v2_loss
from .emd import EmdLoss, emd_loss
from .heads import OrderedHead, ValueHead
from .mean_variance import MeanVarianceLoss, mean_variance_loss
from .models import replace_head
from .or_cnn import OrCnnLoss, or_cnn_log_probs, or_cnn_loss
from .reduction import reduce_loss
from .registry import available, create, get, options, own_options, register, unregister
from .regression import RegressionLoss, regression_log_probs, regression_loss
from .soft_labels import (
    SoftLabelLoss,
    beta_labels,
    binomial_labels,
    exponential_labels,
    gaussian_labels,
    geometric_labels,
    poisson_labels,
    soft_label_loss,
    sord_labels,
    triangular_labels,
)
from .sord import SordLoss, sord_loss
from .unimodal import UnimodalLoss, unimodal_loss
from .weighted_kappa import WeightedKappaLoss, weighted_kappa_loss

__all__ = [
    "CdwCeLoss",
    "ClmLoss",
    "CoralLoss",
    "CornLoss",
    "DldlLoss",
    "DldlV2Loss",
    "EmdLoss",
    "MeanVarianceLoss",
    "OrCnnLoss",
    "OrderedHead",
    "OrdinalLoss",
    "RegressionLoss",
    "SoftLabelLoss",
    "SoftmaxLoss",
    "SordLoss",
    "UnimodalLoss",
    "ValueHead",
    "WeightedKappaLoss",
    "available",
    "beta_labels",
    "binomial_labels",
    "cdw_ce_loss",
    "clm_log_probs",
    "clm_loss",
    "coral_log_probs",
    "coral_loss",
    "corn_log_probs",
    "corn_loss",
    "create",
    "dldl_loss",
    "dldl_v2_loss",
    "emd_loss",
    "exponential_labels",
    "gaussian_labels",
    "geometric_labels",
    "get",
    "interval",
    "mean",
    "mean_variance_loss",
    "median",
    "mode",
    "options",
    "or_cnn_log_probs",
    "or_cnn_loss",
    "own_options",
    "poisson_labels",
    "quantile",
    "reduce_loss",
    "register",
    "regression_log_probs",
    "regression_loss",
    "replace_head",
    "soft_label_loss",
    "softmax_log_probs",
    "softmax_loss",
    "sord_labels",
    "sord_loss",
    "triangular_labels",
    "unimodal_loss",
    "unregister",
    "weighted_kappa_loss",
]
