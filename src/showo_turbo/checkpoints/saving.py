"""Parts to one folder, in the layout that `loading` reads."""

from dataclasses import asdict, replace
from pathlib import Path

from torch import nn

from showo_turbo.checkpoints import weight_files
from showo_turbo.checkpoints.card import model_card
from showo_turbo.checkpoints.loading import IMAGE_TOKENIZER_FOLDER, TEXT_FOLDER, VISION_FOLDER
from showo_turbo.checkpoints.names import CARD
from showo_turbo.errors import InputError
from showo_turbo.files import write_json
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.models.clip_vision import ClipVisionTower
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import PromptBuilder


def save_checkpoint(
    folder: Path,
    model: Showo,
    prompts: PromptBuilder,
    image_tokenizer: MagvitV2 | None,
    options: SamplingOptions,
    vision_tower: ClipVisionTower | None = None,
) -> None:
    """Write everything that `from_pretrained` needs, weights in the precision they have, and a model card.

    Raises:
        InputError: when the transformer is quantized.
    """
    if model.quantization is not None:
        raise InputError(f"the model is quantized to {model.quantization}: load it without quantization and save that")
    save_showo(folder, model, prompts)
    write_json(folder / "generation.json", asdict(options))
    if image_tokenizer is not None:
        save_image_tokenizer(folder / IMAGE_TOKENIZER_FOLDER, image_tokenizer)
    if vision_tower is not None:
        save_vision_tower(folder / VISION_FOLDER, vision_tower)
    (folder / CARD).write_text(model_card(folder.name, model, image_tokenizer, options), encoding="utf-8")


def save_showo(folder: Path, model: Showo, prompts: PromptBuilder) -> None:
    """Write the transformer with its text side: config, weights, Phi config and text tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", asdict(replace(model.config, llm_model_path=TEXT_FOLDER)))
    save_weights(folder / "model.safetensors", model)
    save_text_side(folder / TEXT_FOLDER, model, prompts)


def save_text_side(folder: Path, model: Showo, prompts: PromptBuilder) -> None:
    """Write the Phi config and the text tokenizer."""
    model.showo.config.save_pretrained(folder)
    prompts.tokenizer.save_pretrained(folder)


def save_image_tokenizer(folder: Path, image_tokenizer: MagvitV2) -> None:
    """Write config and weights of an image tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", image_tokenizer.config.to_dict())
    save_weights(folder / "model.safetensors", image_tokenizer)


def save_vision_tower(folder: Path, vision_tower: ClipVisionTower) -> None:
    """Write config and weights of a CLIP picture tower."""
    folder.mkdir(parents=True, exist_ok=True)
    vision_tower.tower.config.save_pretrained(folder)
    save_weights(folder / "model.safetensors", vision_tower.tower)


def save_weights(file: Path, module: nn.Module) -> None:
    """Write a module's weights in the precision they have.

    Raises:
        OSError: when the disk is full or the like.
    """
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    weight_files.write(file, state, {"format": "pt"})
