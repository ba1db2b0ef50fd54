"""Merge a LoRA adapter folder, as PEFT writes it, into the weights of its base while these are read.

LoRA (arXiv 2106.09685): W' = W + scale * B A, with scale = alpha / rank, or alpha / sqrt(rank) if "rank-stabilised"
(arXiv 2312.03732). Full tensors in the adapter, such as biases and `modules_to_save`, replace the base's.

Decisions:
- The merge is not left to PEFT, which needs base model and adapter in memory: weights are merged one tensor at a time
  while they are read, so the peak is that of loading the base alone (tests/checkpoints/test_memory.py measures it).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from showo_turbo.checkpoints.adapter_base import check_base
from showo_turbo.checkpoints.adapter_config import AdapterConfig, read_adapter_config
from showo_turbo.checkpoints.names import ADAPTER_FILES
from showo_turbo.checkpoints.weights import Weights, check_numbers, open_weights
from showo_turbo.errors import InputError

_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?")
_BIAS = re.compile(r"(?P<module>.+)\.lora_B\.bias")
_WRAPPING = re.compile(r"^base_model\.model\.|(?<=\.)(base_layer|default|modules_to_save)\.|\.default$")
_BACKBONE = "showo."


@dataclass(frozen=True)
class LowRankUpdate:
    """Hold the update of one weight, scale * outer @ inner.

    Attributes:
        outer: (rows, rank).
        inner: (rank, columns).
        scale: factor of their product.
    """

    outer: Tensor
    inner: Tensor
    scale: float

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight, (rows, columns)."""
        return torch.Size((self.outer.shape[0], self.inner.shape[1]))

    def applied_to(self, weight: Tensor) -> Tensor:
        """Return the updated weight in float32."""
        return weight.float() + self.scale * (self.outer.float() @ self.inner.float())


@dataclass(frozen=True)
class BiasUpdate:
    """Hold the update of one bias, scale * addend."""

    addend: Tensor
    scale: float

    @property
    def shape(self) -> torch.Size:
        """Shape of the bias."""
        return self.addend.shape

    def applied_to(self, bias: Tensor) -> Tensor:
        """Return the updated bias in float32."""
        return bias.float() + self.scale * self.addend.float()


Update = TypeVar("Update", Tensor, LowRankUpdate | BiasUpdate)


def merge_adapter(base: Weights, folder: Path) -> Weights:
    """Return the weights of a base with an adapter folder merged in, one tensor at a time as they are read.

    Raises:
        InputError: if the adapter cannot be read or merged, or was made for another base.
    """
    config = read_adapter_config(folder)
    adapter = open_weights(folder, ADAPTER_FILES)
    check_numbers(adapter)
    tensors = {_WRAPPING.sub("", name): tensor.clone() for name, tensor in adapter.stream()}
    if len(tensors) < len(adapter.layout):
        raise InputError(f"{adapter.source} holds two adapters or two weights of one name: keep one")
    if not tensors:
        raise InputError(f"{adapter.source} holds no weights: was the adapter saved?")
    replacements = {
        name: one for name, one in tensors.items() if not _FACTOR.fullmatch(name) and not _BIAS.fullmatch(name)
    }
    _check_saved_modules(config, replacements)
    tensors = _of_targets(tensors, config)
    updates = _with_base_names(_updates(tensors, config, adapter.source), base, adapter.source)
    replacements = _with_base_names(replacements, base, adapter.source)

    def read() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in check_base(folder, base.stream(), base.source):
            weight = replacements.get(name, tensor)
            yield name, updates[name].applied_to(weight) if name in updates else weight

    return Weights(f"{base.source} with {adapter.source}", base.layout, read)


def _of_targets(tensors: Mapping[str, Tensor], config: AdapterConfig) -> dict[str, Tensor]:
    """Return the LoRA factors and their biases that belong to modules which the config chooses.

    Raises:
        InputError: if it chooses none of those with factors.
    """
    factors = {name: found for name in tensors if (found := _FACTOR.fullmatch(name) or _BIAS.fullmatch(name))}
    targets = config.targets.among({found["module"] for found in factors.values()})
    if factors and not targets:
        raise InputError(f"{config.source} holds LoRA factors of other modules than its target_modules: change these")
    return {name: tensors[name] for name, found in factors.items() if found["module"] in targets}


def _updates(
    tensors: Mapping[str, Tensor], config: AdapterConfig, source: str
) -> dict[str, LowRankUpdate | BiasUpdate]:
    """Pair the LoRA factors of an adapter: updates by the name of their weight or bias."""
    pairs: dict[tuple[str, bool], dict[str, Tensor]] = {}
    biases: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if factor := _FACTOR.fullmatch(name):
            pair = pairs.setdefault((factor["module"], bool(factor["embedding"])), {})
            pair[factor["side"]] = tensor
        elif bias := _BIAS.fullmatch(name):
            biases[bias["module"]] = tensor
    ranks_and_scales = config.ranks_and_scales([module for module, _ in pairs])
    updates: dict[str, LowRankUpdate | BiasUpdate] = {}
    for (module, embedding), pair in pairs.items():
        rank, scale = ranks_and_scales[module]
        if pair.keys() != {"A", "B"} or any(factor.ndim != 2 for factor in pair.values()):
            raise InputError(f"{source} has no fitting pair of LoRA factors for {module}")
        outer, inner = (pair["A"].T, pair["B"].T) if embedding else (pair["B"], pair["A"])
        if not outer.shape[1] == inner.shape[0] == rank:
            raise InputError(
                f"{source} has LoRA factors of rank {inner.shape[0]} and {outer.shape[1]} for {module}, but its "
                f"config says {rank}: no fitting pair"
            )
        updates[f"{module}.weight"] = LowRankUpdate(outer, inner, scale)
        if module in biases:
            updates[f"{module}.bias"] = BiasUpdate(biases.pop(module), scale)
        if embedding and config.lora_bias:
            raise InputError(f"{config.source} sets lora_bias, which embeddings such as {module} cannot have")
    if biases or (not config.lora_bias and any(isinstance(update, BiasUpdate) for update in updates.values())):
        raise InputError(f"{source} holds a lora_B.bias, but its config does not set lora_bias, or factors are missing")
    return updates


def _check_saved_modules(config: AdapterConfig, replacements: Mapping[str, Tensor]) -> None:
    """Raise `InputError` if the config says that a module was saved, and it was not."""
    modules = {name.rpartition(".")[0] for name in replacements}
    for name in config.modules_to_save:
        if not any(module.endswith(name) for module in modules):
            raise InputError(
                f"{config.source} says that it replaces {name} (modules_to_save), but holds no such weights"
            )


def _with_base_names(updates: dict[str, Update], base: Weights, source: str) -> dict[str, Update]:
    """Rename updates to the base's names: an adapter of the backbone alone lacks the prefix.

    Raises:
        InputError: if the base has no such weight, or one of another shape.
    """
    named = {name if name in base.layout else _BACKBONE + name: update for name, update in updates.items()}
    for name, update in named.items():
        found = base.layout.get(name)
        if found is None or found.shape != update.shape:
            there = "there is no such weight" if found is None else f"there it is {tuple(found.shape)}"
            raise InputError(
                f"{source} changes {name.removeprefix(_BACKBONE)} {tuple(update.shape)}, but in its base, "
                f"{base.source}, {there}: name the base it was made for"
            )
    return named
