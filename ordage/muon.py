"""Muon for nets that start from scratch: a step along the orthogonalised momentum of every weight matrix.

Measured on small convolutional nets it needs about half of AdamW's epochs. timm and torch have it too, but compute in
bfloat16, which a CPU without instructions for it emulates at a tenth of the speed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Muon", "orthogonalize"]

# Jordan et al. 2024: the quintic whose slope at zero is the steepest; it leaves singular values between 0.7 and 1.2.
QUINTIC = (3.4445, -4.7750, 2.0315)
STEPS = 5

# Matrices are multiplied by `bmm` here: `@` first finds out that this is meant, which takes longer than small ones do.


class Muon(torch.optim.Optimizer):
    """Muon for what has two dimensions or more, AdamW for the rest.

    Each weight ``(out, in, ...)`` is a matrix ``(out, in * ...)``. Its Nesterov momentum is replaced by the nearest
    orthogonal matrix, times 0.2 sqrt(max(out, in * ...)), which gives the update the size that AdamW's has, so that
    learning rates and weight decay of AdamW fit. Jordan et al., "Muon: an optimizer for hidden layers", 2024; the scale
    is that of Liu et al., "Muon is scalable for LLM training", 2025, section 2.2.

    Args:
        params: groups of parameters; ``matrix=False`` in one takes AdamW for all of it, as is right for a head.
        lr: learning rate; a scalar tensor in a group will do too, on its device, as for a CUDA graph.
        weight_decay: decoupled, as in AdamW.
        momentum: of the matrices.
        betas: of AdamW.
        eps: of AdamW.

    Example:
        >>> weight = torch.nn.Parameter(torch.eye(2))
        >>> optimizer = Muon([weight], lr=0.1)
        >>> (weight * torch.tensor([[1.0, 0.0], [0.0, 100.0]])).sum().backward()
        >>> optimizer.step()  # both directions move by about 0.1 * 0.2 * sqrt(2), however large their gradients are
        >>> weight.diagonal().lt(1 - 0.015).all().item(), weight.diagonal().gt(1 - 0.045).all().item()
        (True, True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        weight_decay: float = 0.0,
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        """Take the parameters."""
        options = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas, "eps": eps}
        super().__init__(params, {**options, "matrix": True, "capturable": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change the parameters by their gradients; return what ``closure`` returned."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        # What moves by the same numbers moves in one call, of whichever group it is: on a CPU a net has a dozen biases
        # in several groups, and a call takes longer than they do. On a GPU numbers are tensors, a group's own.
        alike: defaultdict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
        for group in self.param_groups:
            live = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not live:
                continue
            rate = self._number(group["lr"], live[0])
            if group["weight_decay"]:
                torch._foreach_mul_(live, 1 - rate * group["weight_decay"])
            elements, of_shape = [], defaultdict(list)
            for parameter in live:
                if group["matrix"] and _is_matrix(parameter):
                    of_shape[_matrix_shape(parameter)].append(parameter)
                else:
                    elements.append(parameter)
            for shape, parameters in of_shape.items():
                self._step_matrices(parameters, shape, rate, group)
            if elements:
                alike[rate, self._count(elements), tuple(group["betas"]), group["eps"]] += elements
        for numbers, parameters in alike.items():
            self._step_elements(parameters, *numbers)
        return value

    def _step_matrices(
        self, parameters: list[Tensor], shape: tuple[int, int], rate: Tensor | float, group: dict[str, Any]
    ) -> None:
        gradients = [_gradient(parameter) for parameter in parameters]
        momenta = self._state(parameters, "momentum")
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(gradients, momenta, group["momentum"])
        # All of one shape in one call: a net has many.
        steps = orthogonalize(torch.stack([update.reshape(shape) for update in nesterov]))
        steps.mul_(rate * (-0.2 * max(shape) ** 0.5))
        updates = [update.view(parameter.shape) for parameter, update in zip(parameters, steps, strict=True)]
        torch._foreach_add_(parameters, updates)

    def _step_elements(
        self,
        parameters: list[Tensor],
        rate: Tensor | float,
        count: Tensor | float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        first, second = betas
        gradients = [_gradient(parameter) for parameter in parameters]
        means, squares = self._state(parameters, "mean"), self._state(parameters, "square")
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        spread = list(torch._foreach_sqrt(squares))
        torch._foreach_mul_(spread, (1 - second**count) ** -0.5)
        torch._foreach_add_(spread, eps)
        updates = list(torch._foreach_div(means, spread))
        torch._foreach_mul_(updates, -rate / (1 - first**count))
        torch._foreach_add_(parameters, updates)

    def _count(self, parameters: list[Tensor]) -> Tensor | float:
        """Return how many steps these have made, this one included; the parameters of a group make them together.

        Kept on the device, as torch's optimisers do it with ``capturable``, so that a step can be part of a CUDA graph.
        """
        state = self.state[parameters[0]]
        if "count" not in state:
            state["count"] = torch.zeros((), device=parameters[0].device)
        return self._number(state["count"].add_(1), parameters[0])

    @staticmethod
    def _number(value: Tensor | float, parameter: Tensor) -> Tensor | float:
        """Return a number as a step computes with it.

        Of Python on a CPU, where each operation on a tensor of one number costs as much as on a small weight; elsewhere
        a tensor in any case, so that a step in a CUDA graph, which needs one, rounds as any other does.
        """
        number = value if isinstance(value, Tensor) else parameter.new_full((), value)
        return number.item() if parameter.is_cpu else number

    def _state(self, parameters: list[Tensor], name: str) -> list[Tensor]:
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        return [self.state[parameter][name] for parameter in parameters]


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return the orthogonal matrices nearest to ``(B, m, n)``, roughly: U S V^T with all of S between 0.7 and 1.2.

    Five steps of a Newton-Schulz iteration, in bfloat16 on a GPU and in the matrices' own type elsewhere.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x.bfloat16() if x.is_cuda else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    x = (_iterate if x.is_cuda else _iterate_on_gram)(x).to(matrices.dtype)
    return x.mT if tall else x


def _iterate(x: Tensor) -> Tensor:
    """Return X after ``STEPS`` of X <- (a + b G + c G^2) X with the Gram matrix G = X X^T."""
    a, b, c = QUINTIC
    for _ in range(STEPS):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _iterate_on_gram(x: Tensor) -> Tensor:
    """Return the same without touching X in between: G <- P G P for P = a + b G + c G^2, and the product of all P.

    A weight of a convolution is many times longer than high, so that is a third of the work. It squares the condition,
    which float32 has room for (1e-4 of the result), and bfloat16 has not.
    """
    a, b, c = QUINTIC
    gram, product = torch.bmm(x, x.mT), None
    for step in range(STEPS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor if product is None else torch.bmm(factor, product)
        if step < STEPS - 1:
            gram = torch.bmm(torch.bmm(factor, gram), factor)
    assert product is not None
    return torch.bmm(product, x)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _is_matrix(parameter: Tensor) -> bool:
    return sum(side > 1 for side in parameter.shape) > 1


def _matrix_shape(parameter: Tensor) -> tuple[int, int]:
    return parameter.shape[0], parameter.numel() // parameter.shape[0]
