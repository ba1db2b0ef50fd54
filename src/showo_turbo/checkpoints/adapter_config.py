"""Read the `adapter_config.json` of a LoRA adapter, with the meaning that PEFT gives to it.

Decisions:
- Values count as they are written: a `lora_alpha` of 0 leaves the base unchanged, a rank of 0 is refused.
- Factors of modules that `target_modules` and the like leave out change nothing.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import regex

from showo_turbo.checkpoints.adapter_patterns import AdapterPatterns
from showo_turbo.checkpoints.adapter_targets import AdapterTargets
from showo_turbo.checkpoints.names import ADAPTER_CONFIG
from showo_turbo.errors import InputError
from showo_turbo.files import read_json
from showo_turbo.validation import check_number

_INITIALIZATIONS_ON_THE_PLAIN_BASE = ("gaussian", "eva", "orthogonal", "mica")
"""Values of `init_lora_weights` that leave the base's weights as they are; PEFT's others replace them."""

_OTHER_METHODS = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
)
"""Fields that make an adapter more than low-rank updates of weights."""

_JSON_TYPES = {str: "a text", dict: "an object", list: "a list of texts"}


@dataclass(frozen=True)
class AdapterConfig:
    """Hold the fields of an `adapter_config.json` that determine how an adapter is merged.

    Attributes:
        source: the file, for error messages.
        targets: the modules that it updates.
        base: the name of the base model, if the file holds one.
        r: rank of the updates.
        lora_alpha: numerator of the scale.
        use_rslora: divide by the square root of the rank instead of the rank.
        lora_bias: updates have a bias.
        rank_pattern: exceptions to `r` by regular expression, matched against the end of a module name.
        alpha_pattern: exceptions to `lora_alpha`, likewise.
        modules_to_save: ends of the names of modules whose weights the adapter replaces.
    """

    source: str
    targets: AdapterTargets
    base: str | None = None
    r: Any = 8
    lora_alpha: Any = 8
    use_rslora: bool = False
    lora_bias: bool = False
    rank_pattern: Mapping[str, Any] = field(default_factory=dict)
    alpha_pattern: Mapping[str, Any] = field(default_factory=dict)
    modules_to_save: tuple[str, ...] = ()

    def ranks_and_scales(self, modules: Iterable[str]) -> dict[str, tuple[int, float]]:
        """Return rank and scale of the updates of modules, by module name.

        Raises:
            InputError: if a value is invalid, or a pattern is or takes too long.
        """
        patterns = AdapterPatterns(self.source)
        ranks, alphas = self._compiled(patterns, "rank_pattern"), self._compiled(patterns, "alpha_pattern")
        found = {}
        for module in modules:
            rank = next((value for pattern, value in ranks if patterns.match(pattern, module)), self.r)
            alpha = next((value for pattern, value in alphas if patterns.match(pattern, module)), self.lora_alpha)
            if type(rank) is not int or rank < 1:
                raise InputError(f"{self.source}: the rank of {module} is {rank!r}: expected a whole number, 1 or more")
            check_number(f"{self.source}: lora_alpha of {module}", alpha)
            found[module] = rank, alpha / (math.sqrt(rank) if self.use_rslora else rank)
        return found

    def _compiled(self, patterns: AdapterPatterns, name: str) -> list[tuple["regex.Pattern[str]", Any]]:
        return [(patterns.compile(name, key, r"(.*\.)?({})$"), value) for key, value in getattr(self, name).items()]


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read the `adapter_config.json` of a folder.

    Raises:
        InputError: if it cannot be read, a field has another type, or the adapter is of a kind that cannot be merged.
    """
    values, source = read_json(folder / ADAPTER_CONFIG), f"adapter {str(folder)!r}"
    kind = "DORA" if values.get("use_dora") else values.get("peft_type")
    if kind != "LORA":
        raise InputError(f"{source} is of kind {kind!r}: only LORA can be merged")
    initialization = values.get("init_lora_weights")
    if isinstance(initialization, str) and initialization not in _INITIALIZATIONS_ON_THE_PLAIN_BASE:
        raise InputError(
            f"{source} was initialized as {initialization!r} (init_lora_weights), which replaces its "
            "base's weights: merge it with PEFT, or convert it there to a plain LoRA"
        )
    if other := [name for name in _OTHER_METHODS if values.get(name)]:
        raise InputError(f"{source} uses {other[0]}, which cannot be merged here: merge it with PEFT, if that can")
    modules_to_save = values.get("modules_to_save") or []
    for name, value, expected in (
        ("base_model_name_or_path", values.get("base_model_name_or_path") or "", str),
        ("rank_pattern", values.get("rank_pattern", {}), dict),
        ("alpha_pattern", values.get("alpha_pattern", {}), dict),
        ("modules_to_save", modules_to_save, list),
        *(("modules_to_save", module, str) for module in modules_to_save if isinstance(modules_to_save, list)),
    ):
        if not isinstance(value, expected):
            raise InputError(f"{source} has {name} {value!r}: expected {_JSON_TYPES[expected]}")
    return AdapterConfig(
        source=source,
        targets=AdapterTargets.from_dict(source, values),
        base=values.get("base_model_name_or_path"),
        r=values.get("r", 8),
        lora_alpha=values.get("lora_alpha", 8),
        use_rslora=bool(values.get("use_rslora")),
        lora_bias=bool(values.get("lora_bias")),
        rank_pattern=values.get("rank_pattern", {}),
        alpha_pattern=values.get("alpha_pattern", {}),
        modules_to_save=tuple(modules_to_save),
    )
