"""What the losses made of binary tasks share: one term a task, -log sigmoid of the logit with the answer's sign."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from .closed_form import Gradient, over

# Above it softplus returns its argument. The default of 20 drops digits that float64 has.
THRESHOLD = 80


def softplus(x: Tensor) -> Tensor:
    r"""Return :math:`\log(1 + e^x) = -\log\sigma(-x)`, with all digits of its type and a gradient anywhere.

    Not ``F.logsigmoid``: on a CPU with several threads that wakes all of them for a single number, which takes
    milliseconds on a busy machine.

    Example:
        >>> softplus(torch.tensor([-1e4, 0.0, 1e4]))
        tensor([0.0000e+00, 6.9315e-01, 1.0000e+04])
    """
    return F.softplus(x, threshold=THRESHOLD)


def log_sigmoid(x: Tensor) -> Tensor:
    r"""Return :math:`\log\sigma(x)`, see :func:`softplus`.

    Example:
        >>> log_sigmoid(torch.tensor(0.0))
        tensor(-0.6931)
    """
    return -softplus(-x)


def older_signs(num_classes: int, like: Tensor) -> Tensor:
    """Return ``(K, K - 1)``: -1 where the class (row) is older than the one that the task asks about, else 1.

    Example:
        >>> older_signs(3, torch.zeros(1))
        tensor([[ 1.,  1.],
                [-1.,  1.],
                [-1., -1.]])
    """
    ones = torch.ones(num_classes, num_classes - 1, dtype=like.dtype, device=like.device)
    return ones.triu_().mul_(2).sub_(1)


def binary_terms(
    z: Tensor, signs: Tensor, task_weights: Tensor | None, partial: bool = False
) -> tuple[Tensor, Gradient]:
    r"""Return :math:`\sum_k \lambda_k s_k^2 \operatorname{softplus}(s_k z_k)`, ``(N,)``, and its gradient.

    That is one softplus of the logit, with its sign turned where the answer is yes. The usual form of "no",
    ``logsigmoid(z) - z``, cancels: its gradient is zero for a confident right answer.

    Args:
        z: ``(N, K - 1)``.
        signs: :math:`s_k`, ``(N, K - 1)``: 1, -1, or 0 for a task that is not asked. Overwritten.
        task_weights: :math:`\lambda`, ``(K - 1,)``; ones without.
        partial: Whether any of the signs is 0.

    Example:
        >>> losses, gradient = binary_terms(torch.tensor([[0.0, 40.0]]), torch.tensor([[1.0, -1.0]]), None)
        >>> losses, gradient()
        (tensor([0.6931]), tensor([[ 5.0000e-01, -4.2484e-18]]))
    """
    signed = z * signs
    terms = F.softplus(signed, threshold=THRESHOLD)
    if partial:
        terms = torch.mul(terms, signs, out=over(terms))
        terms = torch.mul(terms, signs, out=over(terms))
    if task_weights is not None:
        terms = torch.mul(terms, task_weights, out=over(terms))

    def gradient() -> Tensor:
        gradients = signed.sigmoid_().mul_(signs)
        return gradients if task_weights is None else gradients.mul_(task_weights)

    return terms.sum(-1), gradient
