"""A LoRA adapter folder, as PEFT writes it, merged into the weights of its base while these are read.

LoRA (arXiv 2106.09685): W' = W + scale * B A, with scale = alpha / rank, or alpha / sqrt(rank) if "rank-stabilised"
(arXiv 2312.03732). Tensors that the adapter holds whole, such as biases and `modules_to_save`, take the base's place.
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

_STARTS_THAT_KEEP_THE_BASE = ("gaussian", "eva", "orthogonal")
"""Ways to begin an adapter (`init_lora_weights`) after which it changes the base as it was; PEFT has others."""


@dataclass(frozen=True)
class LoraConfig:
    """What of an `adapter_config.json` decides the merge.

    Attributes:
        lora_alpha: numerator of the scale.
        use_rslora: whether the scale's denominator is the root of the rank.
        alpha_pattern: other values of `lora_alpha` by module name, or its end, as a regular expression.
    """

    lora_alpha: float = 8
    use_rslora: bool = False
    alpha_pattern: dict[str, float] = field(default_factory=dict)

    def scale(self, module: str, rank: int) -> float:
        """Weight of the product of a module's factors."""
        alphas = (alpha for end, alpha in self.alpha_pattern.items() if re.match(rf"(.*\.)?({end})$", module))
        return next(alphas, self.lora_alpha) / (math.sqrt(rank) if self.use_rslora else rank)


@dataclass(frozen=True)
class LowRankChange:
    """A change of one weight.

    Attributes:
        outer: (rows, rank).
        inner: (rank, columns).
        scale: weight of their product.
    """

    outer: Tensor
    inner: Tensor
    scale: float

    @property
    def shape(self) -> torch.Size:
        """(rows, columns)."""
        return torch.Size((self.outer.shape[0], self.inner.shape[1]))

    def applied_to(self, weight: Tensor) -> Tensor:
        """The changed weight, in float32."""
        return weight.float() + self.scale * (self.outer.float() @ self.inner.float())


Change = TypeVar("Change", Tensor, LowRankChange)


def read_adapter_config(folder: Path) -> dict:
    """The `adapter_config.json` of a folder.

    Raises:
        InputError: when it cannot be read, or the adapter is of a kind that cannot be merged.
    """
    values = read_json(folder / ADAPTER_CONFIG)
    kind = "DORA" if values.get("use_dora") else values.get("peft_type")
    if kind != "LORA":
        raise InputError(f"adapter {str(folder)!r} is of kind {kind!r}: only LORA can be merged")
    start = values.get("init_lora_weights")
    if isinstance(start, str) and start not in _STARTS_THAT_KEEP_THE_BASE:
        raise InputError(
            f"adapter {str(folder)!r} began as {start!r} (init_lora_weights), which replaces its base's weights: merge "
            "it with PEFT, or convert it there to a plain LoRA"
        )
    return values


def merge_adapter(base: Weights, folder: Path) -> Weights:
    """The weights of a base with an adapter folder merged in, a weight at a time.

    Raises:
        InputError: when the adapter cannot be read or was made for another base.
    """
    values = read_adapter_config(folder)
    config = LoraConfig(**{one.name: values[one.name] for one in fields(LoraConfig) if values.get(one.name)})
    adapter = open_weights(folder, ADAPTER_FILES)
    tensors = {_WRAPPING.sub("", name): tensor.clone() for name, tensor in adapter.stream()}
    changes = _changes(tensors, config, adapter.source)
    whole = {name: tensor for name, tensor in tensors.items() if not _FACTOR.fullmatch(name)}
    changes, whole = _aimed(changes, base, adapter.source), _aimed(whole, base, adapter.source)

    def read() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in base.stream():
            changed = whole.get(name, tensor)
            yield name, changes[name].applied_to(changed) if name in changes else changed

    return Weights(f"{base.source} with {adapter.source}", base.layout, read)


def _changes(tensors: dict[str, Tensor], config: LoraConfig, source: str) -> dict[str, LowRankChange]:
    """Low-rank changes by the name of the weight they change."""
    pairs = {}
    for name, tensor in tensors.items():
        if factor := _FACTOR.fullmatch(name):
            pair = pairs.setdefault((factor["module"], bool(factor["embedding"])), {})
            pair[factor["side"]] = tensor
    changes = {}
    for (module, embedding), pair in pairs.items():
        if pair.keys() != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
            raise InputError(f"{source} has no fitting pair of LoRA factors for {module}")
        scale = config.scale(module, rank=pair["A"].shape[0])
        outer, inner = (pair["A"].T, pair["B"].T) if embedding else (pair["B"], pair["A"])
        changes[f"{module}.weight"] = LowRankChange(outer, inner, scale)
    return changes


def _aimed(changes: dict[str, Change], base: Weights, source: str) -> dict[str, Change]:
    """Changes by the base's names; an adapter may have been made for the backbone alone."""
    aimed = {name if name in base.layout else _BACKBONE + name: change for name, change in changes.items()}
    for name, change in aimed.items():
        found = base.layout.get(name)
        if found is None or found.shape != change.shape:
            there = "there is no such weight" if found is None else f"there it is {tuple(found.shape)}"
            raise InputError(
                f"{source} changes {name.removeprefix(_BACKBONE)} {tuple(change.shape)}, but in its base, "
                f"{base.source}, {there}: name the base it was made for"
            )
    return aimed
