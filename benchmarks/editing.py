"""Measure editing by instruction on rendered scenes: `python benchmarks/editing.py MODEL... [--count 200]`.

Every edit has an instruction that training holds out (see `scenes.edits`), or with `--trained` one that it has. An edit
is right if the detector finds exactly the scene that the instruction leads to. `unchanged` counts images that still
show the scene before.
"""

import random
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image

from showo_turbo import ShowoPipeline
from showo_turbo.processing.images import make_grid
from showo_turbo.processing.known_world import UnknownWordsWarning
from showo_turbo.scenes.edits import SceneEdit, scene_edits
from showo_turbo.scenes.scene import Scene
from showo_turbo.scenes.worlds import find_world

BATCH = 50
SHEET_COLUMNS = 10


def random_edits(
    world_name: str, count: int, seed: int, held_out: bool, max_objects: int
) -> list[tuple[Scene, SceneEdit, str]]:
    """Return scenes with edits that training holds out, or does not, and an instruction for each."""
    world, rng = find_world(world_name), random.Random(seed)
    found: list[tuple[Scene, SceneEdit, str]] = []
    while len(found) < count:
        scene = world.training_scene(rng)
        if len(scene.objects) > max_objects:
            continue
        for edit in scene_edits(scene, world, rng):
            if world.split.is_held_out(edit.combination) == held_out and world.split.is_training_scene(edit.target):
                found.append((scene, edit, rng.choice(edit.instructions)))
                break
    return found


def main(
    models: Annotated[list[str], typer.Argument(help="Shipped models or folders.")],
    world: str = "shapes",
    count: int = 200,
    seed: int = 0,
    guidance_scale: float | None = None,
    max_objects: Annotated[int, typer.Option(help="Largest number of objects in a scene.")] = 4,
    trained: Annotated[bool, typer.Option("--trained", help="Use instructions that training has.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Image of the first edits: before above, after below.")] = None,
) -> None:
    """Print the fraction of right edits of each model, in all and by kind."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UnknownWordsWarning)
    found, built_in = random_edits(world, count, seed, not trained, max_objects), find_world(world)
    before = [built_in.render(scene) for scene, _, _ in found]
    for model in models:
        pipe = ShowoPipeline.from_pretrained(model)
        pipe.model.config = replace(pipe.model.config, edits_images=True)  # a base that was not trained is measured too
        after: list[Image.Image] = []
        for start in range(0, count, BATCH):
            texts = [text for _, _, text in found[start : start + BATCH]]
            options = {} if guidance_scale is None else {"guidance_scale": guidance_scale}
            after += pipe.edit(before[start : start + BATCH], texts, seed=start, **options).images
        right: dict[str, list[bool]] = {}
        unchanged = 0
        for (scene, edit, _), image in zip(found, after, strict=True):
            seen = built_in.detect(image)
            right.setdefault(edit.combination[1], []).append(seen.scene == edit.target and not seen.unrecognised)
            unchanged += seen.scene == scene
        kinds = ", ".join(f"{kind} {sum(ones)} of {len(ones)}" for kind, ones in sorted(right.items()))
        print(f"{model}: {sum(map(sum, right.values()))} of {count} right ({kinds}); {unchanged} unchanged")
        if sheet is not None:
            pictures = before[:SHEET_COLUMNS] + after[:SHEET_COLUMNS]
            make_grid(pictures, columns=SHEET_COLUMNS).save(sheet)
            print("\n".join(text for _, _, text in found[:SHEET_COLUMNS]))


if __name__ == "__main__":
    typer.run(main)
