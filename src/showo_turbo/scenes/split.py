"""Split of the scenes into training and held-out scenes.

Each GenEval category defines combinations of attributes, such as (counting, three, stars, black). A fixed hash holds
about a sixth of all combinations out of training: `training_scene` never returns a scene that contains one. All prompts
of the benchmark require held-out combinations, so a correct image is composed, not memorised.
"""

import random
import zlib
from itertools import combinations

from showo_turbo.scenes.scene import Scene, SceneObject, random_scene

_HELD_OUT_ONE_IN = 6
# Of the first few hundred salts, the one that holds out most combinations of the smallest categories.
_SALT = "53"

Combination = tuple[str, ...]


def combinations_in(scene: Scene) -> list[Combination]:
    """Return all attribute combinations of a scene, in the order of GenEval's categories."""
    things, shapes = scene.objects, {thing.shape for thing in scene.objects}
    found: list[Combination] = []
    if len(things) == 1:
        found += [single_object(things[0], scene.background), colors(things[0])]
    if len(things) == 2 and len(shapes) == 2:
        found.append(two_object(things, scene.background))
        found += [position(*pair, relation) for pair, relation in _relations(things)]
    if len(things) > 1 and len(shapes) == 1:
        found.append(counting(len(things), things[0].shape, scene.background))
    return found + [color_attr(*pair) for pair in combinations(things, 2) if _differ(*pair)]


def single_object(thing: SceneObject, background: str) -> Combination:
    """Return the combination of a single shape at a place on a background, in any colour."""
    return "single_object", thing.shape, str(thing.place), background


def colors(thing: SceneObject) -> Combination:
    """Return the combination of a single coloured shape at a place."""
    return "colors", thing.color, thing.shape, str(thing.place)


def two_object(things: tuple[SceneObject, ...], background: str) -> Combination:
    """Return the combination of two different shapes and nothing else on a background."""
    return "two_object", *sorted(thing.shape for thing in things), background


def position(first: SceneObject, second: SceneObject, relation: str) -> Combination:
    """Return the combination of two different shapes and nothing else, one `left of` or `above` the other."""
    return "position", first.shape, relation, second.shape


def counting(count: int, shape: str, background: str) -> Combination:
    """Return the combination of a number of equal shapes and nothing else on a background."""
    return "counting", str(count), shape, background


def color_attr(first: SceneObject, second: SceneObject) -> Combination:
    """Return the combination of two objects that differ in colour and shape, anywhere in a scene."""
    return "color_attr", *sorted(f"{thing.color} {thing.shape}" for thing in (first, second))


def is_held_out(combination: Combination) -> bool:
    """Return whether a combination is held out of training."""
    return zlib.crc32("|".join((_SALT, *combination)).encode()) % _HELD_OUT_ONE_IN == 0


def is_training_scene(scene: Scene) -> bool:
    """Return whether a scene contains no held-out combination."""
    return not any(map(is_held_out, combinations_in(scene)))


def training_scene(rng: random.Random) -> Scene:
    """Generate a scene without held-out combinations."""
    while not is_training_scene(scene := random_scene(rng)):
        pass
    return scene


def held_out_scene(rng: random.Random) -> Scene:
    """Generate a scene with at least one held-out combination."""
    while is_training_scene(scene := random_scene(rng)):
        pass
    return scene


def _differ(first: SceneObject, second: SceneObject) -> bool:
    return first.shape != second.shape and first.color != second.color


def _relations(things: tuple[SceneObject, ...]) -> list[tuple[tuple[SceneObject, SceneObject], str]]:
    first, second = things
    return [
        (pair, relation)
        for pair in ((first, second), (second, first))
        for relation in ("left of", "above")
        if pair[0].is_(relation, pair[1])
    ]
