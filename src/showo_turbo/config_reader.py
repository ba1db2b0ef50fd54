"""Read configuration files and `key=value` arguments into data classes."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from io import StringIO
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, cast, get_args, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from showo_turbo.errors import InputError
from showo_turbo.files import read_text
from showo_turbo.validation import shown

T = TypeVar("T")

_MAX_BYTES = 1 << 20
_MAX_NESTING = 20
_MAX_VALUES = 10_000
_RESOLVER = re.compile(r"\$\{[^}]*:")


def read_config(cls: type[T], arguments: list[str]) -> T:
    """Merge defaults, the YAML file of a `config=FILE` argument, and the other `key=value` arguments, in this order.

    The value of an argument is parsed as YAML if that gives a number, true, false, null, or a list or mapping in
    brackets; otherwise, and for fields of type `str`, it is the text itself (null is None for `str | None`). Single
    quotes around a value or an argument are removed: cmd.exe passes them on, and splits the value at its spaces.

    Args:
        cls: a data class, which may be nested; keys of nested fields have dots, `loop.steps=100`.
        arguments: command-line arguments.

    Raises:
        InputError: if an argument has no "=", a file is missing or is not a YAML mapping, a key is not a field (the
            most similar one is named), or a value has the wrong type.
    """
    arguments = _join_quoted(arguments)
    bare = [argument for argument in arguments if "=" not in argument]
    if bare:
        raise InputError(f"argument {bare[0]!r} is not of the form key=value, such as config=FILE or seed=1")
    pairs = [argument.split("=", 1) for argument in arguments]
    layers = [_read_file(Path(value)) for key, value in pairs if key == "config"]
    layers.append(_read_arguments(cls, [(key, value) for key, value in pairs if key != "config"]))
    settings = OmegaConf.structured(cls, flags={"readonly": False})
    known = _dotted_keys(cast(dict, OmegaConf.to_container(settings))) | set(_keys_of_optional(cls))
    for layer in layers:
        for key in sorted(_dotted_keys(cast(dict, OmegaConf.to_container(layer))) - known):
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise InputError(f"unknown setting {key!r}; the nearest known one is {nearest!r}")
    try:
        merged = OmegaConf.to_object(OmegaConf.merge(settings, *layers))
    except OverflowError as error:
        raise InputError(f"a setting is a number that is too large ({_first_line(error)})") from error
    except OmegaConfBaseException as error:
        setting = f"setting {error.full_key}" if error.full_key else "a section of settings"
        raise InputError(f"{setting}: {_first_line(error)}") from error
    assert isinstance(merged, cls)  # `structured` made the settings of this class
    return merged


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file, without a check of its keys.

    Raises:
        InputError: if the file is missing or is not a YAML mapping.
    """
    return cast(dict[str, Any], OmegaConf.to_container(_read_file(path)))


def _join_quoted(arguments: list[str]) -> list[str]:
    """Join arguments that are one in single quotes, `key='a`, `red`, `car'` or `'key=a`, .., and remove such quotes."""
    joined: list[str] = []
    rest = list(arguments)
    while rest:
        key, equals, value = rest.pop(0).partition("=")
        is_whole = key.startswith("'") and equals == "="
        if is_whole or value.startswith("'"):
            pieces = [f"'{value}" if is_whole else value, *rest]
            ends = (number for number, piece in enumerate(pieces) if piece.endswith("'") and (number or len(piece) > 1))
            if (end := next(ends, None)) is not None:
                key, value = key.removeprefix("'"), " ".join(pieces[: end + 1])[1:-1]
                del rest[:end]
        joined.append(key + equals + value)
    return joined


def _read_arguments(cls: type, pairs: list[tuple[str, str]]) -> DictConfig:
    layer = OmegaConf.create()
    for key, text in pairs:
        value = _parse_value(text, _annotation(cls, key))
        try:
            OmegaConf.update(layer, key, value.replace("${", "\\${") if isinstance(value, str) else value)
        except OmegaConfBaseException as error:
            raise InputError(f"argument {key!r} cannot be set: {_first_line(error)}") from error
    return layer


def _annotation(cls: type, key: str) -> object:
    """Return the annotation of a field by its dotted key, or None if there is no such field."""
    annotation: object = cls
    for name in key.split("."):
        annotation = get_type_hints(annotation).get(name) if is_dataclass(annotation) else None
    return annotation


def _parse_value(text: str, annotation: object) -> object:
    """Parse the value of an argument as `read_config` describes."""
    if annotation in (str, str | None):
        return None if text == "null" and annotation is not str else text
    try:
        _check_structure(text)
        parsed = yaml.safe_load(text)
    except (YAMLError, ValueError) as error:
        if text[:1] in ("[", "{"):
            raise InputError(f"argument value {text!r} cannot be read: {_first_line(error)}") from error
        return text
    if resolver := _find_resolver(parsed if isinstance(parsed, list | dict) else None):
        raise InputError(f"argument value {shown(text)} holds {shown(resolver)}: write the value itself")
    in_brackets = text[:1] in ("[", "{") and isinstance(parsed, list | dict)
    return parsed if in_brackets or parsed is None or isinstance(parsed, bool | int | float) else text


def _read_file(path: Path) -> DictConfig:
    try:
        text = read_text(path, max_bytes=_MAX_BYTES)
        _check_structure(text)
        loaded = OmegaConf.load(StringIO(text))
    except OSError as error:  # OmegaConf also raises it for a file that holds a single number
        raise InputError(f"config file {str(path)!r} cannot be read ({error.strerror or error})") from error
    except (YAMLError, ValueError, OmegaConfBaseException) as error:
        raise InputError(f"config file {str(path)!r} is not YAML: {_first_line(error)}") from error
    if not isinstance(loaded, DictConfig):
        raise InputError(f"config file {str(path)!r} holds no keys: write `key: value` lines")
    if resolver := _find_resolver(OmegaConf.to_container(loaded)):
        raise InputError(f"config file {str(path)!r} holds {shown(resolver)}: write the value itself")
    return loaded


def _check_structure(text: str) -> None:
    """Raise `ValueError` if a YAML text is nested too deeply, or holds too many values with its aliases replaced."""
    counts = [0]  # of values in the file, and in each open list or mapping
    open_anchors: list[str | None] = [None]
    size_of: dict[str, int] = {}
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            counts.append(0)
            open_anchors.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            size, anchor = counts.pop() + 1, open_anchors.pop()
            counts[-1] += size
            if anchor is not None:
                size_of[anchor] = size
        elif isinstance(event, yaml.ScalarEvent):
            counts[-1] += 1
            if event.anchor is not None:
                size_of[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in open_anchors:
                raise ValueError(f"*{event.anchor} is inside of what it repeats")
            counts[-1] += size_of.get(event.anchor, 0)
        if len(counts) > _MAX_NESTING + 1:
            raise ValueError(f"it is nested more than {_MAX_NESTING} levels deep")
        if sum(counts) > _MAX_VALUES:
            raise ValueError(f"it holds more than {_MAX_VALUES:,} values")


def _keys_of_optional(cls: type, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of fields that are a data class or None, which defaults do not show."""
    for name, annotation in get_type_hints(cls).items():
        if is_dataclass(annotation):
            yield from _keys_of_optional(cast(type, annotation), f"{prefix}{name}.")
        elif NoneType in get_args(annotation):
            for one in filter(is_dataclass, get_args(annotation)):
                yield from (f"{prefix}{name}.{inner.name}" for inner in fields(one))


def _find_resolver(value: object) -> str | None:
    """Return a text that OmegaConf would replace by an environment variable, or the result of another function."""
    if isinstance(value, dict | list):
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        return next((found for one in inner if (found := _find_resolver(one))), None)
    return value if isinstance(value, str) and _RESOLVER.search(value) else None


def _dotted_keys(values: dict, prefix: str = "") -> set[str]:
    keys = set()
    for key, value in values.items():
        keys |= _dotted_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"}
    return keys


def _first_line(error: Exception) -> str:
    """Return the first line of a message, with the line number for a YAML error."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem or error.context}"
    return str(error).strip().splitlines()[0]
