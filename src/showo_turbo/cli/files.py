"""Checks of the files and folders that a command writes, before any work."""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from showo_turbo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image


def check_outputs(paths: Iterable[Path], overwrite: bool, permission: str = "pass --overwrite") -> None:
    """Refuse files that cannot, or must not, be written. `permission` is how a user allows to replace files.

    Raises:
        InputError: when a folder is missing or not writable, or a file exists and may not be replaced.
    """
    paths = list(paths)
    for folder in {path.parent for path in paths}:
        _check_folder(folder)
    for path in paths:
        if path.is_dir():
            raise InputError(f"output {str(path)!r} is a folder: give the name of a file")
        if path.exists() and not overwrite:
            raise InputError(f"output {str(path)!r} exists: choose another name, or {permission} to replace it")


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"output folder {str(folder)!r} is missing: create it first")
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"output folder {str(folder)!r} is not writable ({error.strerror}): choose another one"
        ) from error


def check_png(option: str, path: Path) -> None:
    """Refuse the name of a picture's file that is no PNG's. `option` is the one that gave it.

    Raises:
        InputError: when it does not end in .png.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{option} {str(path)!r} must end in .png")


def png_bytes(image: "Image") -> bytes:
    """A picture as the content of a PNG file."""
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def check_new_folder(output: Path) -> None:
    """Refuse a folder that a command is to write, if it holds anything or cannot be made.

    Raises:
        InputError: when it exists and is not empty, is the current folder, or the folder around it is missing or not
            writable.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"output {str(output)!r} exists: give the name of a new or an empty folder")
    if output.resolve() == Path.cwd():
        raise InputError(f"output {str(output)!r} is the folder you are in: give the name of a new one")
    _check_folder(output.absolute().parent)
