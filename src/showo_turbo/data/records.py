"""JSON objects of a file by number, without holding the file in memory.

    {"images": [{..}, {..}], "annotations": [{..}, {..}, {..}]}      array of a key
    [{..}, {..}, {..}]                                               array at the top level
    {..} \\n {..} \\n {..}                                             lines

Decisions:
- Only the first and the last byte of each object are stored, 16 bytes an object. An object is read and parsed when it
  is fetched.
- ijson parses the file once when it is opened. It does not report byte offsets, so it is fed pieces that end at a
  brace: an object that starts or ends with the last event of a piece starts or ends at the end of that piece.
- A converted copy (JSONL) would need no offsets, but disk space for a second file of up to gigabytes, a place for it,
  and a rule for when it is out of date.
- An array with a malformed object is refused as a whole, since a parser cannot tell where such an object ends. A
  malformed line is an error of that line only.
"""

import re
from array import array
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from showo_turbo.errors import InputError
from showo_turbo.extras import require_module
from showo_turbo.files import parse_json

_CHUNK_BYTES = 1 << 16
_UP_TO_A_BRACE = re.compile(rb"[^{}]*[{}]|[^{}]+")


class JsonRecords:
    """Read the JSON objects of one file by index: `len(records)`, `records[index]`."""

    def __init__(self, path: Path, spans: array) -> None:
        """Store the positions of the objects.

        Args:
            path: the file.
            spans: first byte and the byte after the last of each object, one after the other.
        """
        self.path = path
        self._spans = np.frombuffer(spans, dtype=np.int64).reshape(-1, 2)

    @classmethod
    def of_array(cls, path: Path, key: str | None = None) -> "JsonRecords":
        """Index the objects of a JSON array: the value of a key of the top-level object, or the top level itself.

        Raises:
            InputError: if the file cannot be read, has no such array, the array holds anything but objects, or ijson is
                not installed.
        """
        require_module("ijson", "reading JSON arrays")
        try:
            with path.open("rb") as file:
                return cls(path, array("q", _object_spans(file, key)))
        except OSError as error:
            raise InputError(f"file {str(path)!r} cannot be read ({error.strerror})") from error
        except ValueError as error:
            expected = f"an array {key!r} of objects" if key else "an array of objects"
            raise InputError(f"file {str(path)!r} does not hold {expected} ({error})") from error

    @classmethod
    def of_lines(cls, path: Path) -> "JsonRecords":
        """Index the lines of a JSONL file; line n is record n - 1.

        Raises:
            InputError: if the file cannot be read.
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
            InputError: if it cannot be read or is not a JSON object.
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
        """Yield all objects in order, in one pass over the file; None for a malformed one."""
        with self.path.open("rb") as file:
            for start, end in self._spans:
                file.seek(start)
                try:
                    yield _parse(file.read(end - start))
                except InputError:
                    yield None


def _parse(content: bytes) -> dict:
    try:
        record = parse_json(content)
    except ValueError as error:
        raise InputError(f"not JSON ({error})") from error
    if not isinstance(record, dict):
        raise InputError(f"a {type(record).__name__} where a JSON object should be")
    return record


def _object_spans(file: BinaryIO, key: str | None) -> Iterator[int]:
    """Yield the first byte and the byte after the last of each object in an array, one after the other."""
    array_prefix, object_prefix = (key, f"{key}.item") if key else ("", "item")
    in_array = False
    for events, end in _parse_pieces(file):
        for prefix, event, _ in events:
            if prefix == object_prefix and in_array and event != "map_key":
                if event not in ("start_map", "end_map"):
                    raise ValueError(f"an element is not an object, near byte {end}")
                yield end - 1 if event == "start_map" else end
            elif prefix == array_prefix and event == "start_array":
                in_array = True
            elif prefix == array_prefix and event == "end_array":
                return
    raise ValueError("there is no such array")


def _parse_pieces(file: BinaryIO) -> Iterator[tuple[list[tuple[str, str, Any]], int]]:
    """Yield ijson's (prefix, event, value) of each piece of a file, and the byte after the piece."""
    import ijson

    events = ijson.sendable_list()
    parser = ijson.parse_coro(events)
    end = file.seek(len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0)
    try:
        while chunk := file.read(_CHUNK_BYTES):
            for piece in _UP_TO_A_BRACE.findall(chunk):
                parser.send(piece)
                end += len(piece)
                if events:
                    yield events, end
                    events.clear()
        parser.close()
    except ijson.JSONError as error:
        raise ValueError(f"{str(error).splitlines()[0].rstrip('.')}, near byte {end}") from error
    finally:
        with suppress(ijson.JSONError):  # ijson's pure Python backend warns of a parser that is left open
            parser.close()
