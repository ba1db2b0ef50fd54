"""Linear layers, layer norms and GELU on the CPU: oneDNN kernels, upcast weights, and weights packed for inference.

    weight, bfloat16 --a block at a time--> float32 --+
                                                      +--> float32
    activations, float32 -----------------------------+

Decisions:
- torch uses MKL for float32, which is slow on AMD CPUs. oneDNN took half of the time for weights of 2048 x 8192 with 16
  rows, and 3/4 with 260 (docs/lab/speed.md). Weights that fit in the cache gain nothing, except where GELU is fused.
  oneDNN's operators have no gradients, so they run only with autograd off; `torch.backends.mkldnn.enabled = False`
  disables them.
- Modules upcast their weights to the precision of their input. The precision of the arithmetic is therefore decided in
  one place, where activations begin: `arithmetic_dtype`.
- On the CPU it is float32. Many CPUs have no half-precision arithmetic and take hours for what takes seconds in
  float32; and activations of 8 bits, as in bfloat16, change 2 % of the choices of a model
  (`tests/parity/test_precision.py`). So half precision halves the memory here and keeps the results. GPUs compute in
  the precision of the weights.
- A block stays in the CPU's cache: a weight is read from memory once, at half its size, and its float32 copy is never
  written there. This is as fast as weights stored in float32 (`benchmarks/half_precision.py`), and takes 4 MiB.
- `replace_submodules` keeps the parameters and their names, and a replaced linear layer is still an `nn.Linear`, so
  checkpoints and PEFT work as before.
- GELU is `x sigmoid(x (a + b x^2))`, another form of `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`. It takes 0.4
  times as long with the rows of an image of 64 codes, since torch's sigmoid is faster than its GELU; many rows go
  through the cache block by block. Both differ from the exact value by less than 1e-6.
- `pack_layers` lays out the weights of a layer: queries, keys and values are one product, [q; k; v], with a result in
  three contiguous parts. Small matrices are stored transposed, which MKL multiplies by faster: a layer 128 wide took
  .79 times as long with 18 rows, .85 with 66. Their attention and MLP are added by the products to the residual. Large
  matrices are not transposed, since oneDNN's products then took up to 1.7 times as long.
- One product for `[q; k; v; fc1]` and one for `[dense, fc2]` was tried: parts of its rows are not contiguous, so norms
  copy them, and attention and GELU have to be copied next to each other. Of many rows it took 1.2 times as long.
- Weights are in memory once: the parameters of the modules become views of the packed matrix. Names, checkpoints and
  writes into parameters stay as they are. Parameters that were replaced, as by `load_state_dict(assign=True)`, have
  other addresses and are packed again. Layers in training mode, with adapters around their modules or with quantized
  weights, and sharded ones, keep separate products.
- oneDNN and torch's layer above it keep compiled kernels by shape, 1,024 each, which took 80 KiB per request where
  every request has another shape. 64 of each are as fast and stay flat (`benchmarks/engine_memory.py`). Both read their
  limit from the environment at the first use, so it is set here; a value that the user set stays.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from math import pi
from operator import getitem
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showo_turbo.models.phi import PhiBackbone, PhiLayer

_MIN_LARGE_WEIGHTS = 2**20
_WEIGHTS_PER_BLOCK = 2**20
_VALUES_PER_BLOCK = 2**16
_LINEAR = 2 * (2 / pi) ** 0.5
_CUBIC = 0.044715 * _LINEAR
_LINEAR_TENSOR = torch.tensor(_LINEAR, dtype=torch.float64, device="cpu")

for _limit in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(_limit, "64")


def arithmetic_dtype(weight: Tensor) -> torch.dtype:
    """Return the dtype of activations: float32 on the CPU, the dtype of the weights on other devices."""
    return torch.promote_types(weight.dtype, torch.float32) if weight.device.type == "cpu" else weight.dtype


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute `F.linear` in the dtype of `x`; the weight may have a lower precision.

    Args:
        x: (..., inputs).
        weight: (outputs, inputs).
        bias: (outputs,).

    Returns:
        (..., outputs).
    """
    if weight.dtype.itemsize < x.dtype.itemsize:
        blocks = [
            linear(x, weight[rows].to(x.dtype), None if bias is None else bias[rows].to(x.dtype))
            for rows in row_blocks(weight)
        ]
        return torch.cat(blocks, dim=-1)
    if weight.numel() >= _MIN_LARGE_WEIGHTS and _can_use_onednn(x, weight):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def tanh_gelu_(x: Tensor) -> Tensor:
    """Return the GELU of `x` (rows, columns), which may be overwritten by it."""
    if torch.compiler.is_exporting():  # fused by the compiler, with a sigmoid that is faster than its tanh
        return x * torch.sigmoid(x * (_LINEAR + _CUBIC * x * x))
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    for rows in x.split(max(1, _VALUES_PER_BLOCK // x.shape[1])):
        rows.mul_(torch.addcmul(_LINEAR_TENSOR, rows, rows, value=_CUBIC).mul_(rows).sigmoid_())
    return x


def row_blocks(weight: Tensor) -> list[slice]:
    """Return slices of the rows of a matrix, each small enough to upcast in the cache."""
    count = max(1, _WEIGHTS_PER_BLOCK // weight.shape[1])
    return [slice(first, first + count) for first in range(0, len(weight), count)]


class UpcastLinear(nn.Linear):
    """Linear layer around the parameters of another one, which may have a lower precision than the input."""

    def __init__(self, layer: nn.Linear) -> None:
        """Share the parameters of `layer`."""
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs), in the precision of `x`."""
        return linear(x, self.weight, self.bias)


class UpcastLayerNorm(nn.LayerNorm):
    """Layer norm around the parameters of another one, which may have a lower precision than the input."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        """Share the parameters of `norm`."""
        super().__init__(norm.normalized_shape, norm.eps, device="meta")
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width), in the precision of `x`."""
        if self.weight.dtype.itemsize >= x.dtype.itemsize:
            return super().forward(x)
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class GeluMLP(nn.Module):
    """Phi's MLP with the tanh form of GELU, which oneDNN fuses with the first layer. Parameter names are Phi's."""

    fc1: nn.Module
    fc2: nn.Module

    def __init__(self, mlp: nn.Module) -> None:
        """Share the layers `fc1` and `fc2` of `mlp`."""
        super().__init__()
        self.fc1, self.activation_fn, self.fc2 = mlp.fc1, nn.GELU(approximate="tanh"), mlp.fc2  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        first = self.fc1
        if isinstance(first, nn.Linear) and _can_use_onednn(x, first.weight):  # not if a LoRA wraps it
            return self.fc2(torch.ops.mkldnn._linear_pointwise(x, first.weight, first.bias, "gelu", [], "tanh"))
        return self.fc2(self.activation_fn(first(x)))


def upcast(module: nn.Module) -> None:
    """Replace the linear layers and layer norms inside `module` by ones that upcast their weights to their input."""
    replace_submodules(module, {nn.Linear: UpcastLinear, nn.LayerNorm: UpcastLayerNorm})


def replace_submodules(module: nn.Module, replacements: Mapping[type[nn.Module], Callable[[Any], nn.Module]]) -> None:
    """Replace every submodule whose type is a key of `replacements` by a new module that is built around it."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in replacements:
                setattr(parent, name, replacements[type(child)](child).train(child.training))


def _can_use_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and type(weight) in (Tensor, nn.Parameter)  # not a quantized one
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


class PackedLinears:
    """Compute queries, keys and values by one product, of which the parameters of the modules are views from now on."""

    def __init__(self, layer: PhiLayer) -> None:
        """Move the weights of a layer, which `_is_packable`."""
        self.modules = linear_modules(layer)
        *projections, fc1, dense, fc2 = self.modules
        size = projections[1].out_features
        self.weight = torch.cat([module.weight.detach() for module in projections]).unflatten(0, (-1, size))
        self.bias = torch.cat([module.bias.detach() for module in projections]).unflatten(0, (-1, size))
        largest = max(self.weight.numel(), *(module.weight.numel() for module in (fc1, dense, fc2)))
        is_computed_as_it_is = arithmetic_dtype(self.weight) == self.weight.dtype
        self.is_transposed = largest < _MIN_LARGE_WEIGHTS and is_computed_as_it_is and len(self.weight) == 3
        if self.is_transposed:
            self.weight = _transpose_in_memory(self.weight)
            for module in (fc1, dense, fc2):
                module.weight.data = _transpose_in_memory(module.weight.detach())
        counts = [module.out_features // size for module in projections]
        for module, weight, bias in zip(projections, self.weight.split(counts), self.bias.split(counts), strict=True):
            module.weight.data, module.bias.data = weight.flatten(0, 1), bias.flatten()
        names = [(module._parameters, name) for module in self.modules for name in module._parameters]
        self._parameters, self._names = zip(*names, strict=True)
        self._addresses = self._current_addresses()

    def is_current(self, layer: PhiLayer) -> bool:
        """Return whether the modules of a layer still have these weights."""
        return linear_modules(layer) == self.modules and self._current_addresses() == self._addresses

    def _current_addresses(self) -> list[int]:
        parameters = cast("map[Tensor]", map(getitem, self._parameters, self._names))
        return [*map(Tensor.data_ptr, parameters)]  # a loop would take twice as long, in every pass

    def attention(self, normed: Tensor, parts: slice) -> Tensor:
        """See `LayerLinears`."""
        weight, bias = self.weight[parts], self.bias[parts]
        if self.is_transposed:
            return torch.baddbmm(bias[:, None], normed.expand(len(weight), -1, -1), weight.mT)
        return linear(normed, weight.flatten(0, 1), bias.flatten()).unflatten(-1, bias.shape).transpose(0, 1)


class SeparateLinears:
    """Call the modules of a layer one after the other."""

    is_transposed = False

    def __init__(self, layer: PhiLayer) -> None:
        """Refer to the modules of a layer."""
        self.projections = linear_modules(layer)[:3]
        self.size = layer.self_attn.kv_heads * layer.self_attn.head_dim

    def attention(self, normed: Tensor, parts: slice) -> Tensor:
        """See `LayerLinears`."""
        states = torch.cat([module(normed) for module in self.projections[parts]], -1)
        return states.unflatten(-1, (-1, self.size)).transpose(0, 1)


def pack_layers(phi: PhiBackbone) -> bool:
    """Choose how each layer computes, `layer.linears`, and return whether weights were moved."""
    moved = False
    for layer in cast("Sequence[PhiLayer]", phi.layers):
        if isinstance(layer.linears, PackedLinears) and layer.linears.is_current(layer):
            continue
        packable = _is_packable(layer)
        with torch.inference_mode(False), torch.no_grad():
            layer.linears = PackedLinears(layer) if packable else SeparateLinears(layer)
        moved |= packable
    return moved


def linear_modules(layer: PhiLayer) -> tuple[nn.Linear, ...]:
    """Return the projections of queries, keys and values, fc1, dense and fc2."""
    own = layer._modules  # `getattr` of each module would take ten times as long
    attention, mlp = cast(nn.Module, own["self_attn"])._modules, cast(nn.Module, own["mlp"])._modules
    parts = (attention["q_proj"], attention["k_proj"], attention["v_proj"], mlp["fc1"], attention["dense"], mlp["fc2"])
    return cast("tuple[nn.Linear, ...]", parts)


def _is_packable(layer: PhiLayer) -> bool:
    modules = linear_modules(layer)
    is_sharded = type(layer) is not PhiLayer  # FSDP2 has a class of its own, and moves its weights
    if layer.training or is_sharded or not all(type(module) in (nn.Linear, UpcastLinear) for module in modules):
        return False
    weights = [weight for module in modules for weight in (module.weight, module.bias)]
    return len({weight.dtype for weight in weights if weight is not None}) == 1 and all(
        type(weight) is nn.Parameter and weight.grad is None and not weight.is_inference() for weight in weights
    )


def _transpose_in_memory(weight: Tensor) -> Tensor:
    """Return the same matrices (..., rows, columns), stored column by column."""
    return weight.mT.contiguous().mT
