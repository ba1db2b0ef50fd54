"""Split of the scenes into training and held-out scenes.

Each GenEval category defines combinations of attributes, such as (counting, three, stars, black). A fixed hash holds
some of all combinations out of training: `World.training_scene` never returns a scene that contains one. All prompts of
a benchmark require held-out combinations, so a correct image is composed, not memorised.

An object that fills the image is no combination: a look that is never shown cannot be composed.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from showo_turbo.scenes.scene import MIDDLE, Scene, SceneObject

Combination = tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Hold the hash that splits combinations.

    Attributes:
        salt: first part of what is hashed.
        held_out_one_in: the test combinations are one in this number.
        has_validation: hold out as many more combinations, to choose options and weights by.
    """

    salt: str
    held_out_one_in: int
    has_validation: bool = False

    def subset_of(self, combination: Combination) -> str:
        """Return "training", "validation" or "test"."""
        bucket = zlib.crc32("|".join((self.salt, *combination)).encode()) % self.held_out_one_in
        return "test" if bucket == 0 else "validation" if bucket == 1 and self.has_validation else "training"

    def is_held_out(self, combination: Combination) -> bool:
        """Return whether a combination is held out of training."""
        return self.subset_of(combination) != "training"

    def subset_of_scene(self, scene: Scene) -> str:
        """Return "test" if a scene contains a test combination, else "validation" or "training" by the same rule."""
        subsets = {self.subset_of(combination) for combination in combinations_in(scene)}
        return next((subset for subset in ("test", "validation") if subset in subsets), "training")

    def is_training_scene(self, scene: Scene) -> bool:
        """Return whether a scene contains no held-out combination."""
        return not any(map(self.is_held_out, combinations_in(scene)))


def combinations_in(scene: Scene) -> list[Combination]:
    """Return all attribute combinations of a scene, in the order of GenEval's categories."""
    things, nouns = scene.objects, {thing.noun for thing in scene.objects}
    found: list[Combination] = []
    if len(things) == 1 and things[0].place != MIDDLE:
        found.append(single_object(things[0], scene.background))
        if things[0].color:
            found.append(colors(things[0]))
    if scene.is_pair:
        found.append(two_object(things, scene.background))
        found += [position(*pair, relation) for pair, relation in _relations(things)]
    if len(things) > 1 and len(nouns) == 1:
        found.append(counting(len(things), things[0].noun, scene.background))
    return found + [color_attr(pair) for pair in combinations(things, 2) if differ_in_noun_and_color(*pair)]


def single_object(thing: SceneObject, background: str) -> Combination:
    """Return the combination of a single object at a place on a background, in any color."""
    return "single_object", thing.noun, str(thing.place), background


def colors(thing: SceneObject) -> Combination:
    """Return the combination of a single colored object at a place."""
    return "colors", str(thing.color), thing.noun, str(thing.place)


def two_object(things: Iterable[SceneObject], background: str) -> Combination:
    """Return the combination of two objects with different nouns and nothing else on a background."""
    return "two_object", *sorted(thing.noun for thing in things), background


def position(first: SceneObject, second: SceneObject, relation: str) -> Combination:
    """Return the combination of two different nouns and nothing else, one `left of` or `above` the other."""
    return "position", first.noun, relation, second.noun


def counting(count: int, noun: str, background: str) -> Combination:
    """Return the combination of a number of objects with one noun and nothing else on a background."""
    return "counting", str(count), noun, background


def color_attr(things: Iterable[SceneObject]) -> Combination:
    """Return the combination of two colored objects that differ in color and noun, anywhere in a scene."""
    return "color_attr", *sorted(thing.name for thing in things)


def differ_in_noun_and_color(first: SceneObject, second: SceneObject) -> bool:
    """Return whether two objects differ in noun and in color, and both have a color."""
    return first.noun != second.noun and first.color != second.color and bool(first.color and second.color)


def _relations(things: tuple[SceneObject, ...]) -> list[tuple[tuple[SceneObject, SceneObject], str]]:
    first, second = things
    return [
        (pair, relation)
        for pair in ((first, second), (second, first))
        for relation in ("left of", "above")
        if pair[0].is_(relation, pair[1])
    ]
