"""Atomic writes, JSON, JSON lines and file hashes.

An atomic write goes to a temporary name beside the target and is renamed when it is complete, so that a reader, a full
disk or a kill never meets half a file. The temporary name holds the process id: processes that write the same path do
not collide, and the last rename wins.
"""

import errno
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from showo_turbo.errors import InputError

logger = logging.getLogger(__name__)

MAX_TEXT_BYTES = 1 << 24
"""Size of the largest JSON, YAML or text file that is read at once."""

_MAX_NESTING = 100


@contextmanager
def atomic_file(path: Path, fsync: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; rename it to `path` when the block ends, remove it if the block raises.

    Args:
        path: the file to create or to replace.
        fsync: force the content to the disk before the rename, so that the file survives a power cut.
    """
    temporary = _temporary_path(path)
    try:
        yield temporary
        if fsync:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def atomic_files(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all temporary files are complete before the first is renamed, in order.

    Raises:
        OSError: if the disk is full or the like; then no temporary file is left behind.
    """
    with ExitStack() as stack:  # renames in reverse order of entering
        for path, content in reversed(list(contents.items())):
            stack.enter_context(atomic_file(path)).write_bytes(content)


@contextmanager
def atomic_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder to fill; rename it to `path` when the block ends, remove it if the block raises.

    Args:
        path: must not exist, or be an empty folder, unless `replace` is set.
        replace: replace an existing folder. A kill between the two renames leaves no folder, never a partial one.
    """
    path = path.resolve()
    parent = _temporary_path(path)
    temporary = parent / path.name  # a model card is titled after its folder
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if replace and path.exists():
            path.replace(parent / "earlier")
        temporary.replace(path)
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def remove_partial_files(folder: Path, name: str | None = None) -> None:
    """Remove the temporary files and folders of killed processes, of all names in a folder or of one.

    Call it as the only writer of the folder.
    """
    pattern = re.compile(rf"\.{'.+' if name is None else re.escape(name)}\.\d+\.partial")
    for partial in folder.glob(".*.partial"):
        if not pattern.fullmatch(partial.name):
            continue
        with suppress(OSError):
            if partial.is_dir() and not partial.is_symlink():
                shutil.rmtree(partial)
            else:
                partial.unlink()


def sha256_of_files(*paths: Path) -> str:
    """Return the hexadecimal SHA-256 of the concatenated contents of files."""
    digest = sha256()
    for path in paths:
        with path.open("rb") as file:
            file_digest(file, lambda: digest)  # updates the digest
    return digest.hexdigest()


def check_plain_file(path: Path, max_bytes: int | None = None) -> None:
    """Check that a file holds stored data of a bounded size: reading a FIFO or a device may never end.

    Raises:
        OSError: if there is no such file, it is not a plain file, or it is larger.
    """
    try:
        found = path.stat()
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, "no name of a file", str(path)) from error
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    if max_bytes is not None and found.st_size > max_bytes:
        raise OSError(errno.EFBIG, f"it has {found.st_size:,} bytes, at most {max_bytes:,} are read", str(path))


def read_text(path: Path, encoding: str = "utf-8", max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Read a plain text file of a bounded size.

    Raises:
        OSError: as `check_plain_file`, or if the file cannot be read.
        UnicodeDecodeError: if it is in another encoding.
    """
    check_plain_file(path, max_bytes)
    return path.read_text(encoding=encoding)


def parse_json(content: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: if it is not JSON, or nested too deeply for other code to walk through.
    """
    try:
        values = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [values]
    for _ in range(_MAX_NESTING):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [value for group in inner for value in group]
        if not level:
            return values
    raise ValueError(f"it is nested more than {_MAX_NESTING} levels deep")


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        InputError: if the file cannot be read, is not JSON, or holds something other than an object.
    """
    try:
        values = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{str(path)!r} cannot be read ({reason}): expected a JSON file") from error
    if not isinstance(values, dict):
        raise InputError(f"{str(path)!r} holds a {type(values).__name__}; expected a JSON object")
    return values


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Return an object as an indented JSON file holds it."""
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write an object as an indented JSON file, atomically."""
    atomic_files({path: json_bytes(values)})


def append_json_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append a line to a log, or nothing: a failed write is undone and logged as a warning, and the caller goes on."""
    size = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a") as file:
            file.write(json.dumps(values) + "\n")
    except OSError as error:
        with suppress(OSError):
            os.truncate(path, size)
        logger.warning("a line of %s could not be written (%s)", path, error)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a log that hold an object with a `step`; skip all others. A missing log has no lines."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [values for line in lines if (values := _parse_line(line)) is not None]


def drop_json_lines_after(path: Path, step: int) -> None:
    """Truncate a log at the first line of a later step, or at a line without an end."""
    if not path.exists():
        return
    size = 0
    for line in path.read_bytes().splitlines(keepends=True):
        values = _parse_line(line)
        if not line.endswith(b"\n") or (values is not None and values["step"] > step):
            break
        size += len(line)
    os.truncate(path, size)


def _parse_line(line: bytes) -> dict[str, Any] | None:
    """Return the object of a line, or None if it cannot be parsed or has no integer `step`."""
    try:
        values = parse_json(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) and isinstance(values.get("step"), int) else None
