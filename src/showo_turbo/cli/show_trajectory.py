"""`showo-turbo trajectory`: how an image or an answer comes about, pass by pass, as a picture or an animation."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showo_turbo.cli.common_options import (
    DEFAULT_DTYPE,
    DEFAULT_MODEL,
    Device,
    Dtype,
    Overwrite,
    command_line_option,
    given_options,
    load_pipeline,
    report_unknown_words,
    with_options,
)
from showo_turbo.cli.early_checks import check_model, check_sampling, check_texts
from showo_turbo.cli.output_files import check_outputs, image_bytes
from showo_turbo.cli.terminal import note
from showo_turbo.errors import InputError
from showo_turbo.files import atomic_files
from showo_turbo.generation.options import DecodingOptions, SamplingOptions, add_options
from showo_turbo.validation import check_integer, check_seed

if TYPE_CHECKING:
    from PIL.Image import Image

    from showo_turbo.outputs import ImageOutput, TextOutput

_ENDINGS = (".gif", ".webp", ".png")


@dataclass(frozen=True)
@add_options(SamplingOptions, command_line_option)
class TrajectorySamplingArguments:
    """Hold the sampling options of `trajectory`."""


@dataclass(frozen=True)
@add_options(DecodingOptions, command_line_option, only=("decoding", "block_length"))
class TrajectoryDecodingArguments:
    """Hold the decoding options of `trajectory`."""


@with_options
def trajectory(
    sampling_arguments: TrajectorySamplingArguments,
    decoding_arguments: TrajectoryDecodingArguments,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .gif or .webp file for an animation, .png for a picture.")
    ],
    prompt: Annotated[str | None, typer.Argument(help="Text of an image.", show_default=False)] = None,
    image: Annotated[str | None, typer.Option(help="An image file to ask about, in place of a prompt.")] = None,
    question: Annotated[str | None, typer.Option(help="The question about --image.")] = None,
    model: Annotated[
        str | None, typer.Option(help=f"A shipped model, a folder or a hub name; {DEFAULT_MODEL} if left out.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(help="Two models in place of --model, such as teacher and student.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the image or of the first guesses.")] = 0,
    frames: Annotated[int, typer.Option(help="Passes that a .png shows at most, evenly spread.")] = 8,
    device: Device = None,
    dtype: Dtype = DEFAULT_DTYPE,
    overwrite: Overwrite = False,
) -> None:
    """Show partly masked images step by step, or the iterates of Jacobi decoding with settled tokens marked."""
    sampling = given_options(SamplingOptions, sampling_arguments)
    decoding = given_options(DecodingOptions, decoding_arguments)
    _check_task(prompt, image, question, sampling, decoding)
    if model is not None and compare is not None:
        raise InputError("model and compare are both given: --compare names both models")
    models = compare or (model or DEFAULT_MODEL,)
    if output.suffix.lower() not in _ENDINGS:
        raise InputError(f"output {str(output)!r} must end in {', '.join(_ENDINGS)}")
    check_outputs([output], overwrite)
    check_seed("seed", seed)
    check_integer("frames", frames, 1)
    plain = DecodingOptions(**decoding, sliding_window=False, drafts=False)  # as published: block after block
    for name in models:
        check_model(name, dtype, None)
        check_sampling(name, sampling)
        check_texts(name, [] if prompt is None else [prompt], [] if question is None else [question])
    from showo_turbo.processing.image_files import open_image

    opened = None if image is None else open_image(image)
    outputs: list[ImageOutput | TextOutput] = []
    for name in models:
        pipe = load_pipeline(name, device, dtype)
        if prompt is not None:
            report_unknown_words(pipe, [prompt], "prompts")
            outputs.append(pipe.text_to_image(prompt, seed=seed, return_trajectory=True, **sampling))
        else:
            report_unknown_words(pipe, [str(question)], "questions")
            options = {**vars(plain), "seed": seed, "return_trajectory": True}
            outputs.append(pipe.image_to_text(opened, str(question), **options))
    _write(outputs, output, {"title": prompt or question, "labels": models, "image": opened}, frames)


def _check_task(
    prompt: str | None, image: str | None, question: str | None, sampling: dict[str, Any], decoding: dict[str, Any]
) -> None:
    """Check that there is either a prompt or a question about an image, with its own options.

    Raises:
        InputError: if there is not.
    """
    if prompt is not None and (image is not None or question is not None):
        raise InputError("prompt, image and question are given: choose a prompt, or --image with --question")
    if prompt is None and (image is None or question is None):
        raise InputError("prompt is missing: give the text of an image, or --image with --question")
    changed = [name for name, value in decoding.items() if value != getattr(DecodingOptions(), name)]
    others = list(sampling) if prompt is None else changed
    if others:
        task = "answers" if prompt is not None else "images"
        raise InputError(f"{', '.join(others).replace('_', '-')} is for {task}: leave it out")


def _write(outputs: "list[ImageOutput | TextOutput]", path: Path, texts: "dict[str, Any]", frames: int) -> None:
    """Write a picture or an animation of outputs."""
    from showo_turbo.plots.trajectories import animate_trajectory, plot_trajectory, save_animation

    if path.suffix.lower() == ".png":
        picture: Image = plot_trajectory(*outputs, **texts, max_frames=frames)
        atomic_files({path: image_bytes(picture, path)})
    else:
        save_animation(animate_trajectory(*outputs, **texts), path)
    note(f"wrote {path}")
