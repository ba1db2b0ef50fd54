"""Measure inpainting, extrapolation and variation on rendered scenes.

    python benchmarks/editing_parts.py clipart-turbo clipart [--count 100 --option order=bayer]

Every case is a held-out scene of two to four things that its prompt lists, such as "a dog and two red apples". One half
of it is known: inpainting replaces the other half of an image, extrapolation adds the other half at a side, variation
redraws nine tenths of the codes, wherever they are. An edit is right if the detector finds exactly the things that the
prompt lists in the scene, and nothing unrecognised.
"""

import random
from pathlib import Path
from typing import Annotated

import torch
import typer
from omegaconf import OmegaConf
from PIL import Image

from listed_things import list_things, shows_things
from showo_turbo import ShowoPipeline
from showo_turbo.processing.images import make_grid
from showo_turbo.scenes.scene import MIDDLE, Scene, SceneObject
from showo_turbo.scenes.worlds import find_world

SHEET_COLUMNS = 10
HALVES = {"right": (1, 3), "left": (0, 2), "down": (2, 3), "up": (0, 1)}
"""Quarters of each half."""
STRENGTH = 0.9


def opposite(place: int, direction: str) -> int:
    """Return the quarter that mirrors a quarter across the line between a half and the other one."""
    return place ^ (1 if direction in ("left", "right") else 2)


class Cases:
    """Held-out scenes, with the half that is drawn anew.

    Args:
        world_name: a built-in world.
        subset: "test", or "validation" to choose by.
        count: number of cases.
        seed: seed of all choices.
    """

    def __init__(self, world_name: str, subset: str, count: int, seed: int) -> None:
        self.world, rng = find_world(world_name), random.Random(seed)
        self.targets: list[Scene] = []
        self.directions: list[str] = []
        self.others: list[Scene] = []
        while len(self.targets) < count:
            target, direction = self.world.held_out_scene(rng, subset), rng.choice(list(HALVES))
            places = [thing.place for thing in target.objects]
            known = [place for place in places if place not in HALVES[direction]]
            if target.at(MIDDLE) or not known or len(known) == len(places):
                continue
            self.targets.append(target)
            self.directions.append(direction)
            self.others.append(self.quarters(rng))

    def quarters(self, rng: random.Random) -> Scene:
        """Return a random scene of things in quarters."""
        while (scene := self.world.random_scene(rng)).at(MIDDLE):
            pass
        return scene

    def inpainted(self, pipe: ShowoPipeline, number: int) -> Image.Image:
        """Replace the half of another scene's things by those of the target."""
        target, half = self.targets[number], HALVES[self.directions[number]]
        things = [thing for thing in target.objects if thing.place not in half]
        things += [thing for thing in self.others[number].objects if thing.place in half]
        side = self.world.resolution // 2
        mask = Image.new("L", (2 * side, 2 * side))
        for place in half:
            mask.paste(255, (place % 2 * side, place // 2 * side, (place % 2 + 1) * side, (place // 2 + 1) * side))
        image = self.world.render(Scene(target.background, tuple(sorted(things))))
        return pipe.inpaint(image, mask, list_things(target), seed=number).images[0]

    def extrapolated(self, pipe: ShowoPipeline, number: int) -> Image.Image:
        """Add the target's half to an image that ends with its other half; return the part with both."""
        target, direction = self.targets[number], self.directions[number]
        half = HALVES[direction]
        things = [
            SceneObject(opposite(thing.place, direction), thing.noun, thing.color)
            for thing in target.objects
            if thing.place not in half
        ]
        things += [thing for thing in self.others[number].objects if thing.place not in half]
        image = self.world.render(Scene(target.background, tuple(sorted(things))))
        larger = pipe.extrapolate(image, list_things(target), direction=direction, seed=number).images[0]
        side = self.world.resolution
        left = larger.width - side if direction == "right" else 0
        top = larger.height - side if direction == "down" else 0
        return larger.crop((left, top, left + side, top + side))

    def varied(self, pipe: ShowoPipeline, number: int) -> Image.Image:
        """Redraw most codes of the target."""
        image = self.world.render(self.targets[number])
        return pipe.vary(image, list_things(self.targets[number]), strength=STRENGTH, seed=number).images[0]


def main(
    models: Annotated[list[str], typer.Argument(help="Shipped models or folders.")],
    world: str = "clipart",
    subset: Annotated[str, typer.Option(help="test, or validation to choose by.")] = "test",
    count: int = 100,
    seed: int = 0,
    option: Annotated[
        list[str] | None, typer.Option(help="name=value, any sampling option in place of the recommended one.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Image of the first cases of the last model.")] = None,
) -> None:
    """Print how many edits of each model are right."""
    torch.set_num_threads(1)
    cases = Cases(world, subset, count, seed)
    for model in models:
        pipe = ShowoPipeline.from_pretrained(model, device="cpu")
        pipe.recommended = pipe.recommended.override(**OmegaConf.from_dotlist(option or []))
        drawn = {
            task.__name__: [task(pipe, number) for number in range(count)]
            for task in (cases.inpainted, cases.extrapolated, cases.varied)
        }
        for task, images in drawn.items():
            right = sum(
                shows_things(cases.world.detect(image), target)
                for image, target in zip(images, cases.targets, strict=True)
            )
            print(f"{model}: {task} {right} of {count} right", flush=True)
        if sheet is not None:
            make_grid([one for images in drawn.values() for one in images[:SHEET_COLUMNS]], SHEET_COLUMNS).save(sheet)


if __name__ == "__main__":
    typer.run(main)
