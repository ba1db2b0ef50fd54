"""Strategies that damage valid files: values of JSON, bytes, headers of weights, pickles and YAML."""

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Mutation = Callable[[bytes], bytes]

NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2, 3, 7, 2**31, 2**40, 2**63, 10**6, 10**30, -(10**30)]),
    st.sampled_from([0.0, -0.0, 0.5, 1e-300, 1e9, 1e30, 1e300, float("nan"), float("inf"), -float("inf")]),
    st.integers(-10, 2**20),
    st.floats(),
)
TEXTS = st.one_of(
    st.sampled_from(["", "\0", "../..", "/dev/zero", "tiny", "a" * 10**5, "${oc.env:HOME}", "([a-z0-9_.]+)+X", "(("]),
    st.text(max_size=20),
)
VALUES = st.one_of(
    NUMBERS,
    TEXTS,
    st.sampled_from([None, True, False, [], {}, [[]], [None], {"": None}, [0] * 10**5]),
    st.lists(NUMBERS, max_size=3),
    st.dictionaries(st.text(max_size=5), NUMBERS, max_size=3),
)
WHOLE_TEXTS = st.sampled_from(
    [b"", b"[" * 10**5, b'{"a":' * 10**5, b"null", b"[]", b"{}", b"\xff\xfe", b"\0" * 100, b"1" * 10**5, b"NaN", b'"']
)


def _places(values: Any, path: tuple = ()) -> list[tuple]:
    """Return the paths of all values in parsed JSON."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path, *(place for key, value in inner for place in _places(value, (*path, key)))]


@st.composite
def json_values(draw: st.DrawFn, content: bytes) -> bytes:
    """Replace, delete or repeat values of a JSON file, or replace the whole text."""
    if draw(st.integers(0, 9)) == 0:
        return draw(WHOLE_TEXTS)
    values = json.loads(content)
    for _ in range(draw(st.integers(1, 2))):
        # Short paths first: most values of a tokenizer are in its vocabulary.
        places = sorted(_places(values)[1:], key=len)[:200]
        if not places:
            break
        *path, last = draw(st.sampled_from(places))
        parent = values
        for key in path:
            parent = parent[key]
        action = draw(st.sampled_from(["replace", "replace", "replace", "delete", "nest"]))
        if action == "delete":
            del parent[last]
        elif action == "nest":
            parent[last] = [parent[last], {"x": parent[last]}]
        else:
            parent[last] = draw(VALUES)
    return json.dumps(values).encode()


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes, start: int = 0, end: int | None = None) -> bytes:
    """Flip, insert, remove or repeat bytes, or truncate."""
    damaged = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        last = min(len(damaged), len(damaged) if end is None else end)
        position = draw(st.integers(min(start, max(last - 1, 0)), max(last - 1, 0)))
        action = draw(st.sampled_from(["flip", "flip", "set", "insert", "remove", "repeat", "truncate"]))
        if not damaged:
            break
        if action == "flip":
            damaged[position] ^= 1 << draw(st.integers(0, 7))
        elif action == "set":
            damaged[position : position + 4] = draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"]))
        elif action == "insert":
            damaged[position:position] = draw(st.binary(max_size=16))
        elif action == "remove":
            del damaged[position : position + draw(st.integers(1, 64))]
        elif action == "repeat":
            damaged[position:position] = damaged[position : position + 64]
        else:
            del damaged[position:]
    return bytes(damaged)


@st.composite
def safetensors(draw: st.DrawFn, content: bytes) -> bytes:
    """Change the header of a safetensors file, its length, or any bytes of it."""
    length = int.from_bytes(content[:8], "little")
    action = draw(st.sampled_from(["header", "header", "length", "bytes", "numbers"]))
    if action == "header":
        header = draw(json_values(content[8 : 8 + length]))
        return len(header).to_bytes(8, "little") + header + content[8 + length :]
    if action == "length":
        return draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little") + content[8:]
    if action == "numbers":
        return draw(damaged_bytes(content, 8 + length))
    return draw(damaged_bytes(content, 0, 8 + length))


@st.composite
def archives(draw: st.DrawFn, content: bytes) -> bytes:
    """Damage the pickle of a `.bin` archive under a right checksum, or any bytes of the archive."""
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged_bytes(content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as archive:
        for name, entry in entries.items():
            archive.writestr(name, draw(damaged_bytes(entry)) if name.endswith("data.pkl") else entry)
    return changed.getvalue()


@st.composite
def yaml_lines(draw: st.DrawFn, content: bytes) -> bytes:
    """Replace values of lines of a YAML file, indent or repeat lines, or damage bytes."""
    if draw(st.integers(0, 4)) == 0:
        return draw(damaged_bytes(content))
    lines = content.decode().splitlines()
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(lines) - 1))
        key, colon, _ = lines[number].partition(":")
        action = draw(st.sampled_from(["value", "value", "indent", "repeat", "deep"]))
        if action == "value" and colon:
            lines[number] = f"{key}: {json.dumps(draw(VALUES))}"
        elif action == "indent":
            lines[number] = " " * draw(st.integers(0, 8)) + lines[number].strip()
        elif action == "repeat":
            lines.insert(number, lines[number])
        else:
            lines[number] = f"{key}: {'[' * 500}"
    return "\n".join(lines).encode(errors="surrogatepass")
