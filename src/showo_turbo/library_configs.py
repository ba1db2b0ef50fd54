"""Create configs of the transformers library from JSON files, which are data and nothing else.

`from_pretrained` of that library does more than read numbers: a config may name Python files to execute (`auto_map`),
attention kernels to download and execute (`attn_implementation`), or another config file. So files are parsed here, and
only the fields that describe the architecture are passed on.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from transformers import PreTrainedConfig

Config = TypeVar("Config", bound=PreTrainedConfig)

_ROTARY_FIELDS = ("rope_theta", "rope_scaling", "partial_rotary_factor")
"""Fields of older configs that the library turns into `rope_parameters`."""


def create_config(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """Create a library config from the fields that its class defines itself; all others are ignored.

    Raises:
        Exception: of any type, if the library refuses a value.
    """
    own = {field.name for field in fields(cls)} - {field.name for field in fields(PreTrainedConfig)}
    known = own | set(_ROTARY_FIELDS) if "rope_parameters" in own else own
    return cls(**{name: value for name, value in values.items() if name in known})
