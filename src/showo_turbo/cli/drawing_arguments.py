"""Options of the commands that draw."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showo_turbo.cli.common_options import (
    DEFAULT_DTYPE,
    Adapter,
    Device,
    ModelOrDefault,
    Overwrite,
    Quantization,
    command_line_option,
    given_options,
    load_pipeline,
    model_and_base,
)
from showo_turbo.cli.early_checks import check_drawing, check_sampling, check_texts
from showo_turbo.generation.options import SamplingOptions, add_options
from showo_turbo.validation import check_seed

if TYPE_CHECKING:
    from showo_turbo.pipelines.pipeline import ShowoPipeline

_OUTPUT_HELP = (
    "For one image a file in any format that Pillow writes (out.png if left out); for several, or without an ending, a "
    "folder (the current one if left out), which gets files such as 001-a-red-circle.png."
)


@dataclass(frozen=True)
@add_options(SamplingOptions, command_line_option)
class DrawingArguments:
    """Hold the options of every command that draws; None stands for left out."""

    output: Annotated[Path | None, typer.Option("--output", "-o", help=_OUTPUT_HELP)] = None
    model: ModelOrDefault = None
    adapter: Adapter = None
    seed: Annotated[int | None, typer.Option(help="Seed of every prompt; random if left out.")] = None
    num_images: Annotated[int | None, typer.Option(help="Images per prompt, in a grid; 1 if left out.")] = None
    device: Device = None
    dtype: Annotated[
        str | None,
        typer.Option(help=f"Dtype of the weights: float32, bfloat16 or float16; {DEFAULT_DTYPE} if left out."),
    ] = None
    quantization: Quantization = None
    overwrite: Overwrite = False

    def given(self) -> list[str]:
        """Return the names of the options that are given, those of the output aside."""
        names = [field.name for field in fields(self) if field.name not in ("output", "overwrite")]
        return [name for name in names if getattr(self, name) is not None]

    @property
    def model_name(self) -> str:
        """Name or path of the model, or of the adapter on it.

        Raises:
            InputError: if the adapter is none.
        """
        return model_and_base(self.model, self.adapter)[0]

    @property
    def base(self) -> str | None:
        """Base of the adapter, if it is not the one that the adapter names."""
        return model_and_base(self.model, self.adapter)[1]

    def check(
        self, task: str, arguments: Mapping[str, Any], prompts: list[str], origins: Mapping[str, str] | None = None
    ) -> None:
        """Check the arguments of a task, prompts, see `check_prompts`, and options before the pipeline is loaded.

        Raises:
            InputError: if one is invalid.
        """
        if self.seed is not None:
            check_seed("seed", self.seed)
        check_drawing(self.model_name, task, arguments, self.num_images)
        check_sampling(self.model_name, given_options(SamplingOptions, self))
        check_texts(self.model_name, prompts=prompts, origins=origins)

    def load_pipeline(self) -> "ShowoPipeline":
        """Load the pipeline that the options name."""
        dtype = DEFAULT_DTYPE if self.dtype is None else self.dtype
        return load_pipeline(self.model_name, self.device, dtype, self.quantization, self.base)
