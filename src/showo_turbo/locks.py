"""Locks: one writer per folder or file, whatever its host.

The operating system releases a lock when its process ends, by a crash or a kill too, so no lock is ever left behind;
its two small hidden files may be.

    runs/star/.lock         locked while the folder is written
    runs/star/.lock.json    host, process, start and command of the owner, for the error of everyone else

The lock of a file is beside it: `.report.json.lock`.
"""

import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from showo_turbo.errors import InputError
from showo_turbo.files import remove_partial_files, write_json

_SECONDS_TO_WAIT = 1.0
"""Time for a process that only looks at a folder, or is ending, to release its lock."""


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Be the only writer of a folder in the block; the folder is created if it is missing.

    Partial files of killed processes are removed, in the folders in it too, except in those that another run locks.

    Raises:
        InputError: if another process writes it; names the process.
        OSError: if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder, folder / ".lock"):
        for inner, folders, _ in os.walk(folder):
            folders[:] = [name for name in folders if not Path(inner, name, ".lock").exists()]
            remove_partial_files(Path(inner))
        yield


@contextmanager
def lock_file(file: Path) -> Iterator[None]:
    """Be the only writer of a file in the block; its folder must exist. Partial files of killed processes are removed.

    Raises:
        InputError: if another process writes it; names the process.
        OSError: if its folder cannot be written.
    """
    target = file.resolve()
    with _lock(file, target.with_name(f".{target.name}.lock")):
        remove_partial_files(target.parent, target.name)
        yield


@contextmanager
def _lock(path: Path, lock_path: Path) -> Iterator[None]:
    lock, owner = FileLock(lock_path, is_singleton=True), lock_path.with_name(f"{lock_path.name}.json")
    if lock.is_locked:  # by this process: trajectories may be in the folder of their stage
        yield
        return
    try:
        lock.acquire(timeout=_SECONDS_TO_WAIT)
    except Timeout:
        raise InputError(
            f"{str(path)!r} is being written by {_read_owner(owner)}: wait for it to end, or choose another output"
        ) from None
    try:
        write_json(owner, _this_process())
        yield
    finally:
        owner.unlink(missing_ok=True)
        if os.name == "posix":  # elsewhere, an open file cannot be removed
            lock_path.unlink(missing_ok=True)
        lock.release()


def _this_process() -> dict[str, str | int]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "start": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
    }


def _read_owner(path: Path) -> str:
    """Describe the owner of a lock."""
    try:
        owner = json.loads(path.read_bytes())
        return f"process {owner['pid']} on {owner['host']}, which started at {owner['start']} ({owner['command']})"
    except (OSError, ValueError, KeyError, TypeError):  # it is about to write the file, or somebody removed it
        return "another process"
