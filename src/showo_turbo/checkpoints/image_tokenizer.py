"""Load an image tokenizer from a folder."""

from dataclasses import fields
from hashlib import sha256
from pathlib import Path

import torch

from showo_turbo.checkpoints.weights import fit_weights, open_weights
from showo_turbo.errors import errors_in
from showo_turbo.files import read_json
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.magvit_v2_config import MagvitV2Config


def load_image_tokenizer(folder: Path) -> MagvitV2:
    """Load an image tokenizer on the CPU, in float32 (its codes are signs) and evaluation mode.

    Without a `config.json`, or without sizes in it, the sizes are the published ones.

    Raises:
        InputError: if config or weights cannot be read, or do not fit each other.
    """
    path = folder / "config.json"
    values = read_json(path) if path.exists() else {}
    has_sizes = not values.keys().isdisjoint(field.name for field in fields(MagvitV2Config))
    with errors_in(path), torch.device("meta"):
        model = MagvitV2(MagvitV2Config.from_dict(values) if has_sizes else MagvitV2Config()).float()
    fit_weights(model, open_weights(folder))
    return model.eval()


def fingerprint(model: MagvitV2) -> str:
    """Return the hexadecimal SHA-256 of an image tokenizer's names and weights, independent of its files."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
