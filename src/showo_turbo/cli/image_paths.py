"""Names of the image files of prompts."""

from pathlib import Path

from showo_turbo.cli.output_files import check_image_name
from showo_turbo.cli.prompt_files import slug
from showo_turbo.errors import InputError


def image_paths(prompts: list[str], output: Path | None) -> dict[Path, str]:
    """Return the file of every prompt, and the prompt.

    Raises:
        InputError: if there is no prompt, or the output does not suit the number of prompts.
    """
    if not prompts:
        raise InputError(
            'prompt is missing: give one, as in showo-turbo generate "a red circle", or several in --prompts-file'
        )
    if len(prompts) == 1:
        return {image_path(prompts[0], output): prompts[0]}
    folder = output or Path()
    if folder.suffix.lower() == ".png" or (folder.exists() and not folder.is_dir()):
        raise InputError(f"output {str(folder)!r} must be a folder, since there are {len(prompts)} prompts")
    return {folder / f"{number:03}-{slug(prompt)}.png": prompt for number, prompt in enumerate(prompts, start=1)}


def image_path(prompt: str, output: Path | None) -> Path:
    """Return the file of one prompt: `output`, or a file in it that is named after the prompt, or out.png.

    Raises:
        InputError: if its ending names no format that images are written in.
    """
    path = output or Path("out.png")
    path = path / f"{slug(prompt)}.png" if path.is_dir() or not path.suffix else path
    check_image_name(path)
    return path
