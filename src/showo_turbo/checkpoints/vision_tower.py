"""A folder to a CLIP picture tower, for checkpoints with `w_clip_vit`."""

from dataclasses import replace
from pathlib import Path

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from showo_turbo.checkpoints.weights import Weights, fit_weights, open_weights
from showo_turbo.files import read_json
from showo_turbo.models.clip_vision import ClipVisionTower

_VISION = "vision_model."
_DERIVED = "embeddings.position_ids"


def load_vision_tower(folder: Path, dtype: torch.dtype = torch.float32) -> ClipVisionTower:
    """The tower of a CLIP model (its text side is passed over) or a tower alone, on the CPU.

    Raises:
        InputError: when config or weights cannot be read, or do not fit each other.
    """
    read_json(folder / "config.json")  # transformers takes a missing file for another CLIP
    config = CLIPVisionConfig.from_pretrained(folder)
    with torch.device("meta"):
        tower = CLIPVisionModel(config).to(dtype)
    fit_weights(tower, _vision_part(open_weights(folder)))
    # Positions are counted, not stored, so they are the one thing still without memory.
    tower.embeddings.position_ids = torch.arange(tower.embeddings.num_positions)[None]
    return ClipVisionTower(tower)


def _vision_part(weights: Weights) -> Weights:
    """The tensors of the tower, under the names that they have in a tower alone."""
    prefix = _VISION if any(name.startswith(_VISION) for name in weights.layout) else ""
    chosen = {
        name: name.removeprefix(prefix)
        for name in weights.layout
        if name.startswith(prefix) and not name.endswith(_DERIVED)
    }
    layout = {short: weights.layout[name] for name, short in chosen.items()}
    return replace(
        weights,
        layout=layout,
        stream=lambda: ((chosen[name], tensor) for name, tensor in weights.stream() if name in chosen),
    )
