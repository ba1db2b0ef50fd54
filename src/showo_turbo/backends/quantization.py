"""Weights of one byte each by torchao, with a scale for each row: int8, or float8 (e4m3) with activations rounded too.

    weight, one byte --a block at a time--> dtype of the activations --+
                                                                       +--> dtype of the activations
    activations, float8: rounded row by row ---------------------------+

Decisions:
- The matrices of the layers are quantized: 83 % of the weights at full size. Embeddings and head are not: embeddings
  are looked up and cost no arithmetic, and images need only the codebook's rows of the head.
- int8 saves memory, and activations keep their precision. float8 is for GPUs that multiply float8 by float8, from
  compute capability 8.9 on. A CPU does the same rounding, so the quality of float8 can be measured on it.
- On the CPU a block is upcast at a time, as half precision is in `linear`. torchao upcasts the whole matrix, which then
  goes through memory twice more: ten times slower for one row at full size.
- Weights are quantized one by one while they are read, so the unquantized model is never in memory.
- torchao is an optional dependency, imported only when a weight is quantized.
"""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showo_turbo.backends.linear import UpcastLinear, replace_submodules, row_blocks


class QuantizedLinear(UpcastLinear):
    """Linear layer with a bias, whose weight is to be replaced by a quantized one."""

    quantization: ClassVar[str]

    @staticmethod
    def quantize(weight: Tensor) -> Tensor:
        """Return a matrix as a torchao tensor of the same shape and dtype, each row scaled by its largest magnitude."""
        raise NotImplementedError

    def round_input(self, x: Tensor) -> Tensor:
        """Round activations as the products of a GPU do; without an override, keep them."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs), in the precision of `x`."""
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.linear(x, self.weight, self.bias)
        x, weight = self.round_input(x), cast(Any, self.weight)
        codes, scales, bias = weight.qdata, weight.scale[:, 0].to(x.dtype), self.bias.to(x.dtype)
        products = ((rows, F.linear(x, codes[rows].to(x.dtype))) for rows in row_blocks(codes))
        return torch.cat([torch.addcmul(bias[rows], product, scales[rows]) for rows, product in products], dim=-1)


class Int8Linear(QuantizedLinear):
    """Linear layer with weights in int8."""

    quantization = "int8"

    @staticmethod
    def quantize(weight: Tensor) -> Tensor:
        """See `QuantizedLinear.quantize`."""
        from torchao.quantization import Int8Tensor, PerRow

        return Int8Tensor.from_hp(weight, PerRow())


class Float8Linear(QuantizedLinear):
    """Linear layer with weights in float8 that rounds its input to float8 as well."""

    quantization = "float8"

    @staticmethod
    def quantize(weight: Tensor) -> Tensor:
        """See `QuantizedLinear.quantize`."""
        from torchao.quantization import Float8Tensor, PerRow
        from torchao.quantization.quantize_.workflows import QuantizeTensorToFloat8Kwargs

        return Float8Tensor.from_hp(weight, act_quant_kwargs=QuantizeTensorToFloat8Kwargs(granularity=PerRow()))

    def round_input(self, x: Tensor) -> Tensor:
        """Round activations to float8, row by row."""
        from torchao.quantization import Float8Tensor

        return Float8Tensor.from_hp(x.flatten(0, -2)).dequantize().view_as(x)


_LAYERS: dict[str, type[QuantizedLinear]] = {layer.quantization: layer for layer in (Int8Linear, Float8Linear)}


def use_quantized_linear(layers: nn.Module, quantization: str) -> None:
    """Replace the linear layers inside `layers` by ones for quantized weights, which must be loaded afterwards."""
    replace_submodules(layers, {UpcastLinear: _LAYERS[quantization]})


def quantization_of(module: nn.Module) -> str | None:
    """Return the quantization of the weights inside `module`, or None."""
    return next((part.quantization for part in module.modules() if isinstance(part, QuantizedLinear)), None)


def quantized_layers(module: nn.Module) -> dict[str, QuantizedLinear]:
    """Return the layers inside `module` with weights to quantize, by the names of these weights."""
    return {f"{name}.weight": part for name, part in module.named_modules() if isinstance(part, QuantizedLinear)}


def plain_tensors(weight: Tensor) -> list[Tensor]:
    """Return the tensors that store a weight: itself, values and scales of a quantized one, or the process's shard."""
    if not hasattr(weight, "__tensor_flatten__"):
        return [weight]
    parts = (getattr(weight, name) for name in weight.__tensor_flatten__()[0])
    return [part for part in parts if isinstance(part, Tensor)]
