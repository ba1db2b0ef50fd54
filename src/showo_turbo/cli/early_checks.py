"""Check what a command is given before torch is imported, which takes longer than all checks.

The sizes of a model are read from its config files. Where these cannot be read without torch or transformers, as for an
adapter, the pipeline makes the same checks once it is loaded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showo_turbo.checkpoints.names import ADAPTER_CONFIG, image_tokenizer_folder, resolve
from showo_turbo.checkpoints.published import published_checkpoint
from showo_turbo.cli.prompt_files import check_prompts
from showo_turbo.configuration import ShowoConfig
from showo_turbo.errors import InputError, errors_in
from showo_turbo.files import read_json
from showo_turbo.generation.model_limits import check_extrapolation, check_pixels, check_strength
from showo_turbo.generation.options import MAX_IMAGES, SamplingOptions
from showo_turbo.models.magvit_v2_config import MagvitV2Config
from showo_turbo.validation import (
    check_dtype,
    check_integer,
    check_positions,
    check_quantization,
    check_steps,
    check_top_k,
    schedule_exponent,
)

if TYPE_CHECKING:
    from showo_turbo.processing.prompts import PromptBuilder


def check_model(model: str, dtype: str, quantization: str | None) -> None:
    """Check the options that name a model and its precision; a hub name is downloaded.

    Raises:
        InputError: if one is unknown.
    """
    check_dtype(dtype)
    check_quantization(quantization)
    resolve(model)


def check_adapter(adapter: str) -> None:
    """Check that a name is that of an adapter; a hub name is downloaded.

    Raises:
        InputError: if it is not.
    """
    if not (resolve(adapter) / ADAPTER_CONFIG).is_file():
        raise InputError(
            f"adapter {adapter!r} has no {ADAPTER_CONFIG}: give one that `finetune` or PEFT wrote, or name a "
            "whole model as --model"
        )


def read_model_config(model: str) -> ShowoConfig | None:
    """Return the config of a model, or None if it is an adapter.

    Raises:
        InputError: if there is no such model, or its config is invalid.
    """
    folder = resolve(model)
    if not (folder / "config.json").is_file():
        return None
    config = ShowoConfig.from_file(folder / "config.json")
    published = published_checkpoint(model)
    return config if published is None else replace(config, num_vq_tokens=published.num_vq_tokens)


def check_sampling(model: str, given: Mapping[str, Any]) -> None:
    """Check sampling options that are given against the sizes of a model.

    Raises:
        InputError: if one is out of its range.
    """
    schedule_exponent(SamplingOptions().override(**given).schedule)
    config = read_model_config(model)
    if config is None:
        return
    if "num_inference_steps" in given:
        check_steps(given["num_inference_steps"], config.num_vq_tokens)
    check_top_k(given.get("top_k"), config.codebook_size)


def check_drawing(model: str, task: str, arguments: Mapping[str, Any], num_images: int | None) -> None:
    """Check the arguments of a task that draws, files aside.

    Args:
        model: name of the model.
        task: one of `sidecar.TASKS`.
        arguments: its arguments that are given.
        num_images: number of images of a prompt, if it is given.

    Raises:
        InputError: if one is out of its range.
    """
    if num_images is not None:
        check_integer("num_images_per_prompt", num_images, 1, MAX_IMAGES)
    if task == "vary":
        check_strength(arguments["strength"])
    config = read_model_config(model)
    if config is None:
        return
    grid_size = isqrt(config.num_vq_tokens)
    if task == "extrapolate":
        check_extrapolation(arguments["direction"], grid_size, arguments["offset"])
    image_tokenizer = image_tokenizer_folder(resolve(model))
    if task == "text_to_image" and image_tokenizer is not None:
        file = image_tokenizer / "config.json"
        values = read_json(file)
        with errors_in(file):
            factor = MagvitV2Config.from_dict(values).downsampling_factor
        for name, value in arguments.items():
            check_pixels(name, value, grid_size * factor, factor)


def check_texts(
    model: str,
    prompts: Sequence[str] = (),
    questions: Sequence[str] = (),
    origins: Mapping[str, str] | None = None,
    max_new_tokens: int = 1,
) -> None:
    """Check prompts and questions with the text tokenizer of a model, if it can be read without transformers.

    Args:
        model: name of the model.
        prompts: texts of images.
        questions: questions about an image.
        origins: as for `check_prompts`.
        max_new_tokens: length of the longest answer.

    Raises:
        InputError: as `PromptBuilder.check_prompt` and `PromptBuilder.check_question`, or if a question and its answer
            do not fit the model's positions.
    """
    config, text_folder = read_model_config(model), resolve(model) / "phi"
    if config is None or not text_folder.is_dir():
        return
    builder = _open_prompt_builder(text_folder, config)
    if builder is None:
        return
    check_prompts(builder, prompts, origins)
    for question in questions:
        cleaned = builder.check_question(question)
        positions = read_json(text_folder / "config.json").get("max_position_embeddings")
        if not config.w_clip_vit and type(positions) is int:
            length = len(builder.understanding([0] * config.num_vq_tokens, cleaned))
            check_positions(length, max_new_tokens, positions, "image and question")


def _open_prompt_builder(folder: Path, config: ShowoConfig) -> "PromptBuilder | None":
    from showo_turbo.processing.prompts import PromptBuilder, build_vocabulary, load_plain_tokenizer

    tokenizer = load_plain_tokenizer(folder)
    if tokenizer is None:
        return None
    return PromptBuilder(tokenizer, build_vocabulary(tokenizer, config), config.max_text_length)
