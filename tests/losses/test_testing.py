"""A contract is worth what it catches: each loss here has one defect that was seen in practice."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ordage.losses import (
    CornLoss,
    OrdinalLoss,
    available,
    corn_log_probs,
    corn_loss,
    reduce_loss,
    register,
    softmax_log_probs,
    softmax_loss,
    unregister,
)
from ordage.losses.checks import as_prior
from ordage.losses.testing import CHECKS, check_loss


class Good(OrdinalLoss):
    summary = "cross-entropy"
    source = "a test"
    paper_decoder = "mode"

    def hard(self, z, y):
        return F.cross_entropy(z, y, reduction="none")

    def compute_loss(self, logits, target, **options):
        return reduce_loss(self.hard, logits, target, num_classes=self.num_classes, **options)

    def compute_log_probs(self, logits):
        return softmax_log_probs(logits)


class ExponentialsOverflow(Good):
    def hard(self, z, y):
        exponentials = z.exp()
        return -(exponentials / exponentials.sum(-1, keepdim=True)).log().gather(-1, y[:, None])[:, 0]


class LogProbsOverflow(Good):
    def compute_log_probs(self, logits):
        exponentials = logits.float().exp()
        return (exponentials / exponentials.sum(-1, keepdim=True)).log()


class LogProbsDoNotSumToOne(Good):
    def compute_log_probs(self, logits):
        return F.logsigmoid(logits.float())


class Binary(Good):
    @property
    def out_features(self):
        return self.num_classes - 1

    def older(self, z, y):
        return (torch.arange(z.shape[-1], device=z.device) < y[:, None]).to(z.dtype)

    def prior_logits(self, probs):
        return CornLoss(self.num_classes).prior_logits(probs)

    def compute_log_probs(self, logits):
        return corn_log_probs(logits)


class SigmoidThenCrossEntropy(Binary):
    """Loses the gradient of a wrong logit of 17 and more."""

    def hard(self, z, y):
        return F.binary_cross_entropy(z.sigmoid(), self.older(z, y), reduction="none").sum(-1)


class LogSigmoidMinusLogit(Binary):
    """Loses the gradient of a confident right answer."""

    def hard(self, z, y):
        older = self.older(z, y)
        return -(F.logsigmoid(z) * older + (F.logsigmoid(z) - z) * (1 - older)).sum(-1)


class PriorOfAnotherHead(LogSigmoidMinusLogit):
    def prior_logits(self, probs):
        return probs[1:].logit()

    def make_head(self, in_features, *, prior=None):
        head = super().make_head(in_features)
        if prior is not None:
            head.bias.data = super().prior_logits(as_prior(prior, self.num_classes))
        return head


class ReadsAValue(Good):
    def hard(self, z, y):
        return super().hard(z, y) * (1.0 if y.max().item() >= 0 else 0.0)


class IndexesWithAMask(Good):
    def hard(self, z, y):
        losses = super().hard(z, y)
        return torch.zeros_like(losses).masked_scatter(y >= 0, losses[y >= 0])


class BreaksTheGraph(Good):
    @torch.compiler.disable
    def hard(self, z, y):
        return super().hard(z, y)


class ClampsItsInput(Good):
    def compute_loss(self, logits, target, **options):
        logits.detach().clamp_(-1, 1)
        return super().compute_loss(logits, target, **options)


class DrawsNumbers(Good):
    def hard(self, z, y):
        return super().hard(z + 0 * torch.rand_like(z), y)


class OnlyTheMean(Good):
    def forward(self, logits, target, sample_weight=None):
        return F.cross_entropy(logits, target)


class WithoutChecks(Good):
    def compute_loss(self, logits, target, **options):
        return softmax_loss(logits, target, **options)

    def forward(self, logits, target, sample_weight=None):
        if torch.is_tensor(sample_weight):
            sample_weight = sample_weight.expand(target.shape[:1])
        return super().forward(logits, target, sample_weight)


class HasAPersistentBuffer(Good):
    def __init__(self, num_classes, **options):
        super().__init__(num_classes, **options)
        self.register_buffer("levels", torch.zeros(num_classes))


class MatrixProduct(Good):
    def hard(self, z, y):
        return super().hard(z, y) + z.softmax(-1) @ self.class_values.to(z.dtype)


class Detached(Good):
    def hard(self, z, y):
        return super().hard(z, y) * (1 + z.detach().sum(-1).sigmoid())


class MostProbableClassOnly(Good):
    def compute_loss(self, logits, target, **options):
        if torch.is_tensor(target) and target.is_floating_point() and target.shape[-1:] == logits.shape[-1:]:
            target = F.one_hot(target.argmax(-1), self.num_classes).to(target.dtype)
        return super().compute_loss(logits, target, **options)


class DividesByZero(Good):
    def compute_loss(self, logits, target, **options):
        reduction = options.pop("reduction")
        losses = super().compute_loss(logits, target, reduction="none", **options)
        ones = super().compute_loss(torch.zeros_like(logits), target, reduction="none", **options)
        if reduction == "mean":
            return losses.sum() / (ones.sum() / torch.tensor(float(self.num_classes)).log())
        return losses.sum() if reduction == "sum" else losses


class SharesItsHead(Good):
    def __init__(self, num_classes, **options):
        super().__init__(num_classes, **options)
        self.heads = []

    def make_head(self, in_features, *, prior=None):
        self.heads.append(super().make_head(in_features, prior=prior))
        return self.heads[0]


class ForgetsThePrior(Good):
    def make_head(self, in_features, *, prior=None):
        return super().make_head(in_features)


class WeighsTasksTwice(Binary):
    def __init__(self, num_classes, *, task_weights=None, **options):
        super().__init__(num_classes, **options)
        self.register_buffer("task_weights", None if task_weights is None else torch.as_tensor(task_weights), False)

    def compute_loss(self, logits, target, **options):
        weights = None if self.task_weights is None else self.task_weights.square()
        return corn_loss(logits, target, task_weights=weights, normalization="samples", **options)


DEFECTS = {
    ExponentialsOverflow: "saturated_logits",
    LogProbsOverflow: "log_probs",
    LogProbsDoNotSumToOne: "log_probs",
    SigmoidThenCrossEntropy: "precision",
    LogSigmoidMinusLogit: "precision",
    ReadsAValue: "no_synchronisation",
    IndexesWithAMask: "no_synchronisation",
    BreaksTheGraph: "compile",
    ClampsItsInput: "inputs_untouched",
    DrawsNumbers: "inputs_untouched",
    OnlyTheMean: "reductions",
    WithoutChecks: "errors",
    HasAPersistentBuffer: "state",
    MatrixProduct: "autocast",
    Detached: "derivatives",
    MostProbableClassOnly: "soft_targets",
    DividesByZero: "nothing_weighs",
    SharesItsHead: "head",
    ForgetsThePrior: "head",
    PriorOfAnotherHead: "prior",
    WeighsTasksTwice: "task_weights",
}


@pytest.fixture
def registered():
    before = available()
    yield lambda loss: register("defect")(loss)
    for name in set(available()) - set(before):
        unregister(name)


def test_loss_without_a_defect_passes(registered):
    registered(Good)

    check_loss("defect")


@pytest.mark.parametrize(("loss", "check"), DEFECTS.items(), ids=lambda value: getattr(value, "__name__", value))
def test_defect_fails_the_check_that_is_for_it(loss, check, registered):
    registered(loss)

    with pytest.raises(AssertionError, match=f"'defect' fails the check '{check}': "):
        check_loss("defect")


def test_class_that_is_not_registered_can_be_checked():
    with pytest.raises(AssertionError, match=r"LogProbsOverflow.* fails the check 'log_probs'"):
        check_loss(LogProbsOverflow)


def test_check_reports_any_exception_as_a_failure():
    def broken(num_classes, **options):
        raise KeyError("oops")

    with pytest.raises(AssertionError, match="unexpected KeyError: 'oops'"):
        CHECKS["interface"](broken)
