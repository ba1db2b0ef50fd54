"""JSON objects of a file by number, without holding the file.

Only where each object lies is kept, 16 bytes an object; the object itself is read and parsed when it is asked for.

    {"images": [{..}, {..}], "annotations": [{..}, {..}, {..}]}      array of a key
    [{..}, {..}, {..}]                                               array of the whole file
    {..} \\n {..} \\n {..}                                             lines
"""

import json
import mmap
import re
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from showo_turbo.errors import InputError

# Everything up to and including the next bracket outside of strings. Possessive, so that a long string costs no stack.
_TO_NEXT_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+[\[\]{}]', re.DOTALL)
_OPENING = b"[{"


class JsonRecords:
    """The JSON objects of one file: `len(records)`, `records[index]`."""

    def __init__(self, path: Path, spans: array) -> None:
        """Keep where the objects are.

        Args:
            path: the file.
            spans: first byte and the byte after the last of each object, one after the other.
        """
        self.path = path
        self._spans = np.frombuffer(spans, dtype=np.int64).reshape(-1, 2)

    @classmethod
    def of_array(cls, path: Path, key: str | None = None) -> "JsonRecords":
        """Find the objects of a JSON array: that of a key of the file's one object, or the file itself.

        Raises:
            InputError: when the file cannot be read, has no such array, or the array holds anything but objects.
        """
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                start = _start_of_array(content, key)
                return cls(path, array("q", _spans_in_array(content, start)))
        except OSError as error:
            raise InputError(f"file {str(path)!r} cannot be read ({error.strerror})") from error
        except ValueError as error:  # also an empty file, which cannot be mapped
            wanted = f"an array {key!r} of objects" if key else "an array of objects"
            raise InputError(f"file {str(path)!r} does not hold {wanted} ({error})") from error

    @classmethod
    def of_lines(cls, path: Path) -> "JsonRecords":
        """Find the lines of a JSONL file; line n is record n - 1.

        Raises:
            InputError: when the file cannot be read.
        """
        spans, start = array("q"), 0
        try:
            with path.open("rb") as file:
                for line in file:
                    spans.extend((start, start + len(line)))
                    start += len(line)
        except OSError as error:
            raise InputError(f"file {str(path)!r} cannot be read ({error.strerror})") from error
        return cls(path, spans)

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: int) -> dict:
        """Read and parse one object.

        Raises:
            InputError: when it cannot be read or is no JSON object.
        """
        start, end = self._spans[index].tolist()
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                content = file.read(end - start)
        except OSError as error:
            raise InputError(f"file {str(self.path)!r} cannot be read ({error.strerror})") from error
        return _parse(content)

    def each(self) -> Iterator[dict | None]:
        """All objects in order, in one pass over the file; None in the place of a malformed one."""
        with self.path.open("rb") as file:
            for start, end in self._spans:
                file.seek(start)
                try:
                    yield _parse(file.read(end - start))
                except InputError:
                    yield None


def _parse(content: bytes) -> dict:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON ({error})") from error
    if not isinstance(record, dict):
        raise InputError(f"a {type(record).__name__} where a JSON object should be")
    return record


def _brackets(content: mmap.mmap, start: int) -> Iterator[tuple[int, bool]]:
    """Place of every bracket outside of strings from `start` on, and whether it opens."""
    while (match := _TO_NEXT_BRACKET.match(content, start)) is not None:
        start = match.end()
        yield start - 1, content[start - 1] in _OPENING
    raise ValueError(f"it breaks off after byte {start}")


def _start_of_array(content: mmap.mmap, key: str | None) -> int:
    if key is None:
        start = next(_brackets(content, 0))[0]
        if content[start : start + 1] != b"[":
            raise ValueError("it begins with an object")
        return start
    named = re.compile(rb'"%s"\s*:\s*\Z' % re.escape(json.dumps(key)[1:-1].encode()))
    depth, previous = 0, 0
    for place, opens in _brackets(content, 0):
        if opens and depth == 1 and content[place : place + 1] == b"[" and named.search(content[previous:place]):
            return place
        depth, previous = depth + (1 if opens else -1), place
        if depth == 0:
            break
    raise ValueError("no such key")


def _spans_in_array(content: mmap.mmap, start: int) -> Iterator[int]:
    """Begin and end of each object in the array that opens at `start`, one after the other."""
    depth, begin, previous, separator = 0, start, start + 1, b""
    for place, opens in _brackets(content, start):
        depth += 1 if opens else -1
        if opens and depth == 2:
            between = content[previous:place].strip()
            if between != separator or content[place : place + 1] != b"{":
                raise ValueError(f"something else is at byte {previous}")
            begin, separator = place, b","
        elif not opens and depth == 1:
            previous = place + 1
            yield from (begin, previous)
        elif depth == 0:
            if content[previous:place].strip():
                raise ValueError(f"something else is at byte {previous}")
            return
