"""A sample of the weights that an adapter was trained on, stored beside it, by which another base is noticed.

base.json   {"base": "tiny", "values": {"showo.model.layers.0.self_attn.q_proj.weight": [0.013, ..], ..},
             "edits_images": true}    if it was trained on editing pairs

Decisions:
- Values are compared with a tolerance, in place of a hash of the file: a base converted to another dtype, or to shards,
  is the same base.
- Adapters of other programs have no such file, and are merged into any base of their shapes, as PEFT does.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from showo_turbo.checkpoints.names import ADAPTER_BASE
from showo_turbo.errors import InputError
from showo_turbo.files import read_json, write_json
from showo_turbo.validation import shown

_VALUES = 16
"""Number of values of a weight that are stored, the first ones."""

_TOLERANCE = 0.01
"""Relative difference of these values that is still the same weight; that of bfloat16 is up to 0.004."""


def write_base(folder: Path, base: str, weights: Mapping[str, Tensor], edits_images: bool) -> None:
    """Write a sample of the weights that an adapter was trained on.

    Args:
        folder: folder of the adapter.
        base: name of the model.
        weights: those of its weights that the adapter changes, by their names in a checkpoint.
        edits_images: see `ShowoConfig`.
    """
    values = {name: weight.flatten()[:_VALUES].tolist() for name, weight in weights.items()}
    write_json(folder / ADAPTER_BASE, {"base": base, "values": values, "edits_images": edits_images})


def teaches_edits(folder: Path) -> bool:
    """Return whether an adapter was trained on editing pairs."""
    file = folder / ADAPTER_BASE
    return file.exists() and read_json(file).get("edits_images") is True


def check_base(folder: Path, weights: Iterator[tuple[str, Tensor]], source: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of a base as they are, and check that an adapter was trained on them, if it has a sample.

    Args:
        folder: folder of the adapter.
        weights: of the base.
        source: the base, for the error message.

    Raises:
        InputError: if the sample is that of other weights, or its file is damaged.
    """
    sample = read_json(folder / ADAPTER_BASE) if (folder / ADAPTER_BASE).exists() else {}
    values = sample.get("values", {})
    if not isinstance(values, dict):
        raise InputError(
            f"{str(folder / ADAPTER_BASE)!r} has values {shown(values)}: expected numbers by name of weight"
        )
    for name, weight in weights:
        if name in values and not _is_same(values[name], weight):
            raise InputError(
                f"adapter {str(folder)!r} was trained on {shown(sample.get('base'))}, and {source} holds other weights "
                f"({name}): name the base that it was trained on"
            )
        yield name, weight


def _is_same(values: object, weight: Tensor) -> bool:
    """Return whether stored values are the first ones of a weight, but for rounding."""
    if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
        return False
    stored, found = torch.tensor(values, dtype=torch.float32), weight.flatten()[:_VALUES].float()
    return stored.shape == found.shape and bool((stored - found).norm() <= _TOLERANCE * stored.norm())
