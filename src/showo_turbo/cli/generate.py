"""`showo-turbo generate`: prompts to PNG files, each with a sidecar that can make it again."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from showo_turbo.cli.drawing import draw, draw_again, new_settings, open_model, picture_path
from showo_turbo.cli.files import check_outputs
from showo_turbo.cli.option_groups import DrawingOptions, with_options
from showo_turbo.cli.prompt_files import read_prompts, slug
from showo_turbo.cli.sidecar import Sidecar, sidecar_path
from showo_turbo.errors import InputError


@with_options
def generate(
    options: DrawingOptions,
    prompts: Annotated[
        list[str] | None, typer.Argument(help="What to draw; several prompts give several files.")
    ] = None,
    prompts_file: Annotated[Path | None, typer.Option(help="A text file with one more prompt on each line.")] = None,
    height: Annotated[int | None, typer.Option(help="In pixels; the model's own if left out.")] = None,
    width: Annotated[int | None, typer.Option(help="In pixels; the model's own if left out.")] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Go on where an earlier run stopped: leave finished pictures alone.")
    ] = False,
    from_sidecar: Annotated[
        Path | None,
        typer.Option(help="Make a picture again, of whatever command, from its JSON; goes with -o and --overwrite."),
    ] = None,
) -> None:
    """Draw images.

    Beside every picture NAME.png goes NAME.json with all settings, from which --from-sidecar makes the same picture.
    """
    own = {"prompts": prompts, "prompts_file": prompts_file, "height": height, "width": width}
    given = {name: value for name, value in own.items() if value is not None} | options.given()
    if from_sidecar is None:
        _draw_new(given, options, skip_existing)
    elif given or skip_existing:
        named = ", ".join([*(name.replace("_", "-") for name in given), *["skip-existing"] * skip_existing])
        raise InputError(f"--from-sidecar already says everything but the output: leave {named} out")
    else:
        draw_again(from_sidecar, options)


def _draw_new(given: dict[str, Any], options: DrawingOptions, skip_existing: bool) -> None:
    texts = list(given.get("prompts", []))
    if "prompts_file" in given:
        texts += read_prompts(given["prompts_file"], "prompts file")
    pictures = plan_pictures(texts, options.output)
    if skip_existing:
        pictures = {path: prompt for path, prompt in pictures.items() if not _is_finished(path, prompt)}
    if not pictures:
        return
    check_outputs([file for path in pictures for file in (path, sidecar_path(path))], options.overwrite)
    pipe = open_model(given)
    size = {name: given[name] for name in ("height", "width") if name in given}
    settings = new_settings(pipe, "text_to_image", size, "", given)
    draw(pipe, {path: replace(settings, prompt=prompt) for path, prompt in pictures.items()})


def _is_finished(path: Path, prompt: str) -> bool:
    """Whether a picture of this prompt is there, with its sidecar, which is written last."""
    sidecar = sidecar_path(path)
    return path.exists() and sidecar.exists() and Sidecar.read(sidecar).prompt == prompt


def plan_pictures(texts: list[str], output: Path | None) -> dict[Path, str]:
    """Which file shows which prompt.

    Raises:
        InputError: when there is nothing to draw, or the output does not suit the number of prompts.
    """
    if not texts:
        raise InputError(
            'no prompt: say what to draw, as in showo-turbo generate "a red circle", or give --prompts-file'
        )
    if len(texts) == 1:
        return {picture_path(texts[0], output): texts[0]}
    folder = output or Path()
    if not folder.is_dir():
        raise InputError(f"output {str(folder)!r} must be a folder that exists, since there are {len(texts)} prompts")
    return {folder / f"{number:03}-{slug(text)}.png": text for number, text in enumerate(texts, start=1)}
