"""Paths and patterns of a source's files, and the errors for missing ones."""

from glob import glob, has_magic
from pathlib import Path

from showo_turbo.errors import InputError


def existing_file(path: str | Path) -> Path:
    """Return the path of a file.

    Raises:
        InputError: if the file does not exist or is a folder.
    """
    if Path(path).is_dir():
        raise InputError(f"{str(path)!r} is a folder: give the file in it")
    if not Path(path).is_file():
        raise InputError(f"file {str(path)!r} does not exist")
    return Path(path)


def matching_files(pattern: str | Path) -> tuple[Path, ...]:
    """Return the file of this name, or all files that match a pattern with `*`, `?` or `[..]`, sorted by name.

    Raises:
        InputError: if there is no such file.
    """
    if not has_magic(str(pattern)) or Path(pattern).is_file():
        return (existing_file(pattern),)
    found = tuple(path for path in map(Path, sorted(glob(str(pattern)))) if path.is_file())
    if not found:
        raise InputError(f"no file matches {str(pattern)!r}")
    return found


def existing_folder(path: str | Path) -> Path:
    """Return the path of a folder.

    Raises:
        InputError: if the folder does not exist.
    """
    if not Path(path).is_dir():
        raise InputError(f"folder {str(path)!r} does not exist")
    return Path(path)
