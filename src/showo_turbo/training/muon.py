"""Muon: momentum orthogonalized by Newton-Schulz iterations, for hidden weight matrices (Jordan et al., 2024).

Decisions:
- `torch.optim.Muon` iterates in bfloat16, which is eight times slower than float32 on a CPU without bfloat16 units.
  This implementation iterates in float32.
- Matrices of one shape are iterated as a batch.
"""

from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Move the singular values of a batch of matrices (batch, rows, columns) close to 1, by a quintic iteration."""
    a, b, c = _COEFFICIENTS
    wide = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    x = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if matrices.shape[-2] > matrices.shape[-1] else x


class Muon(Optimizer):
    """Run Muon with Nesterov momentum and decoupled weight decay, in float32.

    Args:
        params: weight matrices, and convolution kernels, which are matrices of a row for each output channel; give
            embeddings, heads, biases and norms to AdamW.
        lr: learning rate; the update of a matrix is scaled by sqrt(max(1, rows / columns)).
        momentum: decay of the gradient's EMA.
        weight_decay: decoupled, multiplied by lr.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 2e-3, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all matrices that have a gradient, after running the closure, whose loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append((parameter, parameter.grad))
            for matrices in by_shape.values():
                self._update_batch(matrices, group)
        return loss

    def _update_batch(self, matrices: list[tuple[nn.Parameter, Tensor]], group: dict) -> None:
        """Update matrices of one shape by their gradients."""
        directions = []
        for parameter, gradient in matrices:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            momentum = state["momentum_buffer"]
            momentum.lerp_(gradient, 1 - group["momentum"])
            directions.append(torch.lerp(gradient, momentum, group["momentum"]).flatten(1))
        rows, columns = directions[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        for (parameter, _), update in zip(matrices, orthogonalize(torch.stack(directions)), strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)
