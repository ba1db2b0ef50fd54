"""Scenes: one to four coloured shapes in the four quarters of a plain square.

The world is designed for training on a laptop: every object fills a quarter of the image, so it is aligned with the
patches of the image tokenizer's grid at every place, and few patches are empty.
"""

import random
from dataclasses import dataclass

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
BACKGROUNDS = ("white", "black")
PLACES = ("top left", "top right", "bottom left", "bottom right")
RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True, order=True)
class SceneObject:
    """Hold one shape: `place` is an index of PLACES; `shape` and `color` are names."""

    place: int
    shape: str
    color: str

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
    """Hold a background and its objects in reading order, at most one at each place."""

    background: str
    objects: tuple[SceneObject, ...]

    def at(self, place: int) -> SceneObject | None:
        """Return the object at a place, if any."""
        return next((thing for thing in self.objects if thing.place == place), None)

    def matching(self, shape: str | None = None, color: str | None = None) -> list[SceneObject]:
        """Return the objects of the given shape and colour; None matches all."""
        return [thing for thing in self.objects if shape in (None, thing.shape) and color in (None, thing.color)]


def random_scene(rng: random.Random) -> Scene:
    """Generate a scene: one to four objects, often all of one shape (for counting) or all but one."""
    places = sorted(rng.sample(range(len(PLACES)), rng.choices((1, 2, 3, 4), weights=(25, 35, 20, 20))[0]))
    looks = [(rng.choice(SHAPES), rng.choice(COLORS)) for _ in places]
    num_equal = rng.choices((len(places), len(places) - 1, 0), weights=(40, 20, 40))[0]
    if num_equal > 1:
        shape, color = looks[0]
        same_color = rng.random() < 0.7
        looks[:num_equal] = [(shape, color if same_color else other) for _, other in looks[:num_equal]]
        rng.shuffle(looks)
    return Scene(
        rng.choice(BACKGROUNDS), tuple(SceneObject(place, *look) for place, look in zip(places, looks, strict=True))
    )
