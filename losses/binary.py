"""What the losses made of binary tasks share: one term a task, -log sigmoid of the logit with the answer's sign."""

from __future__ import annotations

import torch
from torch import Tensor

from .closed_form import Gradient, over
from .elementary import softplus_over


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
    z: Tensor, signs: Tensor, task_weights: Tensor | None, asked: Tensor | None = None
) -> tuple[Tensor, Gradient]:
    r"""Return the terms of :math:`\sum_k \lambda_k \operatorname{softplus}(s_k z_k)`, ``(N, K - 1)``, and its gradient.

    That is one softplus of the logit, with its sign turned where the answer is yes. The usual form of "no",
    ``logsigmoid(z) - z``, cancels: its gradient is zero for a confident right answer.

    Args:
        z: ``(N, K - 1)``.
        signs: :math:`s_k`, ``(N, K - 1)``: 1 or -1.
        task_weights: :math:`\lambda`, ``(K - 1,)``; ones without.
        asked: What is added to :math:`s_k z_k`, ``(N, K - 1)``: 0, or minus infinity, where softplus and its derivative
            are 0, for a task that is not asked.

    Example:
        >>> terms, gradient = binary_terms(torch.tensor([[0.0, 40.0]]), torch.tensor([[1.0, -1.0]]), None)
        >>> terms, gradient()
        (tensor([[6.9315e-01, 4.2484e-18]]), tensor([[ 5.0000e-01, -4.2484e-18]]))
    """
    signed = z * signs if asked is None else torch.addcmul(asked, z, signs)
    terms, slopes = softplus_over(signed)
    if task_weights is not None:
        terms = torch.mul(terms, task_weights, out=over(terms))

    def gradient() -> Tensor:
        gradients = slopes().mul_(signs)
        return gradients if task_weights is None else gradients.mul_(task_weights)

    return terms, gradient
