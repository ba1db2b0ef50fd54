"""Make `src/showo_turbo/scenes/benchmark.jsonl` from the combinations that the split holds out of training."""

import random
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path

from showo_turbo.scenes import split
from showo_turbo.scenes.benchmark import ScenePrompt
from showo_turbo.scenes.language import NUMBERS, OPENINGS, article, background_phrase, colored, plural
from showo_turbo.scenes.scene import BACKGROUNDS, COLORS, PLACES, RELATIONS, SHAPES, SceneObject

OUTPUT = Path(__file__).parents[1] / "src" / "showo_turbo" / "scenes" / "benchmark.jsonl"
PROMPTS_PER_TAG = 112
OPPOSITE_RELATION = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
ANY_COLOR = COLORS[0]
"""Color of the objects of a combination in which the color does not matter."""


def make_benchmark(seed: int = 0) -> list[ScenePrompt]:
    """Draw prompts for held-out combinations, at most PROMPTS_PER_TAG different ones of each category."""
    chosen = []
    for makers in (_single_object, _two_object, _counting, _colors, _position, _color_attr):
        prompts = list(makers())
        chosen += random.Random(seed).sample(prompts, min(PROMPTS_PER_TAG, len(prompts)))
    return chosen


def _single_object() -> Iterator[ScenePrompt]:
    for shape, place, background, opening in product(SHAPES, range(4), BACKGROUNDS, OPENINGS):
        thing = SceneObject(place, shape, ANY_COLOR)
        if split.is_held_out(split.single_object(thing, background)):
            include = ({"class": shape, "count": 1, "place": PLACES[place]},)
            text = f"{opening}{article(shape)} in the {PLACES[place]}{background_phrase(background)}"
            yield ScenePrompt("single_object", include, text, background=background)


def _two_object() -> Iterator[ScenePrompt]:
    for first, second, background, opening in product(SHAPES, SHAPES, BACKGROUNDS, OPENINGS):
        things = (SceneObject(0, first, ANY_COLOR), SceneObject(1, second, ANY_COLOR))
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
        a, b = SceneObject(0, first, ANY_COLOR), SceneObject(1, second, ANY_COLOR)
        if relation in ("left of", "above"):
            combination = split.position(a, b, relation)
        else:
            combination = split.position(b, a, OPPOSITE_RELATION[relation])
        if first != second and split.is_held_out(combination):
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
            include = tuple({"class": thing.shape, "count": 1, "color": thing.color} for thing in (first, second))
            yield ScenePrompt("color_attr", include, f"{opening}{colored(first)} and {colored(second)}")


if __name__ == "__main__":
    OUTPUT.write_text("".join(prompt.to_json() + "\n" for prompt in make_benchmark()))
