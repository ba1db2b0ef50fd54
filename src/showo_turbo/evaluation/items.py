"""Items of a benchmark, the prompts or questions of its official data file, and readers that name file and line."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from showo_turbo.errors import InputError, one_line
from showo_turbo.files import check_plain_file, parse_json, sha256_of_files
from showo_turbo.validation import shown

_LONGEST_NAME = 1000

MAX_DATA_BYTES = 1 << 30
"""Size of the largest data file."""


class StoredImage(Protocol):
    """Image inside of a data file, read when it is needed."""

    def read(self) -> bytes:
        """Return the content of the image file."""


@dataclass(frozen=True)
class Item:
    """Hold a prompt or a question.

    Attributes:
        id: unique in the benchmark; seeds and file names derive from it.
        text: the prompt or question.
        where: file and line, for error messages.
        record: the values of the official file that scoring needs.
        image: image that the question is about.
    """

    id: str
    text: str
    where: str
    record: Mapping[str, Any] = field(default_factory=dict)
    image: "Path | StoredImage | None" = None

    def seed(self, seed: int, number: int = 0) -> int:
        """Return the seed of an image or answer of this item, whatever the other items are.

        Args:
            seed: seed of the run.
            number: of the image.
        """
        digest = sha256(f"{seed}/{self.id}/{number}".encode()).digest()
        return int.from_bytes(digest[:8]) >> 1

    def open_image(self) -> Path | BytesIO:
        """Return the image as `open_image` of `processing.image_files` takes it."""
        assert self.image is not None
        return self.image if isinstance(self.image, Path) else BytesIO(self.image.read())


@dataclass(frozen=True)
class BenchmarkData:
    """Hold the items of a benchmark.

    Attributes:
        items: in the order of the official file.
        files: the files that they were read from, images aside.
    """

    items: Sequence[Item]
    files: Sequence[Path]

    def sha256(self) -> str:
        """Return the hexadecimal SHA-256 of the concatenated files."""
        return sha256_of_files(*self.files)

    def check(self) -> None:
        """Check that there are items, each with an id of its own, and that their image files exist.

        Raises:
            InputError: naming the file and line of the first item that is wrong.
        """
        if not self.items:
            raise InputError(f"{str(self.files[0])!r} holds nothing to evaluate: expected at least one item")
        seen: dict[str, str] = {}
        for item in self.items:
            if item.id in seen:
                raise InputError(f"{item.where}: {shown(item.id)} is there twice, first in {seen[item.id]}")
            seen[item.id] = item.where
            if isinstance(item.image, Path) and not os.path.isfile(item.image):  # also for impossible names
                raise InputError(f"{item.where}: image {str(item.image)!r} does not exist: give its folder as --images")


def read_data(path: Path) -> bytes:
    """Return the content of a data file.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        check_plain_file(path, MAX_DATA_BYTES)
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise InputError(f"data file {str(path)!r} cannot be read ({error.strerror})") from error


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (where, line) of the lines of a text file that are not empty.

    Raises:
        InputError: if it cannot be read, or is not UTF-8.
    """
    for number, line in enumerate(read_data(path).splitlines(), 1):
        where = f"{str(path)!r}, line {number}"
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            raise InputError(f"{where} is not UTF-8 text: save the file as such") from None
        if text:
            yield where, text


def read_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, object) of the lines of a JSONL file.

    Raises:
        InputError: if the file cannot be read, or a line is not a JSON object.
    """
    for where, line in read_lines(path):
        try:
            values = parse_json(line)
        except ValueError as error:
            raise InputError(f"{where} is not JSON ({one_line(error)}): expected one object on each line") from error
        if not isinstance(values, dict):
            raise InputError(f"{where} is {shown(values)}: expected an object")
        yield where, values


def read_json_data(path: Path) -> Any:
    """Return the value of a JSON file.

    Raises:
        InputError: if it cannot be read, or is not JSON; the reason has the line.
    """
    try:
        return parse_json(read_data(path))
    except ValueError as error:
        raise InputError(f"data file {str(path)!r} is not JSON ({one_line(error)})") from error


def numbered(values: Any, path: Path, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, object) of an array of objects that a JSON file holds under a key.

    Raises:
        InputError: if there is no such array, or it holds anything but objects.
    """
    array = values.get(key) if isinstance(values, dict) else None
    if not isinstance(array, list):
        raise InputError(f"data file {str(path)!r} has no array {key!r}: give the file in its official format")
    for number, value in enumerate(array):
        where = f"{str(path)!r}, {key}[{number}]"
        if not isinstance(value, dict):
            raise InputError(f"{where} is {shown(value)}: expected an object")
        yield where, value


def get(record: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    """Return a value of a record.

    Args:
        record: an object of the data file.
        key: name of the value.
        kind: type that it must have; a text must not be empty.
        where: file and line of the record.

    Raises:
        InputError: if it is missing or has another type.
    """
    value = record.get(key)
    if type(value) is not kind or value == "":
        names = {str: "a text", int: "a whole number", bool: "true or false", list: "an array"}
        found = f"{key} is {shown(value)}" if key in record else f"{key} is missing"
        raise InputError(f"{where}: {found}: expected {names[kind]}")
    return value


def get_all(record: Mapping[str, Any], key: str, kinds: type | tuple[type, ...], where: str) -> list[Any]:
    """Return an array of a record whose elements all have one of several types.

    Raises:
        InputError: if it is missing, is no array, or an element has another type.
    """
    values = get(record, key, list, where)
    for value in values:
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise InputError(f"{where}: {key} holds {shown(value)}: give the file in its official format")
    return values


def get_choice(record: Mapping[str, Any], key: str, choices: Sequence[str], where: str) -> str:
    """Return a text of a record that is one of several.

    Raises:
        InputError: if it is another one.
    """
    value = record.get(key)
    if value not in choices:
        found = f"{key} is {shown(value)}" if key in record else f"{key} is missing"
        raise InputError(f"{where}: {found}: expected {', '.join(choices)}")
    return str(value)


def image_in(images: Path | None, name: str, where: str) -> Path:
    """Return the path of an image of the data file.

    Raises:
        InputError: if its folder is not given, or the name leads out of it.
    """
    if images is None:
        raise InputError(f"{where} is about image {shown(name)}: give the folder of the images as --images")
    if Path(name).is_absolute() or ".." in Path(name).parts or len(name) > _LONGEST_NAME:
        raise InputError(f"{where}: image is {shown(name)}: expected a name within --images")
    return images / name
