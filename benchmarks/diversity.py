"""Measure how different the images of one prompt are.

    python benchmarks/diversity.py clipart-turbo clipart [--option num_inference_steps=16 --option top_k=8]

Every prompt lists two different things of a held-out scene, such as "a dog and a red apple", and leaves their places
open. Of its eight images, those that show exactly these things are right; among them, different scenes are counted.
"""

import random
from typing import Annotated

import torch
import typer
from omegaconf import OmegaConf

from listed_things import list_things, shows_things
from showo_turbo import ShowoPipeline
from showo_turbo.scenes.scene import Scene
from showo_turbo.scenes.world import World
from showo_turbo.scenes.worlds import find_world

NUM_IMAGES = 8


def two_things(world: World, subset: str, count: int, seed: int) -> list[Scene]:
    """Return held-out scenes of two things with different nouns, in quarters."""
    rng = random.Random(seed)
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = world.held_out_scene(rng, subset)
        if scene.is_pair:
            scenes.append(scene)
    return scenes


def main(
    models: Annotated[list[str], typer.Argument(help="Shipped models or folders.")],
    world: str = "clipart",
    subset: Annotated[str, typer.Option(help="test, or validation to choose by.")] = "test",
    count: Annotated[int, typer.Option(help="Prompts.")] = 20,
    seed: int = 0,
    option: Annotated[
        list[str] | None, typer.Option(help="name=value, any sampling option in place of the recommended one.")
    ] = None,
) -> None:
    """Print how many of eight images are right, and how many different scenes these show."""
    torch.set_num_threads(1)
    shown = find_world(world)
    scenes = two_things(shown, subset, count, seed)
    for model in models:
        pipe = ShowoPipeline.from_pretrained(model, device="cpu")
        pipe.recommended = pipe.recommended.override(**OmegaConf.from_dotlist(option or []))
        num_right = num_different = 0
        for number, scene in enumerate(scenes):
            images = pipe.text_to_image(list_things(scene), num_images_per_prompt=NUM_IMAGES, seed=number).images
            right = [seen.scene for seen in map(shown.detect, images) if shows_things(seen, scene)]
            num_right += len(right)
            num_different += len(set(right))
        print(
            f"{model}: of {NUM_IMAGES} images {num_right / count:.1f} are right "
            f"and show {num_different / count:.1f} different scenes",
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)
