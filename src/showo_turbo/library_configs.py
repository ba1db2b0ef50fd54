"""Create configs of the transformers library from JSON files, which are data and nothing else.

`from_pretrained` of that library does more than read numbers: a config may name Python files to execute (`auto_map`),
attention kernels to download and execute (`attn_implementation`), or another config file. So files are parsed here, and
only the fields that describe the architecture are passed on.

Numbers are checked before the library is called, which builds a model of any size, and computes with any number.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from showo_turbo.errors import InputError
from showo_turbo.validation import check_integer, check_number, shown

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Config = TypeVar("Config", bound="PreTrainedConfig")

_ROTARY_FIELDS = ("rope_theta", "rope_scaling", "partial_rotary_factor")
"""Fields of older configs that the library turns into `rope_parameters`."""

_SIZES = {
    "hidden_size": 1 << 16,
    "image_size": 1 << 13,
    "intermediate_size": 1 << 18,
    "max_position_embeddings": 1 << 22,
    "num_attention_heads": 1 << 12,
    "num_channels": 16,
    "num_hidden_layers": 1000,
    "num_key_value_heads": 1 << 12,
    "original_max_position_embeddings": 1 << 22,
    "patch_size": 1 << 13,
    "projection_dim": 1 << 16,
}
"""Largest values of fields that hold whole numbers from 1."""

_NUMBERS: dict[str, tuple[float, float]] = {
    "attention_dropout": (0, 1),
    "attention_factor": (1e-3, 1e3),
    "embd_pdrop": (0, 1),
    "factor": (1, 1e4),
    "initializer_range": (0, 1e3),
    "layer_norm_eps": (1e-20, 0.1),
    "partial_rotary_factor": (1e-3, 1),
    "resid_pdrop": (0, 1),
    "rope_theta": (1, 1e12),
}
"""Smallest and largest values of other numbers."""

_ROTARY = ("rope_parameters", "rope_scaling")


def create_config(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """Create a library config from the fields that its class defines itself; all others are ignored.

    Raises:
        InputError: if a number has another type or lies outside its range.
        Exception: of any type, if the library refuses a value.
    """
    from transformers import PreTrainedConfig

    own = {field.name for field in fields(cls)} - {field.name for field in fields(PreTrainedConfig)}
    known = own | set(_ROTARY_FIELDS) if "rope_parameters" in own else own
    chosen = {name: value for name, value in values.items() if name in known}
    check_config_numbers(chosen)
    return cls(**chosen)


def check_config_numbers(values: Mapping[str, Any]) -> None:
    """Check the numbers of a parsed config; None stands for the default, and unknown fields are ignored.

    Raises:
        InputError: if a number has another type or lies outside its range.
    """
    for name, value in values.items():
        if value is None:
            continue
        if name in _SIZES:
            check_integer(name, value, 1, _SIZES[name])
        elif name in _NUMBERS:
            check_number(name, value, *_NUMBERS[name])
        elif name in _ROTARY:
            if not isinstance(value, dict):
                raise InputError(f"{name} is {shown(value)}: expected an object")
            check_config_numbers(value)
            for inner, number in value.items():
                for one in number if isinstance(number, list) else [number]:
                    if not isinstance(one, str | None) and type(one) is not bool:
                        check_number(f"{inner} in {name}", one)
