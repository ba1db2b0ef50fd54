"""Digests of data, by which a resumed run notices that its files were edited.

Decisions:
- A digest takes seconds at most: it has the names of all files, and size, time and content of some of them, which
  are evenly spaced. Of a large file it reads some evenly spaced blocks.
- The time is there for edits of the content between these blocks.
"""

import os
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from showo_turbo.data.source_config import SourceConfig, source_files

_MAX_FILES = 256
"""Number of files whose size, time and content count."""
_MAX_BLOCKS = 8
"""Number of blocks of a file that are read."""
_BLOCK_BYTES = 2**16

Digest = dict[str, Any]
"""JSON values: number of files, bytes and time of the newest of the sampled files, and SHA-256 of names and content."""


def source_digests(configs: Iterable[SourceConfig]) -> dict[str, Digest]:
    """Return the digest of each source by its title.

    Raises:
        OSError: if a file cannot be read.
    """
    return {config.title: digest(source_files(config)) for config in configs}


def digest(paths: Sequence[Path]) -> Digest:
    """Return the digest of files, and of the files in folders.

    Raises:
        OSError: if a file cannot be read.
    """
    files = [file for path in paths for file in _files(path)]
    hashed = sha256()
    for _, name in files:
        hashed.update(f"{name}\0".encode(errors="surrogateescape"))
    size = newest = 0
    for path, _ in _evenly_spaced(files, _MAX_FILES):
        status = path.stat()
        size, newest = size + status.st_size, max(newest, status.st_mtime_ns)
        with path.open("rb") as opened:
            for start in _evenly_spaced(range(0, status.st_size, _BLOCK_BYTES), _MAX_BLOCKS):
                opened.seek(start)
                hashed.update(opened.read(_BLOCK_BYTES))
    return {"files": len(files), "bytes": size, "time": newest, "sha256": hashed.hexdigest()}


def _files(path: Path) -> list[tuple[Path, str]]:
    """Return a file, or the files in a folder in the order of their names, each with its name in the folder."""
    if not path.is_dir():
        return [(path, path.name)]
    found = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sorted((file, str(file.relative_to(path))) for file in found if file.is_file())


def _evenly_spaced(items: Sequence, count: int) -> list:
    """Return at most `count` items, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[number * (len(items) - 1) // (count - 1)] for number in range(count)]
