"""Parts to one folder that the published code loads too.

folder/
    config.json                    the published keys
    pytorch_model.safetensors      the transformer
    phi/                           Phi config and text tokenizer
    magvitv2/                      image tokenizer: config.json and pytorch_model.safetensors
    clip/                          ours; the published code takes the CLIP picture tower of w_clip_vit from the hub
    generation.json                ours; the published code takes its sampling settings from elsewhere
"""

from dataclasses import asdict
from pathlib import Path

from showo_turbo.checkpoints.loading import IMAGE_TOKENIZER_FOLDER, TEXT_FOLDER, VISION_FOLDER
from showo_turbo.checkpoints.saving import save_text_side, save_vision_tower, save_weights
from showo_turbo.configuration import ShowoConfig
from showo_turbo.files import write_json
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.models.clip_vision import ClipVisionTower
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.magvit_v2_config import MagvitV2Config
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import PromptBuilder

_WEIGHTS = "pytorch_model.safetensors"
_KEYS = ("codebook_size", "llm_vocab_size", "num_vq_tokens", "vocab_size", "w_clip_vit")
_DIFFUSERS_VERSION = "0.30.1"


def save_published(
    folder: Path,
    model: Showo,
    prompts: PromptBuilder,
    image_tokenizer: MagvitV2 | None,
    options: SamplingOptions,
    vision_tower: ClipVisionTower | None = None,
    llm_model_path: str = TEXT_FOLDER,
) -> None:
    """Write the published layout, weights in the precision they have.

    Args:
        folder: where to.
        model: the transformer.
        prompts: its text side.
        image_tokenizer: its pixel side, if there is one.
        options: recommended sampling settings.
        vision_tower: what gives the transformer its CLIP features, if it takes them.
        llm_model_path: where the published code is to look for the Phi config: a hub name, or a folder seen from where
            that code runs. (Here `phi/` is always found.)
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", published_config(model.config, llm_model_path))
    save_weights(folder / _WEIGHTS, model)
    save_text_side(folder / TEXT_FOLDER, model, prompts)
    write_json(folder / "generation.json", asdict(options))
    if image_tokenizer is not None:
        _save_image_tokenizer(folder / IMAGE_TOKENIZER_FOLDER, image_tokenizer)
    if vision_tower is not None:
        save_vision_tower(folder / VISION_FOLDER, vision_tower)


def published_config(config: ShowoConfig, llm_model_path: str) -> dict:
    """A config with the published keys; those that are ours are added only if their values are not the usual ones."""
    usual = asdict(ShowoConfig())
    values = {key: value for key, value in asdict(config).items() if key in _KEYS or value != usual[key]}
    derived = {"llm_model_path": llm_model_path, "mask_token_id": config.vocab_size - 1}
    return dict(sorted((_header("Showo") | values | derived).items()))


def _save_image_tokenizer(folder: Path, image_tokenizer: MagvitV2) -> None:
    """Sizes are written only if they are not the published ones, which the published code has built in."""
    folder.mkdir(parents=True, exist_ok=True)
    published = image_tokenizer.config == MagvitV2Config()
    write_json(folder / "config.json", _header("MAGVITv2") if published else image_tokenizer.config.to_dict())
    save_weights(folder / _WEIGHTS, image_tokenizer)


def _header(class_name: str) -> dict:
    return {"_class_name": class_name, "_diffusers_version": _DIFFUSERS_VERSION}
