"""Configuration files and `key=value` arguments, read at the edge into data classes."""

import difflib
from dataclasses import is_dataclass
from pathlib import Path
from typing import TypeVar, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from showo_turbo.errors import InputError

T = TypeVar("T")


def read_config(cls: type[T], arguments: list[str]) -> T:
    """Merge defaults, the YAML file of a `config=FILE` argument, and the other `key=value` arguments, in this order.

    The value of an argument is a number, true, false, null, or a list or table in brackets, as in YAML; where a text is
    expected, and in all other cases, it is the text as it was typed (null is none, where there may be none).

    Args:
        cls: a data class, nested ones allowed; keys of nested fields are written with dots, `loop.steps=100`.
        arguments: as typed.

    Raises:
        InputError: for an argument without "=", a file that is missing or no YAML of keys and values, a key that is no
            field (the nearest one is named), or a value of the wrong type.
    """
    bare = [argument for argument in arguments if "=" not in argument]
    if bare:
        raise InputError(f"argument {bare[0]!r} is not of the form key=value, such as config=FILE or seed=1")
    pairs = [argument.split("=", 1) for argument in arguments]
    layers = [_read_file(Path(value)) for key, value in pairs if key == "config"]
    layers.append(_layer([(key, _value(value, _hint(cls, key))) for key, value in pairs if key != "config"]))
    settings = OmegaConf.structured(cls, flags={"readonly": False})
    known = _keys(OmegaConf.to_container(settings))
    for layer in layers:
        _refuse_unknown(_keys(OmegaConf.to_container(layer)), known)
    try:
        return OmegaConf.to_object(OmegaConf.merge(settings, *layers))
    except OmegaConfBaseException as error:
        raise InputError(f"setting {error.full_key}: {_first_line(error)}") from error


def _layer(pairs: list[tuple[str, object]]) -> DictConfig:
    layer = OmegaConf.create()
    for key, value in pairs:
        try:
            OmegaConf.update(layer, key, value.replace("${", "\\${") if isinstance(value, str) else value)
        except OmegaConfBaseException as error:
            raise InputError(f"argument {key!r} cannot be set: {_first_line(error)}") from error
    return layer


def _hint(cls: type, key: str) -> object:
    """The annotation of a field, whose key is written with dots; None if there is no such field."""
    hint: object = cls
    for name in key.split("."):
        hint = get_type_hints(hint).get(name) if is_dataclass(hint) else None
    return hint


def _value(text: str, hint: object) -> object:
    """What an argument's value means; see `read_config`."""
    if hint in (str, str | None):
        return None if text == "null" and hint is not str else text
    try:
        parsed = yaml.safe_load(text)
    except (YAMLError, ValueError) as error:
        if text[:1] in ("[", "{"):
            raise InputError(f"argument value {text!r} cannot be read: {_first_line(error)}") from error
        return text
    in_brackets = text[:1] in ("[", "{") and isinstance(parsed, list | dict)
    return parsed if in_brackets or parsed is None or isinstance(parsed, bool | int | float) else text


def _read_file(path: Path) -> DictConfig:
    try:
        loaded = OmegaConf.load(path)
    except OSError as error:  # of OmegaConf's own, for a file that holds one number, say, too
        raise InputError(f"config file {str(path)!r} cannot be read ({error.strerror or error})") from error
    except (YAMLError, ValueError, OmegaConfBaseException) as error:
        raise InputError(f"config file {str(path)!r} is not YAML: {_first_line(error)}") from error
    if not OmegaConf.is_dict(loaded):
        raise InputError(f"config file {str(path)!r} holds no keys: write `key: value` lines")
    return loaded


def _keys(values: dict, prefix: str = "") -> set[str]:
    keys = set()
    for key, value in values.items():
        keys |= _keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"}
    return keys


def _refuse_unknown(given: set[str], known: set[str]) -> None:
    for key in sorted(given - known):
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
        raise InputError(f"unknown setting {key!r}; the nearest known one is {near[0]!r}")


def _first_line(error: Exception) -> str:
    """What is wrong, and where, if it is YAML that is."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem or error.context}"
    return str(error).strip().splitlines()[0]
