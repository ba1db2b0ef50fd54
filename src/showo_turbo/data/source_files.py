"""Paths and patterns of a source's files, and the errors for missing ones."""

import re
from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from itertools import islice
from pathlib import Path

from showo_turbo.errors import InputError

_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_MAX_EXPANDED = 10**6


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
    """Return the file of this name, or all files that match a pattern.

    `{000..999}` and `{a,b}` stand for names in this order, which all must exist; `*`, `?` and `[..]` match names, which
    are sorted.

    Raises:
        InputError: if there is no such file.
    """
    if not Path(pattern).is_file() and _BRACES.search(str(pattern)):
        return tuple(file for name in _expand_braces(str(pattern)) for file in matching_files(name))
    if not has_magic(str(pattern)) or Path(pattern).is_file():
        return (existing_file(pattern),)
    found = tuple(path for path in map(Path, sorted(glob(str(pattern)))) if path.is_file())
    if not found:
        raise InputError(f"no file matches {str(pattern)!r}")
    return found


def _expand_braces(pattern: str) -> list[str]:
    """Return the names of a pattern with braces, nested or not, each once.

    Raises:
        InputError: if there are more than a million.
    """
    names = list(islice(_expanded(pattern), _MAX_EXPANDED + 1))
    if len(names) > _MAX_EXPANDED:
        raise InputError(f"{pattern!r} stands for more than {_MAX_EXPANDED:,} files: use * instead")
    return list(dict.fromkeys(names))


def _expanded(pattern: str) -> Iterator[str]:
    """Yield the names of a pattern with braces; numbers are padded with zeros if one of the ends is."""
    braces = _BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    first, last, listed = braces.groups()
    if first is None:
        values: Iterable[str] = listed.split(",")
    else:
        start, stop = int(first), int(last)
        is_padded = any(end.startswith("0") and len(end) > 1 for end in (first, last))
        width = max(len(first), len(last)) if is_padded else 0
        numbers = range(start, stop + 1) if start <= stop else range(start, stop - 1, -1)
        values = (f"{number:0{width}}" for number in numbers)
    for value in values:
        yield from _expanded(pattern[: braces.start()] + value + pattern[braces.end() :])


def existing_folder(path: str | Path) -> Path:
    """Return the path of a folder.

    Raises:
        InputError: if the folder does not exist.
    """
    if not Path(path).is_dir():
        raise InputError(f"folder {str(path)!r} does not exist")
    return Path(path)
