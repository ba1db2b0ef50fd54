"""Judge the examples of README and docs: each is run over 12 seeds, and the detector says whether the image is right.

    python benchmarks/doc_examples.py

An image is right if it holds exactly the objects that its prompt names and nothing unrecognised. An image above the
trained size is right if all of its objects are those of the prompt, some of them more than once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image

from showo_turbo import ShowoPipeline
from showo_turbo.scenes.shapes.shape_detector import detect

SEEDS = range(12)
ENOUGH = 10
IMAGE = "examples/circle_and_star.png"
MASK = "examples/right_half.png"
PROMPT = "a red circle and a blue star"

Thing = tuple[str, str]
CIRCLE, STAR, SQUARE, YELLOW = ("red", "circle"), ("blue", "star"), ("green", "square"), ("yellow", "star")


@dataclass(frozen=True)
class Example:
    """Hold an example of the docs.

    Attributes:
        model: the shipped model that it names.
        draw: draws it with a seed.
        is_right: judges the image.
    """

    model: str
    draw: Callable[[ShowoPipeline, int], Image.Image]
    is_right: Callable[[Image.Image], bool]


def things_in(image: Image.Image) -> list[Thing] | None:
    """Return colors and shapes in an image of whole quarters, or None if something is unrecognised."""
    found: dict[tuple[int, int], Thing] = {}
    unrecognised: set[tuple[int, int]] = set()
    for left in {*range(0, image.width - 63, 64), image.width - 64}:
        for top in {*range(0, image.height - 63, 64), image.height - 64}:
            detection = detect(image.crop((left, top, left + 64, top + 64)))
            cells = {place: (left // 32 + place % 2, top // 32 + place // 2) for place in range(4)}
            found |= {cells[thing.place]: (thing.color, thing.noun) for thing in detection.scene.objects}
            unrecognised |= {cells[place] for place in detection.unrecognised}
    return None if unrecognised - set(found) else sorted(found.values())


def exactly(*things: Thing) -> Callable[[Image.Image], bool]:
    """Return a judge of images that hold these things and no others."""
    return lambda image: things_in(image) == sorted(things)


def extends(*things: Thing) -> Callable[[Image.Image], bool]:
    """Return a judge of images above the trained size: some of these things more than once, and no others."""

    def judge(image: Image.Image) -> bool:
        found = things_in(image)
        return found is not None and len(found) > len(things) and set(found) == set(things)

    return judge


def drawing(prompt: str, **options: object) -> Callable[[ShowoPipeline, int], Image.Image]:
    """Return a function that draws a prompt."""
    return lambda pipe, seed: pipe.text_to_image(prompt, seed=seed, **options).images[0]


EXAMPLES = {
    "circle and star": Example("tiny-turbo", drawing(PROMPT), exactly(CIRCLE, STAR)),
    "on white": Example("tiny-turbo", drawing(f"{PROMPT} on a white background"), exactly(CIRCLE, STAR)),
    "two stars": Example("tiny-turbo", drawing("two yellow stars"), exactly(YELLOW, YELLOW)),
    "three squares": Example("tiny-turbo", drawing("three green squares"), exactly(SQUARE, SQUARE, SQUARE)),
    "a square": Example("tiny-turbo", drawing("a green square"), exactly(SQUARE)),
    "a circle": Example("tiny-turbo", drawing("a red circle"), exactly(CIRCLE)),
    "star in a corner": Example(
        "tiny-turbo", drawing("a purple star in the top left", num_inference_steps=4), exactly(("purple", "star"))
    ),
    "two stars, 8 steps": Example(
        "tiny-turbo", drawing("two yellow stars", num_inference_steps=8), exactly(YELLOW, YELLOW)
    ),
    "wide": Example("tiny-turbo", drawing("two yellow stars", width=128, height=64), extends(YELLOW, YELLOW)),
    "tall": Example("tiny-turbo", drawing(PROMPT, width=64, height=96), extends(CIRCLE, STAR)),
    "inpaint": Example(
        "tiny",
        lambda pipe, seed: pipe.inpaint(IMAGE, MASK, "a red circle and a green square", seed=seed).images[0],
        exactly(CIRCLE, SQUARE),
    ),
    "inpaint a cross": Example(
        "tiny",
        lambda pipe, seed: pipe.inpaint(IMAGE, MASK, "a red circle and a yellow cross", seed=seed).images[0],
        exactly(CIRCLE, ("yellow", "cross")),
    ),
    "extrapolate": Example(
        "tiny",
        lambda pipe, seed: pipe.extrapolate(IMAGE, PROMPT, direction="right", seed=seed).images[0],
        extends(CIRCLE, STAR),
    ),
    "extrapolate twice": Example(
        "tiny",
        lambda pipe, seed: pipe.extrapolate(IMAGE, PROMPT, direction=["right", "down"], seed=seed).images[0],
        extends(CIRCLE, STAR),
    ),
    "vary": Example(
        "tiny",
        lambda pipe, seed: pipe.vary(IMAGE, PROMPT, strength=0.9, seed=seed).images[0],
        exactly(CIRCLE, STAR),
    ),
}


def right_seeds(pipe: ShowoPipeline, example: Example) -> int:
    """Return for how many of the seeds an example is right."""
    return sum(example.is_right(example.draw(pipe, seed)) for seed in SEEDS)


def diversity(pipe: ShowoPipeline, prompts: list[str], **options: object) -> tuple[float, float]:
    """Return how many of 8 images of a prompt are distinct, and the fraction of codes in which two differ; means."""
    distinct, differing = [], []
    for prompt in prompts:
        codes = pipe.text_to_image(prompt, num_images_per_prompt=8, seed=0, output_type="latent", **options).codes
        distinct.append(len(codes.unique(dim=0)))
        pairs = torch.combinations(torch.arange(len(codes)))
        differing.append((codes[pairs[:, 0]] != codes[pairs[:, 1]]).float().mean().item())
    return sum(distinct) / len(prompts), sum(differing) / len(prompts)


def main() -> None:
    """Print how often each example is right, and how far images of one prompt differ."""
    torch.set_num_threads(1)
    pipes = {model: ShowoPipeline.from_pretrained(model, device="cpu") for model in ("tiny", "tiny-turbo")}
    print("| example | model | right, of 12 |\n| --- | --- | --- |")
    for name, example in EXAMPLES.items():
        print(f"| {name} | {example.model} | {right_seeds(pipes[example.model], example)} |", flush=True)
    prompts = ["two yellow stars", "a green square", "three green squares", PROMPT, "a cross left of a circle"]
    print("\n| model | options | distinct images, of 8 | codes that differ |\n| --- | --- | --- | --- |")
    for model, options in (
        ("tiny", {}),
        ("tiny-turbo", {}),
        ("tiny-turbo", {"sampled_steps": 2}),
        ("tiny-turbo", {"sampled_steps": 4}),
    ):
        distinct, differing = diversity(pipes[model], prompts, **options)
        print(f"| {model} | {options or 'recommended'} | {distinct:.1f} | {differing:.0%} |", flush=True)


if __name__ == "__main__":
    main()
