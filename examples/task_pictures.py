"""A picture for every task of docs/tutorials/draw.md: `python examples/task_pictures.py [FOLDER]`.

Each picture holds the images of the page's own calls, with the same files, prompts and seeds, and some more.
"""

import sys
from pathlib import Path

from PIL import Image

from showo_turbo import ShowoPipeline
from showo_turbo.processing.image_labels import label_image

HEIGHT = 160
IMAGE, MASK = "examples/circle_and_star.png", "examples/right_half.png"
PROMPT = "a red circle and a blue star"
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


def inpainting(teacher: ShowoPipeline) -> Image.Image:
    """Redraw the right half."""
    prompts = ["a red circle and a green square", "a red circle and a yellow cross"]
    drawn = [teacher.inpaint(IMAGE, MASK, prompt, seed=SEED).images[0] for prompt in prompts]
    inputs = (Image.open(IMAGE), PROMPT), (Image.open(MASK), "mask")
    return strip(*inputs, *zip(drawn, prompts, strict=True))


def extrapolation(teacher: ShowoPipeline) -> Image.Image:
    """Add half an image to the right, and half an image below that."""
    right = teacher.extrapolate(IMAGE, PROMPT, direction="right", seed=SEED).images[0]
    both = teacher.extrapolate(IMAGE, PROMPT, direction=["right", "down"], seed=SEED).images[0]
    return strip((Image.open(IMAGE), PROMPT), (right, "right"), (both, "right, down"))


def variation(teacher: ShowoPipeline) -> Image.Image:
    """Redraw more and more of an image."""
    strengths = (0.3, 0.6, 0.9)
    drawn = [teacher.vary(IMAGE, PROMPT, strength=strength, seed=SEED).images[0] for strength in strengths]
    labels = [f"strength {strength}" for strength in strengths]
    return strip((Image.open(IMAGE), PROMPT), *zip(drawn, labels, strict=True))


def other_shapes(student: ShowoPipeline) -> Image.Image:
    """Draw images that are no squares."""
    wide = student.text_to_image("two yellow stars", width=128, height=64, seed=SEED).images[0]
    tall = student.text_to_image(PROMPT, width=64, height=96, seed=SEED).images[0]
    return strip((wide, "128 x 64: two yellow stars, in each square"), (tall, f"64 x 96: {PROMPT}, in each square"))


def main() -> None:
    """Draw all pictures into the folder that is named, or else into docs/images."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    teacher, student = (ShowoPipeline.from_pretrained(name, device="cpu") for name in ("tiny", "tiny-turbo"))
    inpainting(teacher).save(folder / "inpainting.png")
    extrapolation(teacher).save(folder / "extrapolation.png")
    variation(teacher).save(folder / "variation.png")
    other_shapes(student).save(folder / "other_shapes.png")


if __name__ == "__main__":
    main()
