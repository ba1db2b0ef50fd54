"""The built-in worlds by name."""

from showo_turbo.errors import InputError
from showo_turbo.scenes.clipart.clipart_world import CLIPART
from showo_turbo.scenes.shapes.shape_world import SHAPES
from showo_turbo.scenes.world import World

WORLDS = {world.name: world for world in (SHAPES, CLIPART)}


def find_world(name: str) -> World:
    """Return a built-in world.

    Raises:
        InputError: if there is no world of this name.
    """
    if name not in WORLDS:
        raise InputError(f"world is {name!r}: choose {', '.join(WORLDS)}")
    return WORLDS[name]
