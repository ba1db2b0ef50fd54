"""What the commands that draw have in common: settings to pictures, each with its sidecar."""

import secrets
from collections.abc import Callable
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from showo_turbo.checkpoints.names import SHIPPED_MODELS
from showo_turbo.cli.files import check_outputs, check_png, png_bytes
from showo_turbo.cli.option_groups import DrawingOptions
from showo_turbo.cli.options import DEFAULT_DTYPE, DEFAULT_MODEL, load_pipeline
from showo_turbo.cli.prompt_files import slug
from showo_turbo.cli.sidecar import FILE_ARGUMENTS, SAMPLING_KEYS, Sidecar, sidecar_path
from showo_turbo.cli.terminal import StepProgress, progress_bar
from showo_turbo.errors import InputError
from showo_turbo.files import atomic_files, sha256_of_files

if TYPE_CHECKING:
    from PIL.Image import Image

    from showo_turbo.pipelines.pipeline import ShowoPipeline


def edit(task: str, arguments: dict[str, Any], prompt: str, options: DrawingOptions) -> None:
    """Run a task that starts from an image, and write one picture.

    Args:
        task: one of `sidecar.TASKS`.
        arguments: its own arguments.
        prompt: the text.
        options: those of the command.

    Raises:
        InputError: when a file cannot be read or written, or as the task.
    """
    from showo_turbo.processing.images import load_image

    path, given = picture_path(prompt, options.output), options.given()
    check_outputs([path, sidecar_path(path)], options.overwrite)
    for name in FILE_ARGUMENTS:
        if name in arguments:
            load_image(arguments[name])
            arguments[name] = str(Path(arguments[name]).resolve())
    pipe = open_model(given)
    draw(pipe, {path: new_settings(pipe, task, arguments, prompt, given)})


def open_model(given: dict[str, Any]) -> "ShowoPipeline":
    """The model that options ask for."""
    model, dtype = given.get("model", DEFAULT_MODEL), given.get("dtype", DEFAULT_DTYPE)
    return load_pipeline(model, given.get("device"), dtype, given.get("quantization"))


def new_settings(
    pipe: "ShowoPipeline", task: str, arguments: dict[str, Any], prompt: str, given: dict[str, Any]
) -> Sidecar:
    """All settings of a picture; options that are not given are the model's recommendations, a seed is drawn."""
    import torch

    from showo_turbo import __version__
    from showo_turbo.checkpoints.published import published_checkpoint

    model = given.get("model", DEFAULT_MODEL)
    says_more = model in SHIPPED_MODELS or published_checkpoint(model)  # than a path does
    is_folder = Path(model).is_dir() and not says_more
    options = pipe.recommended.with_steps(given.get("num_inference_steps"))
    recommended = {name: getattr(options, name) for name in SAMPLING_KEYS}
    return Sidecar(
        task=task,
        arguments=arguments,
        inputs_sha256={name: sha256_of_files(Path(arguments[name])) for name in FILE_ARGUMENTS if name in arguments},
        prompt=prompt,
        seed=given.get("seed", secrets.randbelow(2**32)),
        num_images=given.get("num_images", 1),
        **{name: given.get(name, value) for name, value in recommended.items()},
        model=str(Path(model).resolve()) if is_folder else model,
        weights_sha256=_weights_sha256(model),
        device=str(pipe.device),
        dtype=str(pipe.model.dtype).removeprefix("torch."),
        quantization=pipe.model.quantization,
        showo_turbo=__version__,
        torch=torch.__version__,
    )


def draw_again(sidecar: Path, options: DrawingOptions) -> None:
    """Make the picture of a sidecar again.

    Raises:
        InputError: when the sidecar cannot be read, or the model or an input is not what it was.
    """
    settings = Sidecar.read(sidecar)
    path = picture_path(settings.prompt, options.output)
    check_outputs([path, sidecar_path(path)], options.overwrite)
    for name, file in settings.files().items():
        if sha256_of_files(file) != settings.inputs_sha256.get(name):
            raise InputError(f"{name} {str(file)!r} is not the one that {str(sidecar)!r} was made with")
    pipe = load_pipeline(settings.model, settings.device, settings.dtype, settings.quantization)
    if _weights_sha256(settings.model) != settings.weights_sha256:
        raise InputError(f"model {settings.model!r} has other weights than those that made {str(sidecar)!r}")
    draw(pipe, {path: settings})


def draw(pipe: "ShowoPipeline", pictures: dict[Path, Sidecar]) -> None:
    """Draw and write, one picture at a time, so that each is what it would be alone.

    Raises:
        InputError: before any of them is drawn, when a prompt cannot be.
    """
    for settings in pictures.values():
        pipe.prompts.check_prompt(settings.prompt)
    with progress_bar() as progress:
        on_step = StepProgress(progress, "drawing", len(pictures))
        for path, settings in pictures.items():
            image = _grid(pipe, settings, on_step)
            atomic_files({path: png_bytes(image), sidecar_path(path): settings.to_bytes()})
    for path in pictures:
        typer.echo(path)


def _grid(pipe: "ShowoPipeline", settings: Sidecar, on_step: Callable[..., None]) -> "Image":
    from showo_turbo.processing.images import make_grid

    images = getattr(pipe, settings.task)(
        prompt=settings.prompt,
        **settings.arguments,
        **settings.sampling(),
        num_images_per_prompt=settings.num_images,
        seed=settings.seed,
        callback_on_step_end=on_step,
    ).images
    return make_grid(images, columns=ceil(sqrt(len(images))))


def picture_path(prompt: str, output: Path | None) -> Path:
    """The file for a prompt: `output`, or a file in it that is named after the prompt, or out.png.

    Raises:
        InputError: when it is no PNG file.
    """
    path = output or Path("out.png")
    path = path / f"{slug(prompt)}.png" if path.is_dir() else path
    check_png("output", path)
    return path


def _weights_sha256(model: str) -> dict[str, str]:
    from showo_turbo.checkpoints.loading import locate

    return locate(model).weights_sha256()
