"""What the losses made of binary tasks share: one term a task, -log sigmoid of the logit with the answer's sign."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention


def softplus(x: Tensor) -> Tensor:
    r"""Return :math:`\log(1 + e^x) = -\log\sigma(-x)`, with all digits of its type and a gradient anywhere.

    Not ``F.logsigmoid``: on a CPU with several threads that wakes all of them for a single number, which takes
    milliseconds on a busy machine. Not the default threshold of 20 either: it drops digits that float64 has.

    Example:
        >>> import torch
        >>> softplus(torch.tensor([-1e4, 0.0, 1e4]))
        tensor([0.0000e+00, 6.9315e-01, 1.0000e+04])
    """
    return F.softplus(x, threshold=80)


def log_sigmoid(x: Tensor) -> Tensor:
    r"""Return :math:`\log\sigma(x)`, see :func:`softplus`.

    Example:
        >>> import torch
        >>> log_sigmoid(torch.tensor(0.0))
        tensor(-0.6931)
    """
    return -softplus(-x)


def sum_tasks(terms: Tensor, task_weights: Tensor | None) -> Tensor:
    """Return the sum of the terms ``(N, K - 1)`` over the tasks, each with its weight.

    Example:
        >>> import torch
        >>> sum_tasks(torch.tensor([[1.0, 2.0]]), torch.tensor([3.0, 0.5]))
        tensor([4.])
    """
    return (terms if task_weights is None else terms * task_weights.to(terms.dtype)).sum(-1)
