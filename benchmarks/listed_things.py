"""Prompts that list the things of a scene, and the check that an image shows these things and no others."""

from collections import Counter

from showo_turbo.scenes.language import group_equal, join
from showo_turbo.scenes.scene import Detection, Scene


def list_things(scene: Scene) -> str:
    """Return the list of things in a scene, such as "a dog and two red apples"."""
    return join(group_equal([thing.name for thing in scene.objects]))


def shows_things(seen: Detection, scene: Scene) -> bool:
    """Return whether an image, as `World.detect` reads it, shows the things of a scene and nothing else, anywhere."""
    names = Counter(thing.name for thing in seen.scene.objects)
    return not seen.unrecognised and names == Counter(thing.name for thing in scene.objects)
