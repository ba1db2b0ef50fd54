"""Weight-only int8 by torchao: one byte per weight and one scale per row. Activations keep their precision.

    weight, int8 --a block at a time--> dtype of the activations --+
                                                                   +--> dtype of the activations
    activations ---------------------------------------------------+

Decisions:
- The matrices of the layers are quantized: 83 % of the weights at full size. Embeddings and head are not: embeddings
  are looked up and cost no arithmetic, and images need only the codebook's rows of the head.
- On the CPU a block is upcast at a time, as half precision is in `linear`. torchao upcasts the whole matrix, which then
  goes through memory twice more: ten times slower for one row at full size.
- Weights are quantized one by one while they are read, so the unquantized model is never in memory.
- torchao is an optional dependency, imported only when a weight is quantized.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showo_turbo.backends.linear import UpcastLinear, replace_submodules, row_blocks


class Int8Linear(UpcastLinear):
    """Linear layer with a bias, whose weight is to be replaced by a torchao `Int8Tensor`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs), in the precision of `x`."""
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.linear(x, self.weight, self.bias)
        weight: Any = self.weight
        codes, scales, bias = weight.qdata, weight.scale[:, 0].to(x.dtype), self.bias.to(x.dtype)
        products = ((rows, F.linear(x, codes[rows].to(x.dtype))) for rows in row_blocks(codes))
        return torch.cat([torch.addcmul(bias[rows], product, scales[rows]) for rows, product in products], dim=-1)


def use_int8_linear(layers: nn.Module) -> None:
    """Replace the linear layers inside `layers` by ones for quantized weights, which must be loaded afterwards."""
    replace_submodules(layers, {UpcastLinear: Int8Linear})


def is_int8(module: nn.Module) -> bool:
    """Return whether `module` has quantized weights."""
    return any(isinstance(part, Int8Linear) for part in module.modules())


def int8_weight_names(module: nn.Module) -> set[str]:
    """Return the names of the weights to quantize."""
    return {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, Int8Linear)}


def quantize(weight: Tensor) -> Tensor:
    """Return a matrix as an `Int8Tensor` of the same shape and dtype, each row scaled by its largest magnitude."""
    from torchao.quantization import Int8Tensor, PerRow

    return Int8Tensor.from_hp(weight, PerRow())


def plain_tensors(weight: Tensor) -> list[Tensor]:
    """Return the tensors that store a weight: itself, values and scales of a quantized one, or the process's shard."""
    if not hasattr(weight, "__tensor_flatten__"):
        return [weight]
    parts = (getattr(weight, name) for name in weight.__tensor_flatten__()[0])
    return [part for part in parts if isinstance(part, Tensor)]
