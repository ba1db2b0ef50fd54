"""Prompts that list the things of a scene, and the check that an image shows these things and no others."""

from collections import Counter

from PIL import Image

from showo_turbo.scenes.language import group_equal, join
from showo_turbo.scenes.scene import Scene
from showo_turbo.scenes.world import World


def list_things(scene: Scene) -> str:
    """Return the list of things in a scene, such as "a dog and two red apples"."""
    return join(group_equal([thing.name for thing in scene.objects]))


def shows_things(image: Image.Image, scene: Scene, world: World) -> bool:
    """Return whether an image shows the things of a scene, wherever they are, and nothing else."""
    seen = world.detect(image)
    names = Counter(thing.name for thing in seen.scene.objects)
    return not seen.unrecognised and names == Counter(thing.name for thing in scene.objects)
