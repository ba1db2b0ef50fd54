"""Save components to one folder, in the layout that `loading` reads."""

from dataclasses import asdict, replace
from pathlib import Path

from torch import nn

from showo_turbo.checkpoints import weight_files
from showo_turbo.checkpoints.card import model_card
from showo_turbo.checkpoints.loading import TEXT_FOLDER, VISION_FOLDER
from showo_turbo.checkpoints.names import CARD, IMAGE_TOKENIZER_FOLDER
from showo_turbo.components import Components
from showo_turbo.configuration import BackboneConfig
from showo_turbo.errors import InputError
from showo_turbo.files import write_json
from showo_turbo.models.clip_vision import ClipVisionTower
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.showo import Showo
from showo_turbo.processing.known_world import WORLD_FILE
from showo_turbo.processing.prompts import PromptBuilder


def save_checkpoint(folder: Path, components: Components) -> None:
    """Save everything that `from_pretrained` needs, weights in the precision they have, and a model card.

    Raises:
        InputError: if the transformer is quantized.
    """
    quantization = components.model.quantization
    if quantization is not None:
        raise InputError(f"the model is quantized to {quantization}: load it without quantization and save that")
    save_showo(folder, components.model, components.prompts)
    write_json(folder / "generation.json", asdict(components.recommended))
    if components.known_world is not None:
        write_json(folder / WORLD_FILE, components.known_world.to_dict())
    if components.image_tokenizer is not None:
        save_image_tokenizer(folder / IMAGE_TOKENIZER_FOLDER, components.image_tokenizer)
    if components.vision_tower is not None:
        save_vision_tower(folder / VISION_FOLDER, components.vision_tower)
    (folder / CARD).write_text(model_card(folder.name, components), encoding="utf-8")


def save_showo(folder: Path, model: Showo, prompts: PromptBuilder) -> None:
    """Save the transformer, its Phi config and text tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", asdict(replace(model.config, llm_model_path=TEXT_FOLDER)))
    save_weights(folder / "model.safetensors", model)
    save_text_tokenizer(folder / TEXT_FOLDER, model, prompts)


def save_text_tokenizer(folder: Path, model: Showo, prompts: PromptBuilder) -> None:
    """Save the Phi config and the text tokenizer."""
    from transformers import PhiConfig

    config = model.showo.config
    (PhiConfig(**config.to_dict()) if isinstance(config, BackboneConfig) else config).save_pretrained(folder)
    prompts.tokenizer.save_pretrained(folder)


def save_image_tokenizer(folder: Path, image_tokenizer: MagvitV2) -> None:
    """Save config and weights of an image tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", image_tokenizer.config.to_dict())
    save_weights(folder / "model.safetensors", image_tokenizer)


def save_vision_tower(folder: Path, vision_tower: ClipVisionTower) -> None:
    """Save config and weights of a CLIP vision tower."""
    folder.mkdir(parents=True, exist_ok=True)
    vision_tower.tower.config.save_pretrained(folder)
    save_weights(folder / "model.safetensors", vision_tower.tower)


def save_weights(file: Path, module: nn.Module) -> None:
    """Save a module's weights in the precision they have.

    Raises:
        OSError: if the disk is full or the like.
    """
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    weight_files.write(file, state, {"format": "pt"})
