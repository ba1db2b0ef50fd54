"""Save components to one folder that the published code loads too.

folder/
    config.json                    the published keys
    pytorch_model.safetensors      the transformer
    phi/                           Phi config and text tokenizer
    magvitv2/                      image tokenizer: config.json and pytorch_model.safetensors
    clip/                          ours; the published code takes the CLIP vision tower of w_clip_vit from the hub
    generation.json                ours; the published code takes its sampling settings from elsewhere
"""

from dataclasses import asdict
from pathlib import Path

from showo_turbo.checkpoints.loading import TEXT_FOLDER, VISION_FOLDER
from showo_turbo.checkpoints.names import IMAGE_TOKENIZER_FOLDER
from showo_turbo.checkpoints.saving import save_text_tokenizer, save_vision_tower, save_weights
from showo_turbo.components import Components
from showo_turbo.configuration import ShowoConfig
from showo_turbo.files import write_json
from showo_turbo.models.magvit_v2_config import MagvitV2Config

_WEIGHTS = "pytorch_model.safetensors"
_KEYS = ("codebook_size", "llm_vocab_size", "num_vq_tokens", "vocab_size", "w_clip_vit")
_DIFFUSERS_VERSION = "0.30.1"


def save_published(folder: Path, components: Components, llm_model_path: str = TEXT_FOLDER) -> None:
    """Save the published layout, weights in the precision they have.

    Args:
        folder: the folder to write.
        components: the checkpoint.
        llm_model_path: where the published code looks for the Phi config: a hub name, or a folder relative to where
            that code runs. (This package always finds `phi/`.)
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", published_config(components.model.config, llm_model_path))
    save_weights(folder / _WEIGHTS, components.model)
    save_text_tokenizer(folder / TEXT_FOLDER, components.model, components.prompts)
    write_json(folder / "generation.json", asdict(components.recommended))
    if components.image_tokenizer is not None:
        tokenizer, subfolder = components.image_tokenizer, folder / IMAGE_TOKENIZER_FOLDER
        subfolder.mkdir(parents=True, exist_ok=True)
        default_sizes = tokenizer.config == MagvitV2Config()  # the published code has them built in
        write_json(subfolder / "config.json", _header("MAGVITv2") if default_sizes else tokenizer.config.to_dict())
        save_weights(subfolder / _WEIGHTS, tokenizer)
    if components.vision_tower is not None:
        save_vision_tower(folder / VISION_FOLDER, components.vision_tower)


def published_config(config: ShowoConfig, llm_model_path: str) -> dict:
    """Return a config with the published keys; keys of ours are added only if they differ from their defaults."""
    defaults = asdict(ShowoConfig())
    values = {key: value for key, value in asdict(config).items() if key in _KEYS or value != defaults[key]}
    derived = {"llm_model_path": llm_model_path, "mask_token_id": config.vocab_size - 1}
    return dict(sorted((_header("Showo") | values | derived).items()))


def _header(class_name: str) -> dict:
    return {"_class_name": class_name, "_diffusers_version": _DIFFUSERS_VERSION}
