"""Scenes: one to four objects in the quarters of a plain square, or one in the middle that fills it.

Every object fills its quarter or the image, so it is aligned with the patches of the image tokenizer's grid at every
place, and few patches are empty.
"""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from PIL import Image

from showo_turbo.errors import InputError

QUARTERS = ("top left", "top right", "bottom left", "bottom right")
PLACES = (*QUARTERS, "middle")
MIDDLE = PLACES.index("middle")
"""Place of an object that fills the image."""
RELATIONS = ("left of", "right of", "above", "below")

Look = tuple[str, str | None]
"""Noun and color."""


@dataclass(frozen=True, order=True)
class SceneObject:
    """Hold one object: `place` is an index of PLACES; `color` is None for an object whose color has no name."""

    place: int
    noun: str
    color: str | None

    @property
    def name(self) -> str:
        """Color and noun."""
        return f"{self.color} {self.noun}" if self.color else self.noun

    @property
    def column(self) -> int:
        """0 on the left, 1 on the right."""
        return self.place % 2

    @property
    def row(self) -> int:
        """0 at the top, 1 at the bottom."""
        return self.place // 2

    def is_(self, relation: str, other: "SceneObject") -> bool:
        """Return whether `self <relation> other` holds; for diagonal neighbours two relations hold at once."""
        return {
            "left of": self.column < other.column,
            "right of": self.column > other.column,
            "above": self.row < other.row,
            "below": self.row > other.row,
        }[relation]


@dataclass(frozen=True)
class Scene:
    """Hold a background and its objects in reading order: one in the middle, or at most one in each quarter."""

    background: str
    objects: tuple[SceneObject, ...]

    @property
    def is_pair(self) -> bool:
        """Whether there are exactly two objects, of different nouns."""
        return len(self.objects) == 2 and self.objects[0].noun != self.objects[1].noun

    def at(self, place: int) -> SceneObject | None:
        """Return the object at a place, if any."""
        return next((thing for thing in self.objects if thing.place == place), None)

    def matching(self, noun: str | None = None, color: str | None = None) -> list[SceneObject]:
        """Return the objects of the given noun and color; None matches all."""
        return [thing for thing in self.objects if noun in (None, thing.noun) and color in (None, thing.color)]


@dataclass(frozen=True)
class Detection:
    """Hold the scene that was detected in an image.

    Attributes:
        scene: background and recognised objects.
        unrecognised: places (indices of PLACES) with something that is not an object of the world.
    """

    scene: Scene
    unrecognised: tuple[int, ...]


def rgb_pixels(image: Image.Image | np.ndarray, resolution: int) -> np.ndarray:
    """Return the pixels that a detector reads, (resolution, resolution, 3).

    Raises:
        InputError: if the image has another size or is not RGB.
    """
    pixels = np.asarray(image)
    if pixels.shape != (resolution, resolution, 3):
        raise InputError(f"the detector reads {resolution} x {resolution} RGB images, got an array {pixels.shape}")
    return pixels


def random_objects(
    rng: random.Random, random_look: Callable[[random.Random], Look], looks: Collection[Look]
) -> tuple[SceneObject, ...]:
    """Generate one to four objects in quarters, often all with one noun (for counting) or all but one.

    Args:
        rng: source of randomness.
        random_look: draws one of the looks.
        looks: all looks.
    """
    places = sorted(rng.sample(range(len(QUARTERS)), rng.choices((1, 2, 3, 4), weights=(25, 35, 20, 20))[0]))
    drawn = [random_look(rng) for _ in places]
    num_equal = rng.choices((len(places), len(places) - 1, 0), weights=(40, 20, 40))[0]
    if num_equal > 1:
        noun, color = drawn[0]
        same_color = rng.random() < 0.7
        drawn[:num_equal] = [
            (noun, color if same_color or (noun, other) not in looks else other) for _, other in drawn[:num_equal]
        ]
        rng.shuffle(drawn)
    return tuple(SceneObject(place, *look) for place, look in zip(places, drawn, strict=True))
