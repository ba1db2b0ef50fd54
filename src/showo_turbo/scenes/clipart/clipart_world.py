"""The world of clip-art: things that people recognise, alone in the whole image or together in quarters."""

import random
from pathlib import Path

import numpy as np

from showo_turbo.scenes.clipart.clipart_language import ClipartLanguage
from showo_turbo.scenes.clipart.sprite_judge import BACKGROUND, QUARTER, RESOLUTION, detect
from showo_turbo.scenes.clipart.sprites import COLORS_OF, LOOKS, sprite
from showo_turbo.scenes.scene import MIDDLE, PLACES, Scene, SceneObject, random_objects
from showo_turbo.scenes.split import Split
from showo_turbo.scenes.world import World

LARGE_SHARE = 0.25
"""Fraction of the scenes with one object that fills the image."""


def random_scene(rng: random.Random) -> Scene:
    """Generate a scene: one large object, or one to four objects in quarters."""
    if rng.random() < LARGE_SHARE:
        return Scene(BACKGROUND, (SceneObject(MIDDLE, *rng.choice(LOOKS)),))
    return Scene(BACKGROUND, random_objects(rng, lambda rng: rng.choice(LOOKS), LOOKS))


def render_array(scene: Scene) -> np.ndarray:
    """Render a scene as an array, uint8 (128, 128, 3)."""
    image = np.full((RESOLUTION, RESOLUTION, 3), 255, dtype=np.uint8)
    for thing in scene.objects:
        if thing.place == MIDDLE:
            return sprite(thing.noun, thing.color, RESOLUTION)
        top, left = thing.row * QUARTER, thing.column * QUARTER
        image[top : top + QUARTER, left : left + QUARTER] = sprite(thing.noun, thing.color, QUARTER)
    return image


CLIPART = World(
    name="clipart",
    resolution=RESOLUTION,
    places=PLACES,
    looks=LOOKS,
    backgrounds=(BACKGROUND,),
    random_scene=random_scene,
    render_array=render_array,
    detect=detect,
    language=ClipartLanguage(BACKGROUND),
    split=Split(salt="clipart", held_out_one_in=8, has_validation=True),
    benchmark=Path(__file__).parent / "benchmark.jsonl",
    demo={
        "three red apples": "How many apples are there?",
        "a dog left of a bicycle": "Is the dog left of the bicycle?",
        "a blue car above a yellow umbrella": "What color is the umbrella?",
        "a rocket": "What is this?",
        "a cat and a pizza": "Is there a cat?",
        "a giraffe in the bottom right": "Where is the giraffe?",
        "four donuts": "How many donuts are there?",
        "a guitar in the top left, a green book in the top right and a teddy bear in the bottom left": (
            "Describe the image."
        ),
    },
    limits=f"one to four things of {len(COLORS_OF)} kinds on white",
    allows_other_objects=False,
)
