"""The world of coloured shapes, designed for training on a laptop in two hours."""

import random
from pathlib import Path

from showo_turbo.scenes.scene import QUARTERS, Scene, random_objects
from showo_turbo.scenes.shapes.shape_detector import detect
from showo_turbo.scenes.shapes.shape_language import ShapeLanguage
from showo_turbo.scenes.shapes.shape_renderer import BACKGROUNDS, COLORS, RESOLUTION, SHAPE_NAMES, render_array
from showo_turbo.scenes.split import Split
from showo_turbo.scenes.world import World

LOOKS = tuple((shape, color) for shape in SHAPE_NAMES for color in COLORS)


def random_scene(rng: random.Random) -> Scene:
    """Generate a scene: one to four objects in quarters, each of any shape and color."""
    objects = random_objects(rng, lambda rng: (rng.choice(SHAPE_NAMES), rng.choice(COLORS)), LOOKS)
    return Scene(rng.choice(BACKGROUNDS), objects)


SHAPES = World(
    name="shapes",
    resolution=RESOLUTION,
    places=QUARTERS,
    looks=LOOKS,
    backgrounds=BACKGROUNDS,
    random_scene=random_scene,
    render_array=render_array,
    detect=detect,
    language=ShapeLanguage(LOOKS, BACKGROUNDS),
    # Of the first few hundred salts, the one that holds out most combinations of the smallest categories.
    split=Split(salt="53", held_out_one_in=6),
    benchmark=Path(__file__).parent / "benchmark.jsonl",
    demo={
        "a red circle and a blue star": "How many stars are there?",
        "three green squares on a white background": "How many squares are there?",
        "a purple star in the top left": "Where is the star?",
        "a yellow triangle above a blue square": "Is the triangle above the square?",
        "two orange crosses on a black background": "What color is the background?",
        "a red cross left of a blue circle": "How many objects are there?",
        "four yellow stars on a black background": "How many stars are there?",
        "a red square in the top left, a green circle in the top right and a blue triangle in the bottom left "
        "on a white background": "Describe the image.",
    },
    limits="one to four colored shapes",
    allows_other_objects=True,
)
