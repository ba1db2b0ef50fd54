"""What training never shows, and the benchmark prompts that ask for it.

Each GenEval category has a tuple of attributes that makes a combination, such as (counting, three, stars, black). A
fixed hash keeps about a sixth of all combinations out of training: `training_scene` never returns a scene that holds
one. The benchmark's prompts ask for kept-out combinations only, so a right picture was composed, not remembered.
"""

import random
import zlib
from itertools import combinations

from showo_turbo.scenes.scene import Scene, SceneObject, random_scene

HELD_OUT_SHARE = 6
# Among the first few hundred salts, the one that keeps out most combinations of the smallest categories.
_SALT = "53"

Combination = tuple[str, ...]


def combinations_in(scene: Scene) -> list[Combination]:
    """All attribute combinations that a scene shows, in the order of GenEval's categories."""
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
    """A lone shape at a place on a background, whatever its colour."""
    return "single_object", thing.shape, str(thing.place), background


def colors(thing: SceneObject) -> Combination:
    """A lone coloured shape at a place."""
    return "colors", thing.color, thing.shape, str(thing.place)


def two_object(things: tuple[SceneObject, ...], background: str) -> Combination:
    """Two different shapes, alone on a background."""
    return "two_object", *sorted(thing.shape for thing in things), background


def position(first: SceneObject, second: SceneObject, relation: str) -> Combination:
    """Two different shapes, alone, one `left of` or `above` the other."""
    return "position", first.shape, relation, second.shape


def counting(count: int, shape: str, background: str) -> Combination:
    """So many of one shape and nothing else, on a background."""
    return "counting", str(count), shape, background


def color_attr(first: SceneObject, second: SceneObject) -> Combination:
    """Two objects that differ in both colour and shape, anywhere in a scene."""
    return "color_attr", *sorted(f"{thing.color} {thing.shape}" for thing in (first, second))


def is_held_out(combination: Combination) -> bool:
    """Whether training never shows this combination."""
    return zlib.crc32("|".join((_SALT, *combination)).encode()) % HELD_OUT_SHARE == 0


def is_training_scene(scene: Scene) -> bool:
    """Whether a scene holds no combination that is kept out."""
    return not any(map(is_held_out, combinations_in(scene)))


def training_scene(rng: random.Random) -> Scene:
    """A random scene that training may show."""
    while not is_training_scene(scene := random_scene(rng)):
        pass
    return scene


def held_out_scene(rng: random.Random) -> Scene:
    """A random scene with at least one combination that training never shows."""
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
