"""Weights stored in half precision, arithmetic in float32: how bfloat16 and float16 compute on the CPU.

    weight, bfloat16 --a block at a time--> float32 --+
                                                      +--> float32
    activations, float32 -----------------------------+

Decisions:
- Modules cast their weights up to the precision of the activations they are given. What is computed in is then decided
  in one place, where activations begin: `arithmetic_dtype`.
- On the CPU that is float32. Many processors have no arithmetic in half precision, and take hours for what they do in
  seconds in float32; and activations of 8 bits, as bfloat16 has them, change 2 % of the choices that a model makes
  (`tests/parity/test_precision.py`). So half precision means half the memory here, and the same result everywhere.
  Graphics processors compute in the precision that weights are stored in.
- A block stays in the processor's cache: a weight comes from memory once, at half its size, and its float32 copy never
  goes there. This is as fast as weights stored in float32 (`benchmarks/half_precision.py`), and takes 4 MiB.
- Modules change their class in place, as they do in torch's `fully_shard`: names of weights stay, and a linear layer is
  still an `nn.Linear` to those who ask.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showo_turbo.backends import cpu_linear as products

_WEIGHTS_PER_BLOCK = 2**20


def arithmetic_dtype(weight: Tensor) -> torch.dtype:
    """What activations are to be: float32 on the CPU, as precise as the weights on other devices."""
    return torch.promote_types(weight.dtype, torch.float32) if weight.device.type == "cpu" else weight.dtype


def upcast(module: nn.Module) -> None:
    """Have linear layers and layer norms of a module cast their weights up to what they are given."""
    for part in module.modules():
        part.__class__ = _UPCASTING.get(type(part), type(part))


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`F.linear`, of a weight that may be stored in lower precision than `x`: (..., inputs) -> (..., outputs)."""
    if not _is_lower(weight, x):
        return products.linear(x, weight, bias)
    blocks = [products.linear(x, weight[rows].to(x.dtype), bias[rows].to(x.dtype)) for rows in row_blocks(weight)]
    return torch.cat(blocks, dim=-1)


def row_blocks(weight: Tensor) -> list[slice]:
    """The rows of a matrix in pieces that are cast up one at a time."""
    count = max(1, _WEIGHTS_PER_BLOCK // weight.shape[1])
    return [slice(first, first + count) for first in range(0, len(weight), count)]


class UpcastingLinear(nn.Linear):
    """A linear layer with a bias, stored in a precision and computing in another."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs), in the precision of `x` or of the weights, whichever is higher."""
        return linear(x, self.weight, self.bias)


class UpcastingLayerNorm(nn.LayerNorm):
    """A layer norm, stored in a precision and computing in another."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width), in the precision of `x`."""
        if not _is_lower(self.weight, x):
            return super().forward(x)
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


_UPCASTING = {nn.Linear: UpcastingLinear, nn.LayerNorm: UpcastingLayerNorm}


def _is_lower(weight: Tensor, x: Tensor) -> bool:
    return weight.dtype.itemsize < x.dtype.itemsize
