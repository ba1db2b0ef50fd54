"""Make 50 captioned pictures of what the shipped models never saw: `python examples/make_houses.py [FOLDER]`.

A house is a red triangle on a square. Two of the ten houses, a yellow one on the right and a purple one on the left,
are left out, so that a model that draws them has learned what a house is. `prompts.jsonl` has prompts of all ten, and
no pictures: those that a distillation has its teacher draw.
"""

import json
import sys
from itertools import product
from pathlib import Path

from showo_turbo.scenes.scene import Scene, SceneObject
from showo_turbo.scenes.shapes.shape_world import SHAPES

WALLS = ("green", "blue", "yellow", "purple", "orange")
SIDES = ("left", "right")
NOUNS = ("star", "circle", "cross")
COLORS = ("orange", "purple", "green", "yellow")
LEFT_OUT = (("yellow", "right"), ("purple", "left"))


def house(wall: str, side: str) -> tuple[SceneObject, SceneObject]:
    """Return roof and wall."""
    column = SIDES.index(side)
    return SceneObject(column, "triangle", "red"), SceneObject(2 + column, "square", wall)


def with_article(color: str, noun: str) -> str:
    """Return a colored thing in words."""
    return f"{'an' if color == 'orange' else 'a'} {color} {noun}"


def captioned_scenes() -> list[tuple[str, Scene]]:
    """Return the scenes with their captions."""
    found = []
    houses = [one for one in product(WALLS, SIDES) if one not in LEFT_OUT]
    for number, ((wall, side), background) in enumerate(product(houses, ("white", "black"))):
        own, other_column = house(wall, side), 1 - SIDES.index(side)
        noun, color = NOUNS[number % 3], COLORS[number % 4]
        beside = SceneObject(2 + other_column, noun, color)
        name, neighbour = with_article(wall, "house"), with_article(color, noun)
        found.append((f"{name} on the {side}", Scene(background, own)))
        found.append((f"{name} on the {side} and {neighbour}", Scene(background, tuple(sorted((*own, beside))))))
        found.append((f"{name} on a {background} background", Scene(background, own)))
    for left, right, background in (("green", "blue", "white"), ("orange", "purple", "black")):
        both = tuple(sorted((*house(left, "left"), *house(right, "right"))))
        found.append((f"two houses on a {background} background", Scene(background, both)))
    return found


def prompts() -> list[str]:
    """Return prompts of all houses, alone and beside every neighbour."""
    found = []
    for wall, side in product(WALLS, SIDES):
        name = f"{with_article(wall, 'house')} on the {side}"
        found += [name, *(f"{name} and {with_article(color, noun)}" for noun, color in product(NOUNS, COLORS))]
    return found


def main(folder: Path) -> None:
    """Write the pictures and their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (caption, scene) in enumerate(captioned_scenes()):
        name = f"{number:02}.png"
        SHAPES.render(scene).save(folder / name)
        lines.append(json.dumps({"image": name, "caption": caption}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    prompt_lines = [json.dumps({"caption": prompt}) for prompt in prompts()]
    (folder / "prompts.jsonl").write_text("\n".join(prompt_lines) + "\n")
    print(f"{len(lines)} pictures in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "examples/houses"))
