"""Load a CLIP vision tower from a folder, for checkpoints with `w_clip_vit`."""

from dataclasses import replace
from pathlib import Path

import torch

from showo_turbo.checkpoints.weights import Weights, check_layers, fit_weights, open_weights
from showo_turbo.errors import InputError
from showo_turbo.files import read_json
from showo_turbo.models.clip_vision import ClipVisionTower

_VISION_PREFIX = "vision_model."
_POSITION_IDS = "embeddings.position_ids"


def load_vision_tower(folder: Path, dtype: torch.dtype = torch.float32) -> ClipVisionTower:
    """Load the vision tower of a CLIP model or a vision tower alone, on the CPU; a text tower is ignored.

    Raises:
        InputError: if config or weights cannot be read, or do not fit each other.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModel

    from showo_turbo.library_configs import create_config

    values = read_json(folder / "config.json")
    weights = _vision_weights(open_weights(folder))
    try:
        config = create_config(CLIPVisionConfig, values.get("vision_config", values))
        check_layers(weights, "encoder.layers.", config.num_hidden_layers)
        with torch.device("meta"):
            tower = CLIPVisionModel(config).to(dtype)  # type: ignore[arg-type]  # transformers' decorator hides the signature
    except Exception as error:  # invalid values raise exceptions of any type
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"CLIP vision tower: no config that fits in folder {str(folder)!r} ({reason})") from error
    fit_weights(tower, weights)
    # Position ids are not stored, so they are still on the meta device.
    tower.embeddings.position_ids = torch.arange(tower.embeddings.num_positions)[None]
    return ClipVisionTower(tower)


def _vision_weights(weights: Weights) -> Weights:
    """Select the tensors of the vision tower and drop the prefix that a whole CLIP model adds."""
    prefix = _VISION_PREFIX if any(name.startswith(_VISION_PREFIX) for name in weights.layout) else ""
    short_names = {
        name: name.removeprefix(prefix)
        for name in weights.layout
        if name.startswith(prefix) and not name.endswith(_POSITION_IDS)
    }
    layout = {short: weights.layout[name] for name, short in short_names.items()}
    return replace(
        weights,
        layout=layout,
        stream=lambda: ((short_names[name], tensor) for name, tensor in weights.stream() if name in short_names),
    )
