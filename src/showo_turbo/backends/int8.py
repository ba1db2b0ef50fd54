"""Weight-only int8: a byte a weight and a scale a row, by torchao. Activations stay as precise as they were.

    weight, int8 --a block at a time--> as activations --+
                                                         +--> as activations
    activations -----------------------------------------+

Decisions:
- The matrices of the layers are quantized, 83 % of the weights at full size. Embeddings and head stay as they are: the
  ones are looked up and cost no arithmetic, and of the other only the codebook's rows are used for images.
- On the CPU blocks are cast up as half precision is, see `upcasting`. torchao by itself casts a matrix at once, which
  then goes through memory twice more: ten times slower for one row at full size.
- Weights are quantized one by one as they are read, so a model never is in memory at its full size.
- torchao is an optional dependency, and imported where a model is quantized only.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showo_turbo.backends.mixed_precision import row_blocks


class Int8Linear(nn.Linear):
    """A linear layer with a bias, whose weight is a torchao `Int8Tensor`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs), in the precision of `x`."""
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.linear(x, self.weight, self.bias)
        numbers, scales, bias = self.weight.qdata, self.weight.scale[:, 0].to(x.dtype), self.bias.to(x.dtype)
        products = ((rows, F.linear(x, numbers[rows].to(x.dtype))) for rows in row_blocks(numbers))
        return torch.cat([torch.addcmul(bias[rows], product, scales[rows]) for rows, product in products], dim=-1)


def expect_int8(layers: nn.Module) -> None:
    """Have all linear layers of a module take quantized weights, which are to be put in."""
    for part in layers.modules():
        if isinstance(part, nn.Linear):
            part.__class__ = Int8Linear


def is_int8(module: nn.Module) -> bool:
    """Whether any weight of a module is quantized."""
    return any(isinstance(part, Int8Linear) for part in module.modules())


def int8_weights(module: nn.Module) -> set[str]:
    """The names of the weights that are to be quantized."""
    return {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, Int8Linear)}


def quantize(weight: Tensor) -> Tensor:
    """A matrix in int8, each row scaled by its largest number: an `Int8Tensor` of the same shape and dtype."""
    from torchao.quantization import Int8Tensor, PerRow

    return Int8Tensor.from_hp(weight, PerRow())


def plain_tensors(weight: Tensor) -> list[Tensor]:
    """What a weight consists of: itself, or numbers and scales of a quantized one."""
    if not hasattr(weight, "__tensor_flatten__"):
        return [weight]
    return [getattr(weight, name) for name in weight.__tensor_flatten__()[0]]
