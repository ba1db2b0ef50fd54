"""Sources on the command line.

image_folder:photos/captions.jsonl                  KIND:PATH
llava:mix.json,images=llava_images,weight=2         KIND:PATH,OPTION=VALUE,..
runs/mine.yaml, config=runs/mine.yaml               captions, dialogues, texts and edits of a training's configuration
"""

import json
from collections.abc import Sequence
from pathlib import Path

from showo_turbo.config_reader import read_config, read_config_file
from showo_turbo.data.samples import Sample
from showo_turbo.data.source_config import KINDS, SourceConfig, check_sources
from showo_turbo.errors import InputError

_YAML = (".yaml", ".yml")


def read_sources(arguments: Sequence[str]) -> dict[type[Sample], list[SourceConfig]]:
    """Return the sources of command-line arguments by the class of their samples, checked.

    Raises:
        InputError: if an argument is not of a form above, or as `check_sources`.
    """
    found: list[SourceConfig] = []
    for argument in (one.removeprefix("config=") for one in arguments):
        is_file = Path(argument).suffix in _YAML and argument.partition(":")[0] not in KINDS
        found += _of_file(Path(argument)) if is_file else [_of_argument(argument)]
    if not found:
        raise InputError("there are no sources: give KIND:PATH, or the YAML file of a training")
    by_class: dict[type[Sample], list[SourceConfig]] = {}
    for config in found:
        samples = KINDS[config.kind].samples if config.kind in KINDS else next(iter(KINDS.values())).samples
        by_class.setdefault(samples, []).append(config)
    for samples, configs in by_class.items():
        check_sources(configs, samples)
    return by_class


def _of_argument(argument: str) -> SourceConfig:
    kind, colon, rest = argument.partition(":")
    path, *options = rest.split(",")
    if not colon or not kind or not path or not all("=" in option for option in options):
        raise InputError(
            f"source {argument!r} is not of the form KIND:PATH or KIND:PATH,OPTION=VALUE, such as "
            "image_folder:photos/captions.jsonl, nor a YAML file"
        )
    return read_config(SourceConfig, [f"kind={kind}", f"path={path}", *options])


def _of_file(path: Path) -> list[SourceConfig]:
    """Return the sources of a configuration; its other settings are those of a training."""
    content = read_config_file(path)
    found: list[SourceConfig] = []
    for kind in ("captions", "dialogues", "texts", "edits"):
        for number, one in enumerate(content.get(kind) or []):
            if not isinstance(one, dict):
                raise InputError(f"config file {str(path)!r}: {kind}[{number}] is not a source: write kind and path")
            found.append(read_config(SourceConfig, [f"{key}={_as_argument(value)}" for key, value in one.items()]))
    if not found:
        raise InputError(
            f"config file {str(path)!r} has no sources: write them under captions, dialogues, texts or edits"
        )
    return found


def _as_argument(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
