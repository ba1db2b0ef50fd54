"""WebDataset shards: tar files in which the members of a sample share their name up to the first dot.

    000.tar   lake.jpg lake.txt   hill.png hill.json   ..       a `.txt` is the caption; a `.json` has it as `caption`

A tar is a chain of headers, each followed by the content of its member. Only the offsets of the headers are stored, and
a sample is read by seeking to its headers. So shards must not be compressed (images in them are compressed already).
"""

import os
import tarfile
from collections.abc import Iterator
from io import BytesIO, FileIO
from pathlib import Path

import numpy as np

from showo_turbo.data.samples import CaptionSample, bad_sample_errors
from showo_turbo.data.source_files import matching_files
from showo_turbo.data.sources.source import read_caption
from showo_turbo.errors import InputError, one_line
from showo_turbo.files import parse_json
from showo_turbo.processing.image_files import MAX_FILE_BYTES, load_image

_IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm")
_PARTS = {"txt": 0, "json": 1} | dict.fromkeys(_IMAGE_ENDINGS, 2)
_ABSENT = -1
_DAMAGES = (OSError, tarfile.TarError, ValueError, LookupError, ArithmeticError, TypeError, RecursionError, EOFError)
"""Exceptions of `tarfile` for damaged headers."""


class WebDataset:
    """Read captioned images from any number of shards; a sample without an image is a caption alone."""

    def __init__(self, path: str | Path) -> None:
        """Index the samples in one pass over the headers of each shard.

        Args:
            path: tar file, or a pattern of tar files.

        Raises:
            InputError: if there is no file, or a file is not a complete, uncompressed tar.
        """
        self.shards = matching_files(path)
        tables = [_header_offsets(shard) for shard in self.shards]
        self._offsets = np.concatenate(tables)
        self._shard_of = np.repeat(np.arange(len(tables)), [len(table) for table in tables])

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> CaptionSample:
        shard = self.shards[self._shard_of[index]]
        offsets = self._offsets[index].tolist()
        present = [offset for offset in offsets if offset != _ABSENT]
        with bad_sample_errors(f"{shard.name}: sample {index}"):
            members = {offset: _read_member(shard, offset) for offset in present}
        name = _sample_and_ending(members[present[0]][0])[0]
        key = f"{shard.name}: {name}"
        with bad_sample_errors(key):
            txt, record, image = (members[offset][1] if offset != _ABSENT else None for offset in offsets)
            text = _caption(txt, record)
            return CaptionSample(key, text, None if image is None else load_image(BytesIO(image)))


def _header_offsets(shard: Path) -> np.ndarray:
    """Return the header offsets of caption text, JSON and image, int64 (num_samples, 3); -1 for a missing member."""
    samples: dict[str, list[int]] = {}
    for member in _members(shard):
        name, ending = _sample_and_ending(member.name)
        if member.isfile() and ending in _PARTS:
            samples.setdefault(name, [_ABSENT] * 3)[_PARTS[ending]] = member.offset
    return np.array(list(samples.values()), dtype=np.int64).reshape(-1, 3)


def _members(shard: Path) -> Iterator[tarfile.TarInfo]:
    try:
        with _BoundedFile(shard) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            yield from archive
    except _DAMAGES as error:
        raise InputError(f"file {str(shard)!r} is not a complete, uncompressed tar ({one_line(error)})") from error


def _sample_and_ending(name: str) -> tuple[str, str]:
    """Split a member name at the first dot: `a/b.c.jpg` -> `a/b`, `c.jpg`."""
    folder, slash, file = name.rpartition("/")
    stem, _, ending = file.partition(".")
    return folder + slash + stem, ending.lower()


def _read_member(shard: Path, offset: int) -> tuple[str, bytes]:
    """Return name and content of the member whose header is at an offset."""
    try:
        with _BoundedFile(shard) as file:
            file.seek(offset)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                member = archive.next()
                if member is not None and member.issparse():
                    raise tarfile.ReadError(f"{member.name!r} is a sparse file: pack it with its zeros")
                content = None if member is None else archive.extractfile(member)
                if member is None or content is None:
                    raise tarfile.ReadError("no file is at its offset")
                if member.size > MAX_FILE_BYTES:
                    raise tarfile.ReadError(f"{member.name!r} has {member.size:,} bytes, at most {MAX_FILE_BYTES:,}")
                return member.name, content.read()
    except _DAMAGES as error:
        raise InputError(f"member cannot be read ({one_line(error)})") from error


class _BoundedFile(FileIO):
    """Read a file without memory for more bytes than it has: headers may declare members of any size."""

    def read(self, size: int | None = -1) -> bytes:
        """Read at most `size` bytes, and at most those of the largest member."""
        left = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        return super().read(min(left if size is None or size < 0 else size, left, MAX_FILE_BYTES))


def _caption(txt: bytes | None, record: bytes | None) -> str:
    """Return the caption from the text member of a sample or, if there is none, from its JSON member."""
    try:
        fields = {"caption": txt.decode()} if txt is not None else parse_json(record or b"{}")
    except ValueError as error:
        raise InputError(f"caption cannot be read ({error})") from error
    if not isinstance(fields, dict):
        raise InputError("JSON member is not an object")
    return read_caption(fields, "caption", "text")
