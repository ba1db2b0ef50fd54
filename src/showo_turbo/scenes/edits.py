"""Instructions that change one thing in a scene, with the scene that they lead to.

recolor      make the circle red                  turn the blue circle red
replace      turn the circle into a star          replace the blue circle with a star
remove       remove the circle
background   make the background black

Some instructions are held out of training by the split of the world, as combinations of the kind, the object and the
new value; for backgrounds, of all nouns of the scene. A model that follows them composes what it has learned.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from showo_turbo.scenes.language import article
from showo_turbo.scenes.scene import Scene, SceneObject
from showo_turbo.scenes.world import World


@dataclass(frozen=True)
class SceneEdit:
    """Hold an instruction and the scene that it leads to.

    Attributes:
        combination: what is held out of training or not, see `scenes.split`.
        instructions: ways to say it.
        target: the scene afterwards.
    """

    combination: tuple[str, ...]
    instructions: tuple[str, ...]
    target: Scene


def scene_edits(scene: Scene, world: World, rng: random.Random) -> Iterator[SceneEdit]:
    """Yield the edits of a scene in random order: those of objects that are the only ones of their noun.

    Args:
        scene: the scene before.
        world: its world, whose looks and backgrounds the edits use.
        rng: source of the order.
    """
    nouns = [thing for thing in scene.objects if len(scene.matching(noun=thing.noun)) == 1]
    edits = [edit for thing in nouns for edit in _edits_of_object(scene, thing, world)]
    edits += [
        SceneEdit(
            ("edit", "background", background, *sorted({thing.noun for thing in scene.objects})),
            (f"make the background {background}", f"change the background to {background}"),
            replace(scene, background=background),
        )
        for background in world.backgrounds
        if background != scene.background
    ]
    rng.shuffle(edits)
    yield from edits


def _edits_of_object(scene: Scene, thing: SceneObject, world: World) -> Iterator[SceneEdit]:
    others = tuple(other for other in scene.objects if other != thing)
    if others:
        removing = (f"remove the {thing.noun}", f"remove the {thing.name}", f"take the {thing.noun} away")
        yield SceneEdit(("edit", "remove", thing.noun), removing, replace(scene, objects=others))
    for noun, color in world.looks:
        changed = SceneObject(thing.place, noun, color)
        target = replace(scene, objects=tuple(sorted((*others, changed))))
        if noun == thing.noun and color is not None and color != thing.color:
            coloring = (f"make the {noun} {color}", f"turn the {thing.name} {color}", f"paint the {noun} {color}")
            yield SceneEdit(("edit", "recolor", noun, color), coloring, target)
        elif color == thing.color and noun != thing.noun and not scene.matching(noun=noun):
            replacing = (
                f"turn the {thing.noun} into {article(noun)}",
                f"replace the {thing.name} with {article(noun)}",
            )
            yield SceneEdit(("edit", "replace", thing.noun, noun), replacing, target)
