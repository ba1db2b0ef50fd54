"""Held-out prompts in GenEval's format (arXiv 2310.11513), one JSON object per line.

`tag`, `include` (class, count, color, position), `exclude` and `prompt` have their meaning in GenEval. Three keys are
ours, for prompts that specify more: `place` of an included object, `background` of the image, and `total`, the number
of its objects. `scripts/make_scene_benchmark.py` makes the shipped files.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from showo_turbo.errors import InputError, one_line
from showo_turbo.files import parse_json, read_text
from showo_turbo.scenes.scene import QUARTERS, RELATIONS
from showo_turbo.scenes.shapes.shape_world import SHAPES
from showo_turbo.scenes.world import World
from showo_turbo.validation import shown

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
_KEYS = {"tag", "include", "exclude", "background", "total", "prompt"}


@dataclass(frozen=True)
class ScenePrompt:
    """Hold a prompt with the requirements on its image.

    Attributes:
        tag: GenEval category.
        include: required items with `class`, `count` and optionally `color`, `place`, `position: [relation, index]`.
        exclude: items with `class` and `count`: an image with this number of the class, or more, is wrong.
        background: required background, if any.
        total: required number of objects in the image, if any.
        prompt: the text.
    """

    tag: str
    include: tuple[dict, ...]
    prompt: str
    exclude: tuple[dict, ...] = ()
    background: str | None = None
    total: int | None = None

    def to_json(self) -> str:
        """Return a line of the JSONL file, without empty values."""
        values: dict[str, object] = {"tag": self.tag, "include": self.include, "exclude": self.exclude}
        values |= {"background": self.background, "total": self.total}
        return json.dumps({key: value for key, value in values.items() if value} | {"prompt": self.prompt})


def benchmark_prompts(path: Path | None = None, world: World = SHAPES) -> list[ScenePrompt]:
    """Read the shipped held-out prompts of a world, or those of another file in the same format.

    Raises:
        InputError: if the file cannot be read, has no line, or a line is not a valid prompt.
    """
    source = path or world.benchmark
    try:
        lines = read_text(source, "utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"prompt file {str(source)!r} cannot be read ({reason})") from error
    prompts = [_parse(line, f"{source}, line {number}", world) for number, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise InputError(f"prompt file {str(source)!r} holds no prompts: give a line for each")
    return prompts


def _parse(line: str, where: str, world: World) -> ScenePrompt:
    try:
        values = parse_json(line)
    except ValueError as error:
        raise InputError(f"{where}: not a GenEval prompt ({error})") from error
    try:
        if not isinstance(values, dict):
            raise TypeError(f"it is a {type(values).__name__}")
        if unknown := set(values) - _KEYS:
            raise InputError(f"{where}: unknown key {one_line(', '.join(sorted(unknown)))}")
        for key in ("include", "exclude"):
            values[key] = tuple(values.get(key, ()))
        prompt = ScenePrompt(**values)
        error_text = _find_error(prompt, world)
    except TypeError as error:
        raise InputError(f"{where}: not a GenEval prompt ({error})") from error
    if error_text:
        raise InputError(f"{where}: {error_text}")
    return prompt


def _find_error(prompt: ScenePrompt, world: World) -> str | None:
    """Return an error message if a world does not have what a prompt requires."""
    if not isinstance(prompt.prompt, str) or not prompt.prompt.strip():
        return f"prompt is {shown(prompt.prompt)}: expected a text"
    to_check: list[tuple[str, object, Sequence[object]]] = [
        ("tag", prompt.tag, TAGS),
        ("background", prompt.background, (None, *world.backgrounds)),
        ("total", prompt.total, (None, *range(1, len(QUARTERS) + 1))),
    ]
    for item in (*prompt.include, *prompt.exclude):
        if not isinstance(item, dict) or type(item.get("count")) is not int or item["count"] < 1:
            return f"{shown(item)} is no item with a class and a count of 1 or more"
        to_check.append(("class", item.get("class"), world.language.nouns))
        known_values = (("color", world.language.colors), ("place", world.places))
        to_check += [(key, item[key], known) for key, known in known_values if key in item]
        if "position" in item:
            if not isinstance(item["position"], list) or len(item["position"]) != 2:
                return f"position is {shown(item['position'])}: expected a relation and the index of another item"
            relation, other = item["position"]
            to_check += [("relation", relation, RELATIONS), ("index", other, tuple(range(len(prompt.include))))]
    for name, value, known in to_check:
        if value not in known:
            return f"{name} is {shown(value)}; the built-in world has {', '.join(map(str, known))}"
    return None
