"""Options that several commands share, and the pipeline that they name.

A command takes groups of options as data classes, of which `with_options` makes options of the command line:

    @dataclass(frozen=True)
    @add_options(SamplingOptions, command_line_option)
    class DrawingArguments: ...

    @with_options
    def vary(image: ImageFile, options: DrawingArguments) -> None: ...

    showo-turbo vary IMAGE [--steps INT] [--guidance-scale FLOAT] ... [--seed INT] ...
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import Field, fields, is_dataclass
from functools import wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer
from typer.models import OptionInfo

from showo_turbo.checkpoints.names import DEFAULT_MODEL as DEFAULT_MODEL
from showo_turbo.checkpoints.names import SHIPPED_MODELS, resolve
from showo_turbo.cli.early_checks import check_adapter, check_model
from showo_turbo.cli.terminal import loading, note, quiet_transformers
from showo_turbo.generation.options import Options, is_optional, range_in_words, value_type

if TYPE_CHECKING:
    from showo_turbo.pipelines.pipeline import ShowoPipeline
    from showo_turbo.scenes.world import World

DEFAULT_DTYPE = "float32"

_PANELS = {
    **dict.fromkeys(("model", "adapter", "device", "dtype", "quantization"), "Model"),
    **dict.fromkeys(("output", "overwrite", "skip_existing", "from_sidecar", "stats", "json"), "Output"),
    **dict.fromkeys(("data", "images", "references", "split", "preset", "only", "judge", "judge_version"), "Benchmark"),
    **dict.fromkeys(("limit", "suffix", "max_new_tokens", "shorten"), "Benchmark"),
    **dict.fromkeys(("format", "pack_size"), "Many prompts"),
}
"""Panels of `--help` that options are grouped in, by their names; an option that declares a panel keeps it."""

Model = Annotated[
    str, typer.Option(help=f"A shipped model ({', '.join(SHIPPED_MODELS)}), a folder, or a hub name owner/name.")
]
ModelOrDefault = Annotated[
    str | None, typer.Option(help=f"A shipped model, a folder or a hub name; {DEFAULT_MODEL} if left out.")
]
Adapter = Annotated[
    str | None,
    typer.Option(
        help="A folder or hub name of a LoRA adapter, from `finetune` or PEFT, on --model; on the model that it was "
        "trained on if --model is left out."
    ),
]
Device = Annotated[
    str | None,
    typer.Option(help="Device to compute on, such as cpu or cuda; the GPU if there is one, else the CPU, if left out."),
]
Dtype = Annotated[str, typer.Option(help="Dtype of the transformer's weights: float32, bfloat16 or float16.")]
Quantization = Annotated[
    str | None, typer.Option(help="int8 or float8 stores the weights in 8 bits, an approximation; needs torchao.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
ImageFile = Annotated[str, typer.Argument(help="An image file: PNG, JPEG or the like.", show_default=False)]


def model_and_base(model: str | None, adapter: str | None) -> tuple[str, str | None]:
    """Return what to load, and the base of an adapter if it is not the one that the adapter names.

    Raises:
        InputError: if the adapter is none.
    """
    if adapter is None:
        return DEFAULT_MODEL if model is None else model, None
    check_adapter(adapter)
    return adapter, model


def load_pipeline(
    model: str, device: str | None, dtype: str, quantization: str | None = None, base: str | None = None
) -> "ShowoPipeline":
    """Load the pipeline that the options name, without messages of the libraries below.

    Unknown names are refused before anything heavy is imported; a spinner shows that the model is loading.

    Raises:
        InputError: as `ShowoPipeline.from_pretrained`.
    """
    check_model(model, dtype, quantization)
    if base is not None:
        resolve(base)
    quiet_transformers()
    with loading(model):
        from showo_turbo.pipelines.pipeline import ShowoPipeline
        from showo_turbo.processing.known_world import UnknownWordsWarning

        warnings.simplefilter("ignore", UnknownWordsWarning)  # commands report unknown words themselves
        return ShowoPipeline.from_pretrained(model, device=device, dtype=dtype, quantization=quantization, base=base)


def report_unknown_words(pipe: "ShowoPipeline", texts: Sequence[str], kind: Literal["prompts", "questions"]) -> None:
    """Print a line on standard error if texts have words that the model was never trained on."""
    unknown = pipe.known_world and pipe.known_world.note(texts, kind)
    if unknown:
        note(unknown)


def world_of(model: str) -> "World":
    """Return the built-in world that evaluates a model: the one that its `world.json` names, or else the shapes.

    Raises:
        InputError: if there is no such model, or its file cannot be read or names another world.
    """
    from showo_turbo.checkpoints.loading import load_known_world, locate
    from showo_turbo.scenes.shapes.shape_world import SHAPES
    from showo_turbo.scenes.worlds import find_world

    known = load_known_world(locate(model))
    return SHAPES if known is None else find_world(known.name)


def command_line_option(options: type[Options], declared: Field) -> tuple[Any, Any]:
    """Return annotation and default of a declared option as typer takes them.

    An option that the checkpoint recommends is None if left out. The command line has no None: 0 stands for it where
    integers start at 1.
    """
    values = range_in_words(declared).removesuffix(", or None")
    if _zero_is_none(declared):
        values += ", or 0 for no limit"
    default = None if options.left_out_is_recommended else declared.default
    notes = [values, "the model's own choice if left out"] if options.left_out_is_recommended else [values]
    note = "; ".join(filter(None, notes))
    help = f"{declared.metadata['help']} {note[:1].upper()}{note[1:]}{'.' if note else ''}".strip()
    panel = options.__name__.removesuffix("Options")
    kind: Any = value_type(declared)
    annotation = kind if default is not None else kind | None
    return Annotated[annotation, typer.Option(*declared.metadata["flags"], help=help, rich_help_panel=panel)], default


def given_options(options: type[Options], group: object) -> dict[str, Any]:
    """Return the declared options that a group of options holds and that are given, by name."""
    given = {}
    for declared in fields(options):
        value = getattr(group, declared.name, None)
        if value is not None:
            given[declared.name] = None if value == 0 and _zero_is_none(declared) else value
    return given


def _zero_is_none(declared: Field) -> bool:
    return is_optional(declared) and value_type(declared) is int and declared.metadata["minimum"] == 1


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace every parameter of a command that is a data class by the fields of the class, as options."""
    parameters: dict[str, Parameter] = {}
    groups: dict[str, type] = {}
    for name, parameter in signature(command).parameters.items():
        annotation = parameter.annotation
        if isinstance(annotation, type) and is_dataclass(annotation):
            groups[name] = annotation
        else:
            parameters[name] = parameter
    for group in groups.values():
        hints = get_type_hints(group, include_extras=True)
        for field in fields(group):
            parameters[field.name] = Parameter(
                field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
            )

    for name, parameter in parameters.items():
        for info in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(info, OptionInfo) and info.rich_help_panel is None:
                info.rich_help_panel = _PANELS.get(name)

    @wraps(command)
    def run(**values: object) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    run.__signature__ = signature(command).replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return run
