"""`showo-turbo generate`, `inpaint`, `extrapolate`, `vary`, `edit`: images as PNG files, each with a sidecar file.

prompt, arguments, options --new_sidecar--> Sidecar --draw--> NAME.png, NAME.json
NAME.json ------------------Sidecar.read-------^
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showo_turbo.checkpoints.names import SHIPPED_MODELS
from showo_turbo.cli.common_options import (
    ImageFile,
    given_options,
    load_pipeline,
    report_unknown_words,
    with_options,
)
from showo_turbo.cli.draw_bulk import BulkArguments, generate_packs
from showo_turbo.cli.drawing_arguments import DrawingArguments
from showo_turbo.cli.finished_images import unfinished
from showo_turbo.cli.image_paths import image_path, image_paths
from showo_turbo.cli.output_files import check_outputs, image_bytes
from showo_turbo.cli.prompt_files import check_prompts, read_prompt_lines
from showo_turbo.cli.sidecar import Sidecar, files_in, sidecar_path
from showo_turbo.cli.terminal import StepProgress, note, print_result, progress_bar, warn
from showo_turbo.errors import InputError
from showo_turbo.files import atomic_files, sha256_of_files
from showo_turbo.generation.options import SamplingOptions

if TYPE_CHECKING:
    from PIL.Image import Image

    from showo_turbo.pipelines.pipeline import ShowoPipeline


@with_options
def generate(
    options: DrawingArguments,
    bulk: BulkArguments,
    prompts: Annotated[list[str] | None, typer.Argument(help="Text of an image; every prompt gives a file.")] = None,
    prompts_file: Annotated[Path | None, typer.Option(help="A text file with one more prompt on each line.")] = None,
    height: Annotated[int | None, typer.Option(help="Height in pixels; the model's own if left out.")] = None,
    width: Annotated[int | None, typer.Option(help="Width in pixels; the model's own if left out.")] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Resume an interrupted run: skip images that are finished.")
    ] = False,
    from_sidecar: Annotated[
        Path | None,
        typer.Option(
            help="Draw an image again from its JSON file, of any command; only -o and --overwrite can be given with it."
        ),
    ] = None,
) -> None:
    """Draw images.

    Every image NAME.png gets a file NAME.json with all settings; --from-sidecar draws the same image from it again.
    """
    own = {"prompts": prompts, "prompts_file": prompts_file, "height": height, "width": width}
    given = {name: value for name, value in own.items() if value is not None}
    if from_sidecar is not None:
        if given or options.given() or skip_existing:
            names = [*given, *options.given(), *["skip_existing"] * skip_existing]
            raise InputError(
                "--from-sidecar takes all settings but the output from the file: leave "
                f"{', '.join(names).replace('_', '-')} out"
            )
        draw_again(from_sidecar, options)
        return
    if bulk.format is not None:
        generate_packs(options, bulk, given, skip_existing)
        return
    lines = read_prompt_lines(prompts_file, "prompts file") if prompts_file else {}
    origins = {prompt: f"prompts file {str(prompts_file)!r}, line {line}" for line, prompt in lines.items()}
    texts = [*(prompts or []), *lines.values()]
    images = image_paths(texts, options.output)
    if not skip_existing:
        check_outputs([file for path in images for file in (path, sidecar_path(path))], options.overwrite)
    size = {name: value for name, value in given.items() if name in ("height", "width")}
    options.check("text_to_image", size, list(images.values()), origins)
    pipe = options.load_pipeline()
    sidecar = new_sidecar(pipe, "text_to_image", size, "", options)
    sidecars = {path: replace(sidecar, prompt=prompt) for path, prompt in images.items()}
    if skip_existing:
        sidecars = unfinished(sidecars, options.overwrite, options.seed is not None)
    draw(pipe, sidecars, origins)
    if sidecars:
        _note_seed(sidecar, options)


@with_options
def inpaint(
    image: ImageFile,
    mask: Annotated[str, typer.Argument(help="An image of the same size, white where to draw.", show_default=False)],
    prompt: Annotated[str, typer.Argument(help="Text of the whole image.", show_default=False)],
    options: DrawingArguments,
) -> None:
    """Redraw the part of an image that is white in a mask."""
    draw_from_image("inpaint", {"image": image, "mask": mask}, prompt, options)


@with_options
def extrapolate(
    image: ImageFile,
    prompt: Annotated[str, typer.Argument(help="Text of the new part.", show_default=False)],
    options: DrawingArguments,
    direction: Annotated[
        list[str], typer.Option(help="left, right, up or down, half an image at a time; may be given several times.")
    ] = ["left"],  # noqa: B006
    offset: Annotated[int, typer.Option(help="Codes that are added at a time beyond half an image.")] = 0,
) -> None:
    """Extend an image beyond its borders."""
    draw_from_image("extrapolate", {"image": image, "direction": direction, "offset": offset}, prompt, options)


@with_options
def vary(
    image: ImageFile,
    prompt: Annotated[str, typer.Argument(help="Text of the whole image.", show_default=False)],
    options: DrawingArguments,
    strength: Annotated[float, typer.Option(help="Fraction of the image that is redrawn, up to 1.")] = 0.6,
) -> None:
    """Draw a variation of an image: a random part of it is redrawn."""
    draw_from_image("vary", {"image": image, "strength": strength}, prompt, options)


@with_options
def edit(
    image: ImageFile,
    instruction: Annotated[
        str, typer.Argument(help='What to change, such as "make the circle red".', show_default=False)
    ],
    options: DrawingArguments,
) -> None:
    """Edit an image by an instruction, with a model or adapter that was fine-tuned on editing pairs."""
    draw_from_image("edit", {"image": image}, instruction, options)


SIZES = ("width", "height")


def draw_from_image(task: str, arguments: dict[str, Any], prompt: str, options: DrawingArguments) -> None:
    """Run a task that starts from an image, and write one image file.

    Args:
        task: one of `sidecar.TASKS`.
        arguments: arguments of the task.
        prompt: the text.
        options: options of the command.

    Raises:
        InputError: if a file cannot be read or written, or as the task.
    """
    from showo_turbo.processing.image_files import check_same_size, open_image

    path = image_path(prompt, options.output)
    check_outputs([path, sidecar_path(path)], options.overwrite)
    opened = {name: open_image(arguments[name]) for name in files_in(arguments)}
    if "mask" in opened:
        check_same_size(opened["image"], opened["mask"])
    arguments |= {name: str(file.resolve()) for name, file in files_in(arguments).items()}
    options.check(task, arguments, [prompt])
    pipe = options.load_pipeline()
    sidecar = new_sidecar(pipe, task, arguments, prompt, options)
    draw(pipe, {path: sidecar})
    _note_seed(sidecar, options)


def new_sidecar(
    pipe: "ShowoPipeline", task: str, arguments: dict[str, Any], prompt: str, options: DrawingArguments
) -> Sidecar:
    """Return all settings of an image; a seed that is not given is chosen at random.

    Raises:
        InputError: if a sampling option is out of its range.
    """
    import torch

    from showo_turbo import __version__
    from showo_turbo.checkpoints.loading import locate

    model, base = options.model_name, options.base
    return Sidecar(
        task=task,
        arguments=arguments,
        inputs_sha256={name: sha256_of_files(file) for name, file in files_in(arguments).items()},
        prompt=prompt,
        seed=secrets.randbelow(2**32) if options.seed is None else options.seed,
        num_images=1 if options.num_images is None else options.num_images,
        sampling=pipe.recommended.override(**given_options(SamplingOptions, options)),
        model=_full_path(model),
        weights_sha256=locate(model, base=base).weights_sha256(),
        device=str(pipe.device),
        dtype=str(pipe.model.dtype).removeprefix("torch."),
        quantization=pipe.model.quantization,
        showo_turbo=__version__,
        torch=torch.__version__,
        base=None if base is None else _full_path(base),
    )


def _full_path(model: str) -> str:
    """Return the full path of a model in a folder; the name of a shipped or published one implies more than a path."""
    from showo_turbo.checkpoints.published import published_checkpoint

    is_folder = Path(model).is_dir() and model not in SHIPPED_MODELS and not published_checkpoint(model)
    return str(Path(model).resolve()) if is_folder else model


def draw_again(file: Path, options: DrawingArguments) -> None:
    """Draw the image of a sidecar file again.

    Raises:
        InputError: if the file cannot be read, or the model or an input has changed.
    """
    sidecar = Sidecar.read(file)
    path = image_path(sidecar.prompt, options.output)
    check_outputs([path, sidecar_path(path)], options.overwrite)
    sidecar.check_inputs(file)
    pipe = load_pipeline(sidecar.model, sidecar.device, sidecar.dtype, sidecar.quantization, sidecar.base)
    from showo_turbo.checkpoints.loading import locate

    if locate(sidecar.model, base=sidecar.base).weights_sha256() != sidecar.weights_sha256:
        raise InputError(f"model {sidecar.model!r} has other weights than those that made {str(file)!r}")
    draw(pipe, {path: sidecar})


def draw(pipe: "ShowoPipeline", images: dict[Path, Sidecar], origins: Mapping[str, str] | None = None) -> None:
    """Draw and write image files one at a time, so that none depends on the others.

    Args:
        pipe: the pipeline.
        images: the files, with their settings.
        origins: see `check_prompts`.

    Raises:
        InputError: if a prompt is empty or too long, before any image is drawn, or as the task.
    """
    from showo_turbo.processing.images import make_grid

    check_prompts(pipe.prompts, [sidecar.prompt for sidecar in images.values()], origins)
    _warn_of_size(pipe, list(images.values()))
    report_unknown_words(pipe, [sidecar.prompt for sidecar in images.values()], "prompts")
    with progress_bar() as progress:
        on_step = StepProgress(progress, "drawing", len(images))
        for path, sidecar in images.items():
            drawn = getattr(pipe, sidecar.task)(
                prompt=sidecar.prompt,
                **sidecar.arguments,
                **vars(sidecar.sampling),
                num_images_per_prompt=sidecar.num_images,
                seed=sidecar.seed,
                callback_on_step_end=on_step,
            ).images
            write_image(make_grid(drawn, columns=ceil(sqrt(len(drawn)))), path, sidecar)
            print_result(path)


def write_image(image: "Image", path: Path, sidecar: Sidecar) -> None:
    """Write an image and its sidecar; after a kill, the sidecar of another image is never beside it."""
    files = {sidecar_path(path): sidecar.to_bytes(), path: image_bytes(image, path)}
    if path.exists():
        sidecar_path(path).unlink(missing_ok=True)
        files = dict(reversed(files.items()))
    atomic_files(files)


def _note_seed(sidecar: Sidecar, options: DrawingArguments) -> None:
    """Print a seed that was chosen at random."""
    if options.seed is None:
        note(f"the seed was chosen at random: --seed {sidecar.seed} draws the same again")


def _warn_of_size(pipe: "ShowoPipeline", sidecars: Sequence[Sidecar]) -> None:
    """Print a warning if an image is larger than those that the model is trained on.

    Raises:
        InputError: if a size is invalid.
    """
    largest = pipe.resolution
    for name, pixels in {item for sidecar in sidecars for item in sidecar.arguments.items() if item[0] in SIZES}:
        pipe.codes_along(name, pixels)
    sizes = [[sidecar.arguments.get(name) or largest for name in SIZES] for sidecar in sidecars]
    above = next((size for size in sizes if max(size) > largest), None)
    if above is not None:
        warn(
            f"{above[0]} x {above[1]} pixels is above the {largest} x {largest} that the model is trained on: the "
            "image is drawn window by window, which takes longer and repeats objects"
        )
