"""The model that a fine-tuning starts from: a checkpoint, or random weights of given sizes."""

from pathlib import Path
from typing import Any

import torch

from showo_turbo.checkpoints.image_tokenizer import load_image_tokenizer
from showo_turbo.checkpoints.loading import locate, locate_image_tokenizer
from showo_turbo.checkpoints.names import SHIPPED_MODELS, TEXT_TOKENIZER, resolve
from showo_turbo.checkpoints.weights import find_weights
from showo_turbo.errors import InputError
from showo_turbo.files import sha256_of_files
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.prompts import load_text_tokenizer
from showo_turbo.training.architecture import random_model

_COMPONENTS = ("image_tokenizer", "text_tokenizer", "vision_tower")


def check_base(config: FinetuningConfig) -> None:
    """Check that the files of the base exist, without reading weights.

    Raises:
        InputError: if a component or the vision tower that dialogues need is missing.
    """
    if config.architecture is not None:
        _tokenizer_folders(config)
        return
    files = locate(config.base, **_components(config))
    if files.config.w_clip_vit and "dialogues" in config.kinds and files.vision_tower is None:
        raise InputError(
            f"{config.base!r} answers by CLIP features (w_clip_vit) and holds no vision tower: give vision_tower, or "
            "leave dialogues out"
        )


def open_base(config: FinetuningConfig, device: torch.device) -> ShowoPipeline:
    """Load a checkpoint in float32, or build a model with random weights from the seed.

    Raises:
        InputError: if a component cannot be read, or components do not fit each other.
    """
    if config.architecture is None:
        return ShowoPipeline.from_pretrained(config.base, device=device, dtype="float32", **_components(config))
    image_folder, text_folder = _tokenizer_folders(config)
    image_tokenizer, tokenizer = load_image_tokenizer(image_folder), load_text_tokenizer(text_folder)
    codes = image_tokenizer.config.codebook_size
    if codes != config.architecture.codebook_size:
        raise InputError(
            f"architecture.codebook_size is {config.architecture.codebook_size}, but image tokenizer "
            f"{config.image_tokenizer!r} has {codes} codes: choose {codes}"
        )
    model, prompts = random_model(config.architecture, tokenizer, config.loop.seed)
    return ShowoPipeline(model, prompts, image_tokenizer).to(device)


def base_digests(config: FinetuningConfig) -> dict[str, Any]:
    """Return the SHA-256 of the weight files that a run starts from, for its manifest."""
    if config.architecture is None:
        return locate(config.base, **_components(config)).weights_sha256()
    return {"image_tokenizer": sha256_of_files(*find_weights(_tokenizer_folders(config)[0]))}


def _components(config: FinetuningConfig) -> dict[str, str | None]:
    return {name: getattr(config, name) for name in _COMPONENTS}


def _tokenizer_folders(config: FinetuningConfig) -> tuple[Path, Path]:
    """Return the folders of image tokenizer and text tokenizer, for a model from random weights.

    Raises:
        InputError: if one is not named, or not found.
    """
    image, text = config.image_tokenizer, config.text_tokenizer
    if image is None or text is None:
        missing = " and ".join(name for name, one in (("image_tokenizer", image), ("text_tokenizer", text)) if not one)
        raise InputError(
            f"architecture starts from random weights, without {missing}: give a shipped model, or a folder"
        )
    shipped = locate(text).text_tokenizer if text in SHIPPED_MODELS else None
    return locate_image_tokenizer(image), shipped or resolve(text, TEXT_TOKENIZER)
