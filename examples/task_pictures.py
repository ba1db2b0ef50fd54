"""A picture for every task of docs/tutorials/draw.md: `python examples/task_pictures.py [FOLDER]`.

Each picture holds the images of the page's own calls, with the same files, prompts and seeds, and some more.
"""

import sys
from pathlib import Path

from PIL import Image

from showo_turbo import ShowoPipeline
from showo_turbo.processing.image_labels import label_image

HEIGHT = 160
IMAGE, MASK = "examples/dog_and_bicycle.png", "examples/right_half.png"
PROMPT = "a dog left of a bicycle"
SEED = 0


def strip(*cells: tuple[Image.Image, str]) -> Image.Image:
    """Return labelled images side by side."""
    drawn = [label_image(image.convert("RGB"), text, HEIGHT) for image, text in cells]
    whole = Image.new("RGB", (sum(cell.width for cell in drawn), drawn[0].height), "white")
    left = 0
    for cell in drawn:
        whole.paste(cell, (left, 0))
        left += cell.width
    return whole


def inpainting(pipe: ShowoPipeline) -> Image.Image:
    """Redraw the right half."""
    prompts = ["a dog left of a pizza", "a dog left of a red car"]
    drawn = [pipe.inpaint(IMAGE, MASK, prompt, seed=SEED).images[0] for prompt in prompts]
    inputs = (Image.open(IMAGE), PROMPT), (Image.open(MASK), "mask")
    return strip(*inputs, *zip(drawn, prompts, strict=True))


def extrapolation(pipe: ShowoPipeline) -> Image.Image:
    """Add half an image to the right, and half an image below that."""
    right = pipe.extrapolate(IMAGE, PROMPT, direction="right", seed=SEED).images[0]
    both = pipe.extrapolate(IMAGE, PROMPT, direction=["right", "down"], seed=SEED).images[0]
    return strip((Image.open(IMAGE), PROMPT), (right, "right"), (both, "right, down"))


def variation(pipe: ShowoPipeline) -> Image.Image:
    """Redraw more and more of an image."""
    strengths = (0.3, 0.6, 0.9)
    drawn = [pipe.vary(IMAGE, PROMPT, strength=strength, seed=SEED).images[0] for strength in strengths]
    labels = [f"strength {strength}" for strength in strengths]
    return strip((Image.open(IMAGE), PROMPT), *zip(drawn, labels, strict=True))


def other_shapes(pipe: ShowoPipeline) -> Image.Image:
    """Draw images that are no squares."""
    wide = pipe.text_to_image("three red apples", width=256, height=128, seed=SEED).images[0]
    tall = pipe.text_to_image("four donuts", width=128, height=192, seed=SEED).images[0]
    return strip((wide, "256 x 128: three red apples, in each square"), (tall, "128 x 192: four donuts, in each square"))


def main() -> None:
    """Draw all pictures into the folder that is named, or else into docs/images."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    pipe = ShowoPipeline.from_pretrained("clipart-turbo", device="cpu")
    inpainting(pipe).save(folder / "inpainting.png")
    extrapolation(pipe).save(folder / "extrapolation.png")
    variation(pipe).save(folder / "variation.png")
    other_shapes(pipe).save(folder / "other_shapes.png")


if __name__ == "__main__":
    main()
