"""Describe models and options to the page, from their declarations."""

from dataclasses import Field, fields
from typing import Any

from showo_turbo import __version__
from showo_turbo.generation.options import (
    DIRECTIONS,
    DecodingOptions,
    Options,
    SamplingOptions,
    is_optional,
    range_in_words,
    value_type,
)
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.serving.limits import LimitOptions
from showo_turbo.serving.worker import Worker

STUDENT_SUFFIX = "-turbo"
"""Ending of the name of a student, which follows the name of its teacher."""


def page_info(worker: Worker, limits: LimitOptions) -> dict[str, Any]:
    """Return what the page needs to know of the server."""
    pipes = worker.pipes
    pairs = [{"teacher": name, "student": name + STUDENT_SUFFIX} for name in pipes if name + STUDENT_SUFFIX in pipes]
    shown = ("max_images", "max_steps", "max_windows", "max_prompt", "max_pixels", "max_body", "max_queue")
    return {
        "version": __version__,
        "models": [describe_model(name, pipe, limits) for name, pipe in pipes.items()],
        "pairs": pairs,
        "directions": DIRECTIONS,
        "limits": {name: getattr(limits, name) for name in shown},
    }


def describe_model(name: str, pipe: ShowoPipeline, limits: LimitOptions) -> dict[str, Any]:
    """Return name, sizes, options and known world of a model."""
    config, world = pipe.model.config, pipe.known_world
    maxima = {
        "num_inference_steps": min(config.num_vq_tokens, limits.max_steps),
        "top_k": config.codebook_size,
    }
    sampling = [
        describe_option(SamplingOptions, one, getattr(pipe.recommended, one.name), maxima.get(one.name))
        for one in fields(SamplingOptions)
    ]
    return {
        "name": name,
        "resolution": pipe.resolution,
        "grid": pipe.grid_size,
        "codebook": config.codebook_size,
        "sampling": sampling,
        "decoding": [describe_option(DecodingOptions, one, one.default) for one in fields(DecodingOptions)],
        "world": world and {name: value for name, value in world.to_dict().items() if name != "name"},
    }


def describe_option(options: type[Options], declared: Field, default: Any, maximum: float | None = None) -> dict:
    """Return the declaration of an option, with the model's own default and maximum."""
    spec, kind = declared.metadata, value_type(declared)
    return {
        "name": declared.name,
        "type": {bool: "boolean", int: "integer", float: "number", str: "text"}[kind],
        "optional": is_optional(declared),
        "default": default,
        "minimum": spec["minimum"],
        "maximum": spec["maximum"] if maximum is None else maximum,
        "above": spec["above"],
        "choices": spec["choices"],
        "help": spec["help"],
        "range": range_in_words(declared),
    }
