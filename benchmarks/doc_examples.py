"""Judge the examples of README and docs: each is run over 12 seeds, and the detector says whether the image is right.

    python benchmarks/doc_examples.py

An image is right if it shows what its prompt says, and nothing else. An image above the trained size is right if it
holds the things of its prompt, some of them more than once, and no others.
"""

from collections.abc import Callable

import torch
from PIL import Image

from showo_turbo import ShowoPipeline
from showo_turbo.evaluation.geneval_rules import shows_prompt
from showo_turbo.scenes.benchmark import ScenePrompt
from showo_turbo.scenes.scene import MIDDLE
from showo_turbo.scenes.worlds import find_world

MODEL = "clipart-turbo"
WORLD = find_world("clipart")
SEEDS = range(12)
ENOUGH = 10
IMAGE = "examples/dog_and_bicycle.png"
MASK = "examples/right_half.png"
PROMPT = "a dog left of a bicycle"

Judge = Callable[[Image.Image], bool]


def shows(*things: dict) -> Judge:
    """Return a judge of images that show these things, in GenEval's format, and no others."""
    include = tuple({"count": 1} | thing for thing in things)
    prompt = ScenePrompt("position", include, "", total=sum(thing["count"] for thing in include))
    return lambda image: shows_prompt(WORLD.detect(image), prompt)


def repeats(*nouns: str) -> Judge:
    """Return a judge of images above the trained size: some of these things more than once, and no others."""

    def judge(image: Image.Image) -> bool:
        found = nouns_in(image)
        return found is not None and len(found) > len(nouns) and set(found) == set(nouns)

    return judge


def nouns_in(image: Image.Image) -> list[str] | None:
    """Return the things in an image of whole quarters, or None if something is unrecognised."""
    found: dict[tuple[int, int], str] = {}
    unrecognised: set[tuple[int, int]] = set()
    side, quarter = WORLD.resolution, WORLD.resolution // 2
    for left in range(0, image.width - quarter, quarter):
        for top in range(0, image.height - quarter, quarter):
            detection = WORLD.detect(image.crop((left, top, left + side, top + side)))
            corner = left // quarter, top // quarter
            cells = {place: (corner[0] + place % 2, corner[1] + place // 2) for place in range(4)} | {MIDDLE: corner}
            found |= {cells[thing.place]: thing.noun for thing in detection.scene.objects}
            unrecognised |= {cells[place] for place in detection.unrecognised}
    return None if unrecognised - set(found) else list(found.values())


def drawing(prompt: str, **options: object) -> Callable[[ShowoPipeline, int], Image.Image]:
    """Return a function that draws a prompt."""
    return lambda pipe, seed: pipe.text_to_image(prompt, seed=seed, **options).images[0]


def inpainting(prompt: str) -> Callable[[ShowoPipeline, int], Image.Image]:
    """Return a function that repaints the right half of the example image."""
    return lambda pipe, seed: pipe.inpaint(IMAGE, MASK, prompt, seed=seed).images[0]


def extrapolation(*direction: str) -> Callable[[ShowoPipeline, int], Image.Image]:
    """Return a function that extends the example image."""
    return lambda pipe, seed: pipe.extrapolate(IMAGE, PROMPT, direction=list(direction), seed=seed).images[0]


DOG_LEFT_OF = {"class": "dog", "position": ["left of", 1]}
DOG_AND_BICYCLE = shows(DOG_LEFT_OF, {"class": "bicycle"})
APPLES = shows({"class": "apple", "color": "red", "count": 3})

EXAMPLES: dict[str, tuple[Callable[[ShowoPipeline, int], Image.Image], Judge]] = {
    "a dog left of a bicycle": (drawing(PROMPT), DOG_AND_BICYCLE),
    "three red apples": (drawing("three red apples"), APPLES),
    "three red apples, 8 steps": (drawing("three red apples", num_inference_steps=8), APPLES),
    "four donuts": (drawing("four donuts"), shows({"class": "donut", "count": 4})),
    "a rocket": (drawing("a rocket"), shows({"class": "rocket"})),
    "a giraffe in the bottom right": (
        drawing("a giraffe in the bottom right", num_inference_steps=4),
        shows({"class": "giraffe", "place": "bottom right"}),
    ),
    "a blue car above a yellow umbrella": (
        drawing("a blue car above a yellow umbrella"),
        shows({"class": "car", "color": "blue", "position": ["above", 1]}, {"class": "umbrella", "color": "yellow"}),
    ),
    "wide: three red apples": (drawing("three red apples", width=256, height=128), repeats("apple")),
    "tall: four donuts": (drawing("four donuts", width=128, height=192), repeats("donut")),
    "inpaint: a dog left of a pizza": (
        inpainting("a dog left of a pizza"),
        shows(DOG_LEFT_OF, {"class": "pizza"}),
    ),
    "inpaint: a dog left of a red car": (
        inpainting("a dog left of a red car"),
        shows(DOG_LEFT_OF, {"class": "car", "color": "red"}),
    ),
    "extrapolate to the right": (extrapolation("right"), repeats("dog", "bicycle")),
    "extrapolate to the right, then below": (extrapolation("right", "down"), repeats("dog", "bicycle")),
    "vary 90 %": (
        lambda pipe, seed: pipe.vary(IMAGE, PROMPT, strength=0.9, seed=seed).images[0],
        DOG_AND_BICYCLE,
    ),
}


def right_seeds(pipe: ShowoPipeline, name: str) -> int:
    """Return for how many of the seeds an example is right."""
    draw, is_right = EXAMPLES[name]
    return sum(is_right(draw(pipe, seed)) for seed in SEEDS)


def main() -> None:
    """Print how often each example is right."""
    torch.set_num_threads(1)
    pipe = ShowoPipeline.from_pretrained(MODEL, device="cpu")
    print("| example | right, of 12 |\n| --- | --- |")
    for name in EXAMPLES:
        print(f"| {name} | {right_seeds(pipe, name)} |", flush=True)


if __name__ == "__main__":
    main()
