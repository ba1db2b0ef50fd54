"""Manifests: the settings of a folder's files, stored beside them, so that no run resumes with other settings."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from showo_turbo.errors import InputError
from showo_turbo.files import read_json, write_json

logger = logging.getLogger(__name__)


def check_or_write_manifest(
    path: Path, settings: dict[str, Any], content: str, started: bool, data: dict[str, Any] | None = None
) -> None:
    """Check that a folder's manifest has these settings, or write it if the folder has no content yet.

    Processes that share the folder may all do so.

    Args:
        path: the manifest; its folder is created if it is missing.
        settings: everything that determines the content of the folder, as JSON values; dicts may be nested.
        content: name of the content, for the error message.
        started: whether the folder has content; the manifest of an empty folder is overwritten.
        data: digests by name of the data that the content is made of; a change is logged as a warning.

    Raises:
        InputError: if the manifest has other settings; names the key with its old and new value.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = data or {}
    new = json.loads(json.dumps(settings | ({"data": data} if data else {})))
    if started and not path.exists():
        logger.warning("%s lacks %s: %s in it is assumed to have the current settings", path.parent, path.name, content)
    if not started or not path.exists():
        write_json(path, new)
    old = read_json(path)
    old_data = old.pop("data", {})  # manifests of earlier versions have none
    new.pop("data", None)
    for key, old_value, new_value in _differences(old, new):
        raise InputError(
            f"{content} in {str(path.parent)!r} has another {key} ({old_value}, now {new_value}): choose another "
            "folder, or remove this one"
        )
    for name in data:
        changes = [key for key, value in data[name].items() if name in old_data and old_data[name].get(key) != value]
        if changes:
            logger.warning(
                "%r has changed since %s in %r was started (%s): it continues with the data of now",
                name,
                content,
                str(path.parent),
                ", ".join(changes),
            )


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, old value, new value) of every difference; keys of nested dicts are joined by dots.

    A setting that the version of the manifest did not have is off by default, so only a value that turns it on differs.
    """
    for key in dict.fromkeys([*new, *old]):
        old_value, new_value = old.get(key), new.get(key)
        if isinstance(old_value, dict) and isinstance(new_value, dict):
            yield from _differences(old_value, new_value, f"{prefix}{key}.")
        elif _are_dicts(old_value) and _are_dicts(new_value) and len(old_value) == len(new_value):
            for number, (old_item, new_item) in enumerate(zip(old_value, new_value, strict=True)):
                yield from _differences(old_item, new_item, f"{prefix}{key}.{number}.")
        elif old_value != new_value and (key in old or new_value):
            yield f"{prefix}{key}", old_value, new_value


def _are_dicts(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
