"""Options that several commands have, spelled once: data classes whose fields are options.

@with_options
def vary(image: ImageFile, options: DrawingOptions) -> None: ...     showo-turbo vary IMAGE [--steps ..] [--seed ..] ...
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from showo_turbo.cli.options import (
    DEFAULT_DTYPE,
    DEFAULT_MODEL,
    BlockLength,
    Decoding,
    Device,
    Dtype,
    MaxNewTokens,
    Model,
    Overwrite,
    Quantization,
    Stats,
)

if TYPE_CHECKING:
    from showo_turbo.generation.options import DecodingOptions

_OUTPUT_HELP = (
    "For one picture a PNG file (out.png if left out); for several a folder that exists (the current one if left out), "
    "which gets files such as 001-a-red-circle.png."
)
_FILE_OPTIONS = ("output", "overwrite")


@dataclass(frozen=True)
class SamplingArguments:
    """How to draw; None is left out."""

    num_inference_steps: Annotated[
        int | None, typer.Option("--steps", "--num-inference-steps", help="Passes; the model's own choice if left out.")
    ] = None
    guidance_scale: Annotated[
        float | None, typer.Option(help="Pull towards the prompt; 0 is none. The model's own choice if left out.")
    ] = None
    top_k: Annotated[int | None, typer.Option(help="Draw among the k most probable codes only; 0 among all.")] = None
    temperature: Annotated[float | None, typer.Option(help="Noise in choosing which codes to keep first.")] = None
    schedule: Annotated[str | None, typer.Option(help="cosine, linear, sigmoid or powX.")] = None
    order: Annotated[str | None, typer.Option(help="Which codes to keep first: confidence or halton.")] = None
    sampled_steps: Annotated[
        int | None, typer.Option(help="First steps that draw at random; the others take the most probable codes.")
    ] = None
    early_exit: Annotated[
        float | None, typer.Option(help="Finish when so small a share of the codes is in doubt; an approximation.")
    ] = None

    def given(self) -> dict[str, Any]:
        """What was told about the drawing, by name: neither where it goes nor what is left out."""
        told = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _FILE_OPTIONS}
        given = {name: value for name, value in told.items() if value is not None}
        return given | {"top_k": None} if given.get("top_k") == 0 else given


@dataclass(frozen=True)
class DrawingOptions(SamplingArguments):
    """What every command that draws can be told; None is left out."""

    output: Annotated[Path | None, typer.Option("--output", "-o", help=_OUTPUT_HELP)] = None
    model: Annotated[
        str | None, typer.Option(help=f"Shipped model, folder or hub name; {DEFAULT_MODEL} if left out.")
    ] = None
    seed: Annotated[int | None, typer.Option(help="Random if left out; each prompt starts from it anew.")] = None
    num_images: Annotated[int | None, typer.Option(help="Images per prompt, in a grid; 1 if left out.")] = None
    device: Device = None
    dtype: Annotated[
        str | None,
        typer.Option(help=f"Precision to store in: float32, bfloat16 or float16; {DEFAULT_DTYPE} if left out."),
    ] = None
    quantization: Quantization = None
    overwrite: Overwrite = False


@dataclass(frozen=True)
class AnsweringOptions:
    """What every command that answers can be told."""

    model: Model = DEFAULT_MODEL
    decoding: Decoding = "jacobi"
    block_length: BlockLength = 16
    max_new_tokens: MaxNewTokens = 64
    stats: Stats = False
    device: Device = None
    dtype: Dtype = DEFAULT_DTYPE
    quantization: Quantization = None

    def decoding_options(self) -> "DecodingOptions":
        """The same for the library.

        Raises:
            InputError: when an option is out of its range.
        """
        from showo_turbo.generation.options import DecodingOptions

        return DecodingOptions(self.max_new_tokens, self.decoding, self.block_length)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command with every field of the data class that its parameter `options` is, in place of that parameter."""
    parameters = dict(signature(command).parameters)
    group = parameters.pop("options").annotation
    hints = get_type_hints(group, include_extras=True)
    shared = {
        field.name: Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(group)
    }

    @wraps(command)
    def run(**values: object) -> None:
        options = group(**{name: values.pop(name) for name in shared})
        command(**values, options=options)

    parameters |= shared
    run.__signature__ = signature(command).replace(parameters=list(parameters.values()))
    run.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return run
