"""The options of all commands that draw, spelled once."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from showo_turbo.cli.options import DEFAULT_DTYPE, DEFAULT_MODEL, Device, Overwrite

_OUTPUT_HELP = (
    "For one picture a PNG file (out.png if left out); for several a folder that exists (the current one if left out), "
    "which gets files such as 001-a-red-circle.png."
)


@dataclass(frozen=True)
class DrawingOptions:
    """What every command that draws can be told; None is left out."""

    output: Annotated[Path | None, typer.Option("--output", "-o", help=_OUTPUT_HELP)] = None
    model: Annotated[str | None, typer.Option(help=f"Shipped model, folder or hub name. [{DEFAULT_MODEL}]")] = None
    num_inference_steps: Annotated[
        int | None, typer.Option("--steps", "--num-inference-steps", help="Passes; the model's own choice if left out.")
    ] = None
    guidance_scale: Annotated[
        float | None, typer.Option(help="Pull towards the prompt; 0 is none. The model's own choice if left out.")
    ] = None
    top_k: Annotated[int | None, typer.Option(help="Draw among the k most probable codes only.")] = None
    temperature: Annotated[float | None, typer.Option(help="Noise in choosing which codes to keep first.")] = None
    schedule: Annotated[str | None, typer.Option(help="cosine, linear, sigmoid or powX.")] = None
    order: Annotated[str | None, typer.Option(help="Which codes to keep first: confidence or halton.")] = None
    seed: Annotated[int | None, typer.Option(help="Random if left out; each prompt starts from it anew.")] = None
    num_images: Annotated[int | None, typer.Option(help="Images per prompt, in a grid. [1]")] = None
    device: Device = None
    dtype: Annotated[str | None, typer.Option(help=f"float32, bfloat16 or float16. [{DEFAULT_DTYPE}]")] = None
    overwrite: Overwrite = False

    def given(self) -> dict[str, Any]:
        """What was told about the drawing, by name: neither where it goes nor what is left out."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value for name, value in told.items() if value is not None and name not in ("output", "overwrite")
        }


def with_drawing_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command with every field of `DrawingOptions` as an option, in place of its parameter `options`."""
    own = [parameter for parameter in signature(command).parameters.values() if parameter.name != "options"]
    hints = get_type_hints(DrawingOptions, include_extras=True)
    shared = [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(DrawingOptions)
    ]

    @wraps(command)
    def run(**values: object) -> None:
        options = DrawingOptions(**{parameter.name: values.pop(parameter.name) for parameter in shared})
        command(**values, options=options)

    run.__signature__ = signature(command).replace(parameters=[*own, *shared])
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    return run
