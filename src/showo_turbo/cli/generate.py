"""`showo-turbo generate`: prompts to PNG files, each with a sidecar that can make it again."""

import re
import secrets
from dataclasses import dataclass, replace
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showo_turbo.checkpoints.names import SHIPPED_MODELS
from showo_turbo.cli.files import check_outputs, png_bytes, write_files
from showo_turbo.cli.options import DEFAULT_DTYPE, DEFAULT_MODEL, Device, Overwrite, load_pipeline
from showo_turbo.cli.sidecar import SAMPLING_KEYS, Sidecar, sidecar_path
from showo_turbo.cli.terminal import StepProgress, progress_bar
from showo_turbo.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from showo_turbo.pipeline import ShowoPipeline


@dataclass(frozen=True)
class Picture:
    """One file to draw."""

    prompt: str
    path: Path


def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(help="What to draw; several prompts give several files.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="For one prompt a PNG file (out.png if left out); for several a folder that exists (the current one "
            "if left out), which gets files such as 001-a-red-circle.png.",
        ),
    ] = None,
    prompts_file: Annotated[Path | None, typer.Option(help="A text file with one more prompt on each line.")] = None,
    model: Annotated[str | None, typer.Option(help=f"Shipped model, folder or hub name. [{DEFAULT_MODEL}]")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", "--num-inference-steps", help="Passes; the model's own choice if left out.")
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Pull towards the prompt; 0 is none. The model's own choice if left out.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw among the k most probable codes only.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Noise in choosing which codes to keep first.")] = None,
    schedule: Annotated[str | None, typer.Option(help="cosine, linear, sigmoid or powX.")] = None,
    seed: Annotated[int | None, typer.Option(help="Random if left out; each prompt starts from it anew.")] = None,
    num_images: Annotated[int | None, typer.Option(help="Images per prompt, in a grid. [1]")] = None,
    device: Device = None,
    dtype: Annotated[str | None, typer.Option(help=f"float32, bfloat16 or float16. [{DEFAULT_DTYPE}]")] = None,
    overwrite: Overwrite = False,
    from_sidecar: Annotated[
        Path | None, typer.Option(help="Make a picture again from its JSON file; goes with -o and --overwrite only.")
    ] = None,
) -> None:
    """Draw images.

    Beside every picture NAME.png goes NAME.json with all settings, from which --from-sidecar makes the same picture.
    """
    given = {
        "prompts": prompts,
        "prompts_file": prompts_file,
        "model": model,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "top_k": top_k,
        "temperature": temperature,
        "schedule": schedule,
        "seed": seed,
        "num_images": num_images,
        "device": device,
        "dtype": dtype,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if from_sidecar is not None:
        _draw_again(from_sidecar, output, overwrite, given)
    else:
        _draw_new(output, overwrite, given)


def _draw_new(output: Path | None, overwrite: bool, given: dict[str, Any]) -> None:
    texts = [*given.get("prompts", []), *_read_prompts(given.get("prompts_file"))]
    pictures = plan_pictures(texts, output)
    check_outputs([path for one in pictures for path in (one.path, sidecar_path(one.path))], overwrite)
    name = given.get("model", DEFAULT_MODEL)
    pipe = load_pipeline(name, given.get("device"), given.get("dtype", DEFAULT_DTYPE))
    settings = _settings(pipe, name, given)
    _draw(pipe, [(one.path, replace(settings, prompt=one.prompt)) for one in pictures])


def _draw_again(path: Path, output: Path | None, overwrite: bool, given: dict[str, Any]) -> None:
    if given:
        named = ", ".join(name.replace("_", "-") for name in given)
        raise InputError(f"--from-sidecar already says everything but the output: leave {named} out")
    settings = Sidecar.read(path)
    (picture,) = plan_pictures([settings.prompt], output)
    check_outputs([picture.path, sidecar_path(picture.path)], overwrite)
    pipe = load_pipeline(settings.model, settings.device, settings.dtype)
    if _weights_sha256(settings.model) != settings.weights_sha256:
        raise InputError(f"model {settings.model!r} has other weights than those that made {str(path)!r}")
    _draw(pipe, [(picture.path, settings)])


def _settings(pipe: "ShowoPipeline", model: str, given: dict[str, Any]) -> Sidecar:
    """The settings that all pictures share; the prompt is still to be filled in."""
    import torch

    from showo_turbo import __version__

    recommended = {name: getattr(pipe.recommended, name) for name in SAMPLING_KEYS}
    return Sidecar(
        prompt="",
        seed=given.get("seed", secrets.randbelow(2**32)),
        num_images=given.get("num_images", 1),
        **{name: given.get(name, value) for name, value in recommended.items()},
        model=str(Path(model).resolve()) if model not in SHIPPED_MODELS and Path(model).is_dir() else model,
        weights_sha256=_weights_sha256(model),
        device=str(pipe.device),
        dtype=str(pipe.model.dtype).removeprefix("torch."),
        showo_turbo=__version__,
        torch=torch.__version__,
    )


def _weights_sha256(model: str) -> dict[str, str]:
    from showo_turbo.checkpoints.loading import locate

    return locate(model).weights_sha256()


def _draw(pipe: "ShowoPipeline", pictures: list[tuple[Path, Sidecar]]) -> None:
    """Draw and write, one picture at a time, so that each is what it would be alone."""
    from showo_turbo.text_to_image import check_prompt

    for _, settings in pictures:
        check_prompt(pipe.prompts, settings.prompt)
    with progress_bar() as progress:
        total = sum(settings.num_inference_steps for _, settings in pictures)
        on_step = StepProgress(progress, "drawing", total)
        for path, settings in pictures:
            image = _grid(pipe, settings, on_step)
            write_files({path: png_bytes(image), sidecar_path(path): settings.to_bytes()})
    for path, _ in pictures:
        typer.echo(path)


def _grid(pipe: "ShowoPipeline", settings: Sidecar, on_step: "Callable[..., None]") -> "Image":
    from showo_turbo.processing.images import make_grid

    images = pipe.text_to_image(
        settings.prompt,
        **settings.sampling(),
        num_images_per_prompt=settings.num_images,
        seed=settings.seed,
        callback_on_step_end=on_step,
    ).images
    return make_grid(images, columns=ceil(sqrt(len(images))))


def _read_prompts(path: Path | None) -> list[str]:
    """The lines of a file that hold anything."""
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"prompts file {str(path)!r} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"prompts file {str(path)!r} is not UTF-8 text: save it as such") from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise InputError(f"prompts file {str(path)!r} is empty: write one prompt on each line")
    return texts


def plan_pictures(texts: list[str], output: Path | None) -> list[Picture]:
    """Which prompt goes into which file.

    Raises:
        InputError: when there is nothing to draw, or the output does not suit the number of prompts.
    """
    if not texts:
        raise InputError(
            'no prompt: say what to draw, as in showo-turbo generate "a red circle", or give --prompts-file'
        )
    if len(texts) == 1:
        path = output or Path("out.png")
        path = path / f"{_slug(texts[0])}.png" if path.is_dir() else path
        if path.suffix.lower() != ".png":
            raise InputError(f"output {str(path)!r} must end in .png")
        return [Picture(texts[0], path)]
    folder = output or Path()
    if not folder.is_dir():
        raise InputError(f"output {str(folder)!r} must be a folder that exists, since there are {len(texts)} prompts")
    return [Picture(text, folder / f"{number:03}-{_slug(text)}.png") for number, text in enumerate(texts, start=1)]


def _slug(text: str) -> str:
    """A text as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:60].strip("-") or "picture"
