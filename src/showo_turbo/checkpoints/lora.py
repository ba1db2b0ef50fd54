"""Merge a LoRA adapter folder, as PEFT writes it, into the weights of its base while these are read.

LoRA (arXiv 2106.09685): W' = W + scale * B A, with scale = alpha / rank, or alpha / sqrt(rank) if "rank-stabilised"
(arXiv 2312.03732). Full tensors in the adapter, such as biases and `modules_to_save`, replace the base's.

Decisions:
- The merge is not left to PEFT, which needs base model and adapter in memory: weights are merged one tensor at a time
  while they are read, so the peak is that of loading the base alone (tests/checkpoints/test_memory.py measures it).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from showo_turbo.checkpoints.names import ADAPTER_CONFIG, ADAPTER_FILES
from showo_turbo.checkpoints.weights import Weights, open_weights
from showo_turbo.errors import InputError
from showo_turbo.files import read_json

_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?")
_WRAPPING = re.compile(r"^base_model\.model\.|(?<=\.)(base_layer|default|modules_to_save)\.|\.default$")
_BACKBONE = "showo."

_INITIALIZATIONS_ON_THE_PLAIN_BASE = ("gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the base's weights as they are; PEFT's others replace them."""


@dataclass(frozen=True)
class AdapterScale:
    """Hold the fields of an `adapter_config.json` that determine the scale of each low-rank update.

    Attributes:
        lora_alpha: numerator of the scale.
        use_rslora: divide by the square root of the rank instead of the rank.
        alpha_pattern: exceptions to `lora_alpha` by regular expression, matched against the end of a module name.
    """

    lora_alpha: float = 8
    use_rslora: bool = False
    alpha_pattern: dict[str, float] = field(default_factory=dict)

    def of_module(self, module: str, rank: int) -> float:
        """Return the factor of B A for one module."""
        alphas = (alpha for end, alpha in self.alpha_pattern.items() if re.match(rf"(.*\.)?({end})$", module))
        return next(alphas, self.lora_alpha) / (math.sqrt(rank) if self.use_rslora else rank)


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


Update = TypeVar("Update", Tensor, LowRankUpdate)


def read_adapter_config(folder: Path) -> dict:
    """Read the `adapter_config.json` of a folder.

    Raises:
        InputError: if it cannot be read, or the adapter is of a kind that cannot be merged.
    """
    values = read_json(folder / ADAPTER_CONFIG)
    kind = "DORA" if values.get("use_dora") else values.get("peft_type")
    if kind != "LORA":
        raise InputError(f"adapter {str(folder)!r} is of kind {kind!r}: only LORA can be merged")
    initialization = values.get("init_lora_weights")
    if isinstance(initialization, str) and initialization not in _INITIALIZATIONS_ON_THE_PLAIN_BASE:
        raise InputError(
            f"adapter {str(folder)!r} was initialized as {initialization!r} (init_lora_weights), which replaces its "
            "base's weights: merge it with PEFT, or convert it there to a plain LoRA"
        )
    return values


def merge_adapter(base: Weights, folder: Path) -> Weights:
    """Return the weights of a base with an adapter folder merged in, one tensor at a time as they are read.

    Raises:
        InputError: if the adapter cannot be read or was made for another base.
    """
    values = read_adapter_config(folder)
    scale = AdapterScale(**{one.name: values[one.name] for one in fields(AdapterScale) if values.get(one.name)})
    adapter = open_weights(folder, ADAPTER_FILES)
    tensors = {_WRAPPING.sub("", name): tensor.clone() for name, tensor in adapter.stream()}
    updates = _with_base_names(_low_rank_updates(tensors, scale, adapter.source), base, adapter.source)
    replacements = {name: tensor for name, tensor in tensors.items() if not _FACTOR.fullmatch(name)}
    replacements = _with_base_names(replacements, base, adapter.source)

    def read() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in base.stream():
            weight = replacements.get(name, tensor)
            yield name, updates[name].applied_to(weight) if name in updates else weight

    return Weights(f"{base.source} with {adapter.source}", base.layout, read)


def _low_rank_updates(tensors: dict[str, Tensor], scale: AdapterScale, source: str) -> dict[str, LowRankUpdate]:
    """Pair the LoRA factors of an adapter: updates by the name of their weight."""
    pairs: dict[tuple[str, bool], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if factor := _FACTOR.fullmatch(name):
            pair = pairs.setdefault((factor["module"], bool(factor["embedding"])), {})
            pair[factor["side"]] = tensor
    updates = {}
    for (module, embedding), pair in pairs.items():
        if pair.keys() != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
            raise InputError(f"{source} has no fitting pair of LoRA factors for {module}")
        outer, inner = (pair["A"].T, pair["B"].T) if embedding else (pair["B"], pair["A"])
        updates[f"{module}.weight"] = LowRankUpdate(outer, inner, scale.of_module(module, rank=inner.shape[0]))
    return updates


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
