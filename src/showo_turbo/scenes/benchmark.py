"""The held-out prompts, in GenEval's own format (arXiv 2310.11513): one JSON object a line.

`tag`, `include` (class, count, color, position), `exclude` and `prompt` mean what they mean there. Two keys go beyond
it, since our prompts say more: `place` of an included object and `background` of the picture.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import combinations, product
from pathlib import Path

from showo_turbo.errors import InputError
from showo_turbo.scenes import split
from showo_turbo.scenes.language import NUMBERS, OPENINGS, article, background_phrase, colored, plural
from showo_turbo.scenes.scene import BACKGROUNDS, COLORS, PLACES, RELATIONS, SHAPES, SceneObject

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
PROMPTS_PER_TAG = 112
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_KEYS = {"tag", "include", "exclude", "background", "prompt"}


@dataclass(frozen=True)
class ScenePrompt:
    """One prompt with what its picture must show.

    Attributes:
        tag: GenEval category.
        include: items with `class`, `count` and, where asked for, `color`, `place`, `position: [relation, index]`.
        exclude: items with `class` and `count`: so many of a class are too many.
        background: the background asked for, if any.
        prompt: the text.
    """

    tag: str
    include: tuple[dict, ...]
    prompt: str
    exclude: tuple[dict, ...] = ()
    background: str | None = None

    def to_json(self) -> str:
        """One line of the JSONL file; what is not asked for is left out."""
        values = {"tag": self.tag, "include": self.include, "exclude": self.exclude, "background": self.background}
        return json.dumps({key: value for key, value in values.items() if value} | {"prompt": self.prompt})


def benchmark_prompts(path: Path | None = None) -> list[ScenePrompt]:
    """The shipped held-out prompts, or those of another file in the same format.

    Raises:
        InputError: when the file cannot be read, has no line, or a line is not such a prompt.
    """
    source = path or files("showo_turbo.scenes") / "benchmark.jsonl"
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"prompt file {str(source)!r} cannot be read ({reason})") from error
    prompts = [_parse(line, f"{source}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise InputError(f"prompt file {str(source)!r} holds no prompts: give a line for each")
    return prompts


def _parse(line: str, where: str) -> ScenePrompt:
    try:
        values = json.loads(line)
        if not isinstance(values, dict):
            raise TypeError(f"it is a {type(values).__name__}")
        if unknown := set(values) - _KEYS:
            raise InputError(f"{where}: unknown key {', '.join(sorted(unknown))}")
        for key in ("include", "exclude"):
            values[key] = tuple(values.get(key, ()))
        prompt = ScenePrompt(**values)
    except (json.JSONDecodeError, TypeError) as error:
        raise InputError(f"{where}: not a GenEval prompt ({error})") from error
    if problem := _problem(prompt):
        raise InputError(f"{where}: {problem}")
    return prompt


def _problem(prompt: ScenePrompt) -> str | None:
    """What of a prompt the built-in world does not know."""
    if not isinstance(prompt.prompt, str) or not prompt.prompt.strip():
        return f"prompt is {prompt.prompt!r}: expected a text"
    wrong = [("tag", prompt.tag, TAGS), ("background", prompt.background, (None, *BACKGROUNDS))]
    for item in (*prompt.include, *prompt.exclude):
        if not isinstance(item, dict) or type(item.get("count")) is not int or item["count"] < 1:
            return f"{item!r} is no item with a class and a count of 1 or more"
        wrong.append(("class", item.get("class"), SHAPES))
        wrong += [(key, item[key], known) for key, known in (("color", COLORS), ("place", PLACES)) if key in item]
        if "position" in item:
            if not isinstance(item["position"], list) or len(item["position"]) != 2:
                return f"position is {item['position']!r}: expected a relation and the index of another item"
            relation, other = item["position"]
            wrong += [("relation", relation, RELATIONS), ("index", other, tuple(range(len(prompt.include))))]
    for name, value, known in wrong:
        if value not in known:
            return f"{name} is {value!r}; the built-in world has {', '.join(map(str, known))}"
    return None


def make_benchmark(seed: int = 0) -> list[ScenePrompt]:
    """Draw the benchmark anew from what the split keeps out: up to 112 different prompts a category."""
    chosen = []
    for makers in (_single_object, _two_object, _counting, _colors, _position, _color_attr):
        prompts = list(makers())
        chosen += random.Random(seed).sample(prompts, min(PROMPTS_PER_TAG, len(prompts)))
    return chosen


def _single_object() -> Iterator[ScenePrompt]:
    for shape, place, background, opening in product(SHAPES, range(4), BACKGROUNDS, OPENINGS):
        thing = SceneObject(place, shape, COLORS[0])
        if split.is_held_out(split.single_object(thing, background)):
            include = ({"class": shape, "count": 1, "place": PLACES[place]},)
            text = f"{opening}{article(shape)} in the {PLACES[place]}{background_phrase(background)}"
            yield ScenePrompt("single_object", include, text, background=background)


def _two_object() -> Iterator[ScenePrompt]:
    for first, second, background, opening in product(SHAPES, SHAPES, BACKGROUNDS, OPENINGS):
        things = (SceneObject(0, first, COLORS[0]), SceneObject(1, second, COLORS[0]))
        if first != second and split.is_held_out(split.two_object(things, background)):
            include = ({"class": first, "count": 1}, {"class": second, "count": 1})
            text = f"{opening}{article(first)} and {article(second)}{background_phrase(background)}"
            yield ScenePrompt("two_object", include, text, background=background)


def _counting() -> Iterator[ScenePrompt]:
    for count, shape, background, color, opening in product(
        range(2, 5), SHAPES, BACKGROUNDS, (None, *COLORS), OPENINGS
    ):
        if split.is_held_out(split.counting(count, shape, background)):
            item = {"class": shape, "count": count} | ({"color": color} if color else {})
            name = plural(f"{color} {shape}" if color else shape)
            text = f"{opening}{NUMBERS[count]} {name}{background_phrase(background)}"
            exclude = ({"class": shape, "count": count + 1},)
            yield ScenePrompt("counting", (item,), text, exclude, background)


def _colors() -> Iterator[ScenePrompt]:
    for color, shape, place, opening in product(COLORS, SHAPES, range(4), OPENINGS):
        thing = SceneObject(place, shape, color)
        if split.is_held_out(split.colors(thing)):
            include = ({"class": shape, "count": 1, "color": color, "place": PLACES[place]},)
            yield ScenePrompt("colors", include, f"{opening}{colored(thing)} in the {PLACES[place]}")


def _position() -> Iterator[ScenePrompt]:
    for first, second, relation, background, opening in product(
        SHAPES, SHAPES, RELATIONS, (None, *BACKGROUNDS), OPENINGS
    ):
        a, b = SceneObject(0, first, COLORS[0]), SceneObject(1, second, COLORS[0])
        if relation in ("left of", "above"):
            asked = split.position(a, b, relation)
        else:
            asked = split.position(b, a, _OPPOSITE[relation])
        if first != second and split.is_held_out(asked):
            include = ({"class": second, "count": 1}, {"class": first, "count": 1, "position": [relation, 0]})
            text = f"{opening}{article(first)} {relation} {article(second)}{background_phrase(background)}"
            yield ScenePrompt("position", include, text, background=background)


def _color_attr() -> Iterator[ScenePrompt]:
    things = [SceneObject(0, shape, color) for shape, color in product(SHAPES, COLORS)]
    for pair, swap, opening in product(combinations(things, 2), (False, True), OPENINGS):
        first, second = reversed(pair) if swap else pair
        if (
            first.shape != second.shape
            and first.color != second.color
            and split.is_held_out(split.color_attr(first, second))
        ):
            include = tuple({"class": one.shape, "count": 1, "color": one.color} for one in (first, second))
            yield ScenePrompt("color_attr", include, f"{opening}{colored(first)} and {colored(second)}")
