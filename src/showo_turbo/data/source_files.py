"""Files of a source: names, patterns, and what is said when nothing is there."""

from glob import glob, has_magic
from pathlib import Path

from showo_turbo.errors import InputError


def one_file(path: str | Path) -> Path:
    """The file of this name.

    Raises:
        InputError: when there is none.
    """
    if Path(path).is_dir():
        raise InputError(f"{str(path)!r} is a folder: give the file in it")
    if not Path(path).is_file():
        raise InputError(f"file {str(path)!r} does not exist")
    return Path(path)


def matching_files(pattern: str | Path) -> tuple[Path, ...]:
    """The file of this name, or all that match a pattern with `*`, `?` or `[..]`, sorted by name.

    Raises:
        InputError: when there are none.
    """
    if not has_magic(str(pattern)) or Path(pattern).is_file():
        return (one_file(pattern),)
    found = tuple(path for path in map(Path, sorted(glob(str(pattern)))) if path.is_file())
    if not found:
        raise InputError(f"no file matches {str(pattern)!r}")
    return found


def one_folder(path: str | Path) -> Path:
    """The folder of this name.

    Raises:
        InputError: when there is none.
    """
    if not Path(path).is_dir():
        raise InputError(f"folder {str(path)!r} does not exist")
    return Path(path)
