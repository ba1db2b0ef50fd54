"""The linear layers of a Phi layer as two matrix products.

    normed --[fc1; q; k; v]--> MLP | queries | keys | values      four layers of one input: rows of one matrix
    attention | GELU of MLP --[dense, fc2]--> their sum           two layers whose outputs are added: columns of one

Decisions:
- Weights are in memory once: the parameters of the modules become views of the two matrices. Names, checkpoints and
  writes into parameters stay as they are. Parameters that were replaced, as by `load_state_dict(assign=True)`, have
  other addresses and are packed again.
- Parts that are used together are neighbours: queries and keys for the rotary embedding, keys and values for the KV
  cache, and either half of the first matrix in the last layer.
- `pack_layers` alone decides. Layers in training mode, with adapters around their modules or with quantized weights
  keep separate products.
- A small second matrix is stored transposed: with 66 rows of width 128 the product took 0.44 times as long. A large one
  is not, since oneDNN's products then took up to 1.7 times as long.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from showo_turbo.backends.linear import UpcastLinear, linear
from showo_turbo.models.phi import PhiBackbone, PhiLayer

_MIN_LARGE_WEIGHTS = 2**20


class PackedLinears:
    """Compute with two matrices, which the parameters of the modules are views of from now on."""

    def __init__(self, layer: PhiLayer) -> None:
        """Move the weights of a layer, which `_is_packable`."""
        self.modules = linear_modules(layer)
        *sources, dense, fc2 = self.modules
        self.weight = _join([module.weight for module in sources], 0)
        self.bias = _join([module.bias for module in sources], 0)
        self.combining_weight = _join([dense.weight, fc2.weight], 1)
        self.combining_biases = (dense.bias, fc2.bias)
        self.num_early = sum(module.out_features for module in sources[:2])
        self.addresses = _addresses(self.modules)

    def is_current(self, layer: PhiLayer) -> bool:
        """Return whether the modules of a layer still have these weights."""
        return linear_modules(layer) == self.modules and _addresses(self.modules) == self.addresses

    def project(self, normed: Tensor) -> Tensor:
        """See `LayerLinears`."""
        return linear(normed, self.weight, self.bias)

    def project_mlp_queries(self, normed: Tensor) -> Tensor:
        """See `LayerLinears`."""
        return linear(normed, self.weight[: self.num_early], self.bias[: self.num_early])

    def project_keys_values(self, normed: Tensor) -> Tensor:
        """See `LayerLinears`."""
        return linear(normed, self.weight[self.num_early :], self.bias[self.num_early :])

    def combine(self, joined: Tensor) -> Tensor:
        """See `LayerLinears`."""
        first, second = (bias.to(joined.dtype) for bias in self.combining_biases)
        return linear(joined, self.combining_weight, first + second)


class SeparateLinears:
    """Call the modules of a layer one after the other."""

    def __init__(self, layer: PhiLayer) -> None:
        """Refer to the modules of a layer."""
        self.modules = linear_modules(layer)

    def project(self, normed: Tensor) -> Tensor:
        """See `LayerLinears`."""
        return torch.cat([module(normed) for module in self.modules[:4]], -1)

    def project_mlp_queries(self, normed: Tensor) -> Tensor:
        """See `LayerLinears`."""
        return torch.cat([module(normed) for module in self.modules[:2]], -1)

    def project_keys_values(self, normed: Tensor) -> Tensor:
        """See `LayerLinears`."""
        return torch.cat([module(normed) for module in self.modules[2:4]], -1)

    def combine(self, joined: Tensor) -> Tensor:
        """See `LayerLinears`."""
        *_, dense, fc2 = self.modules
        attention, mlp = joined.split([dense.in_features, fc2.in_features], -1)
        return dense(attention).add_(fc2(mlp))


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
    """Return fc1, the projections of queries, keys and values, dense and fc2."""
    attention, mlp = layer.self_attn._modules, layer.mlp._modules  # `getattr` of each would take ten times as long
    names = (mlp["fc1"], attention["q_proj"], attention["k_proj"], attention["v_proj"], attention["dense"], mlp["fc2"])
    return cast("tuple[nn.Linear, ...]", names)


def _is_packable(layer: PhiLayer) -> bool:
    modules = linear_modules(layer)
    if layer.training or not all(type(module) in (nn.Linear, UpcastLinear) for module in modules):
        return False
    weights = [weight for module in modules for weight in (module.weight, module.bias)]
    return len({weight.dtype for weight in weights if weight is not None}) == 1 and all(
        type(weight) is nn.Parameter and weight.grad is None and not weight.is_inference() for weight in weights
    )


def _join(parameters: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenate parameters and make them views of the result."""
    joined = torch.cat([parameter.detach() for parameter in parameters], dim)
    if dim == 1 and joined.numel() < _MIN_LARGE_WEIGHTS:
        joined = joined.t().contiguous().t()
    for parameter, view in zip(parameters, joined.split([one.shape[dim] for one in parameters], dim), strict=True):
        parameter.data = view
    return joined


def _addresses(modules: Sequence[nn.Module]) -> list[int]:
    return [weight.data_ptr() for module in modules for weight in module._parameters.values() if weight is not None]
