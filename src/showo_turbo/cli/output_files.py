"""Check the files and folders that a command writes, before any work; encode images."""

import os
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from showo_turbo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image


_QUALITY = 95
"""Quality of formats that lose detail, of 100."""


def check_outputs(paths: Iterable[Path], overwrite: bool, permission: str = "pass --overwrite") -> None:
    """Check that files can and may be written.

    Args:
        paths: the files.
        overwrite: allow files to be replaced.
        permission: in error messages, the way to allow it.

    Raises:
        InputError: if a folder cannot be created or written to, or a file exists and may not be replaced.
    """
    paths = list(paths)
    for path in paths:
        if path.is_dir():
            raise InputError(f"output {str(path)!r} is a folder: give the name of a file")
        if os.path.lexists(path) and not overwrite:  # also a link to nothing
            raise InputError(f"output {str(path)!r} exists: choose another name, or {permission} to replace it")
    for folder in sorted({path.parent for path in paths}):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"output folder {str(folder)!r} cannot be created ({error.strerror}): choose another one"
            ) from error
        _check_folder(folder)


def check_new_folder(output: Path) -> None:
    """Check that a folder can be created, or is empty.

    Raises:
        InputError: if it exists and is not empty, is the current folder, or its parent is missing or not writable.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"output {str(output)!r} exists: give the name of a new or an empty folder")
    if output.resolve() == Path.cwd():
        raise InputError(f"output {str(output)!r} is the current folder: give the name of a new one")
    _check_folder(output.absolute().parent)


def _check_folder(folder: Path) -> None:
    """Raise `InputError` if a folder is missing or not writable."""
    if not folder.is_dir():
        raise InputError(f"output folder {str(folder)!r} is missing: create it first")
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"output folder {str(folder)!r} is not writable ({error.strerror}): choose another one"
        ) from error


def check_png(option: str, path: Path) -> None:
    """Check the file name of an image that an option gives.

    Raises:
        InputError: if it does not end in .png.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{option} {str(path)!r} must end in .png")


def check_image_name(path: Path) -> None:
    """Check that an image can be written in the format that the ending of an output file names.

    Raises:
        InputError: if Pillow writes no such format.
    """
    from PIL import Image

    try:
        image_bytes(Image.new("RGB", (16, 16)), path)
    except Exception:  # formats have their own requirements, and raise exceptions of any type
        raise InputError(
            f"output {str(path)!r} ends in {path.suffix or 'nothing'}, which is no format that images are written in: "
            "choose .png, .jpg, .webp or the like"
        ) from None


def image_bytes(image: "Image", path: Path) -> bytes:
    """Return an image as the content of a file of this name."""
    from PIL.Image import registered_extensions

    buffer = BytesIO()
    image.save(buffer, format=registered_extensions()[path.suffix.lower()], quality=_QUALITY)
    return buffer.getvalue()


def png_bytes(image: "Image") -> bytes:
    """Return an image as the content of a PNG file."""
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
