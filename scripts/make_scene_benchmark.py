"""Make the benchmark files of the built-in worlds from the combinations that their splits hold out of training.

Where choices are made by a score, they are made on the validation prompts, which this script prints for a world that
has them: `make_scene_benchmark.py clipart validation > FILE`.
"""

import random
import sys
from collections.abc import Iterator
from itertools import combinations, product

from showo_turbo.scenes import split
from showo_turbo.scenes.benchmark import ScenePrompt
from showo_turbo.scenes.language import NUMBERS, OPENINGS, article, plural
from showo_turbo.scenes.scene import PLACES, QUARTERS, RELATIONS, SceneObject
from showo_turbo.scenes.world import World
from showo_turbo.scenes.worlds import WORLDS, find_world

PROMPTS_PER_TAG = 112
OPPOSITE_RELATION = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def make_benchmark(world: World, subset: str = "test", seed: int = 0) -> list[ScenePrompt]:
    """Draw prompts for combinations of a subset, at most PROMPTS_PER_TAG different ones of each category."""
    maker, chosen = _PromptMaker(world, subset), []
    for prompts in (
        maker.single_object(),
        maker.two_object(),
        maker.counting(),
        maker.colors(),
        maker.position(),
        maker.color_attr(),
    ):
        candidates = list(prompts)
        chosen += random.Random(seed).sample(candidates, min(PROMPTS_PER_TAG, len(candidates)))
    return chosen


class _PromptMaker:
    """Make all prompts of a category for combinations of a subset."""

    def __init__(self, world: World, subset: str) -> None:
        self.world, self.subset, self.language = world, subset, world.language
        self.nouns = self.language.nouns
        self.named_backgrounds = world.backgrounds if len(world.backgrounds) > 1 else ()

    def single_object(self) -> Iterator[ScenePrompt]:
        for noun, place, background, opening in product(self.nouns, range(4), self.world.backgrounds, OPENINGS):
            if self._chosen(split.single_object(_thing(noun, place), background)):
                include = ({"class": noun, "count": 1, "place": PLACES[place]},)
                text = f"{opening}{article(noun)} in the {PLACES[place]}"
                yield self._prompt("single_object", include, text, 1, background=background)

    def two_object(self) -> Iterator[ScenePrompt]:
        for first, second, background, opening in product(self.nouns, self.nouns, self.world.backgrounds, OPENINGS):
            if first != second and self._chosen(split.two_object((_thing(first), _thing(second)), background)):
                include = ({"class": first, "count": 1}, {"class": second, "count": 1})
                text = f"{opening}{article(first)} and {article(second)}"
                yield self._prompt("two_object", include, text, 2, background=background)

    def counting(self) -> Iterator[ScenePrompt]:
        for count, noun, background, color, opening in product(
            range(2, len(QUARTERS) + 1), self.nouns, self.world.backgrounds, (None, *self.language.colors), OPENINGS
        ):
            exists = color is None or (noun, color) in self.world.looks
            if exists and self._chosen(split.counting(count, noun, background)):
                item = {"class": noun, "count": count} | ({"color": color} if color else {})
                text = f"{opening}{NUMBERS[count]} {plural(f'{color} {noun}' if color else noun)}"
                exclude = ({"class": noun, "count": count + 1},)
                yield self._prompt("counting", (item,), text, count, exclude=exclude, background=background)

    def colors(self) -> Iterator[ScenePrompt]:
        colors = product(self.language.colors, self.nouns, range(4), OPENINGS)
        for color, noun, place, opening in colors:
            thing = _thing(noun, place, color)
            if (noun, color) in self.world.looks and self._chosen(split.colors(thing)):
                include = ({"class": noun, "count": 1, "color": color, "place": PLACES[place]},)
                yield self._prompt("colors", include, f"{opening}{article(thing.name)} in the {PLACES[place]}", 1)

    def position(self) -> Iterator[ScenePrompt]:
        for first, second, relation, background, opening in product(
            self.nouns, self.nouns, RELATIONS, (None, *self.named_backgrounds), OPENINGS
        ):
            a, b = _thing(first), _thing(second)
            if relation in ("left of", "above"):
                combination = split.position(a, b, relation)
            else:
                combination = split.position(b, a, OPPOSITE_RELATION[relation])
            if first != second and self._chosen(combination):
                include = ({"class": second, "count": 1}, {"class": first, "count": 1, "position": [relation, 0]})
                text = f"{opening}{article(first)} {relation} {article(second)}"
                yield self._prompt("position", include, text, 2, background=background)

    def color_attr(self) -> Iterator[ScenePrompt]:
        things = [_thing(noun, color=color) for noun, color in self.world.looks]
        for pair, swap, opening in product(combinations(things, 2), (False, True), OPENINGS):
            first, second = reversed(pair) if swap else pair
            if split.differ_in_noun_and_color(first, second) and self._chosen(split.color_attr((first, second))):
                include = tuple({"class": thing.noun, "count": 1, "color": thing.color} for thing in (first, second))
                text = f"{opening}{article(first.name)} and {article(second.name)}"
                yield self._prompt("color_attr", include, text, 2)

    def _chosen(self, combination: split.Combination) -> bool:
        return self.world.split.subset_of(combination) == self.subset

    def _prompt(
        self,
        tag: str,
        include: tuple[dict, ...],
        text: str,
        total: int,
        exclude: tuple[dict, ...] = (),
        background: str | None = None,
    ) -> ScenePrompt:
        """Complete a prompt by its background, if the world has several, and by the number of objects, if it counts."""
        return ScenePrompt(
            tag,
            include,
            text + self.language.background_phrase(background),
            exclude,
            background if self.named_backgrounds else None,
            None if self.world.allows_other_objects else total,
        )


def _thing(noun: str, place: int = 0, color: str | None = None) -> SceneObject:
    return SceneObject(place, noun, color)


def lines(prompts: list[ScenePrompt]) -> str:
    """Return prompts as the content of a JSONL file."""
    return "".join(prompt.to_json() + "\n" for prompt in prompts)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(lines(make_benchmark(find_world(sys.argv[1]), sys.argv[2])), end="")
    else:
        for world in WORLDS.values():
            world.benchmark.write_text(lines(make_benchmark(world)))
