"""A picture for every task, drawn by the shipped model: `python examples/task_pictures.py [FOLDER]`.

Tasks that start from an image start from a rendered scene.
"""

import sys
from pathlib import Path

from PIL import Image

from showo_turbo import ShowoPipeline
from showo_turbo.processing.image_labels import label_image
from showo_turbo.scenes.scene import Scene, SceneObject
from showo_turbo.scenes.shapes.shape_world import SHAPES

HEIGHT = 160
SCENE = Scene("white", (SceneObject(0, "circle", "red"), SceneObject(1, "star", "blue")))
PROMPT = "a red circle and a blue star"
SEED = 0


def strip(*cells: tuple[Image.Image, str]) -> Image.Image:
    """Pictures with their labels, side by side."""
    drawn = [label_image(image.convert("RGB"), text, HEIGHT) for image, text in cells]
    whole = Image.new("RGB", (sum(cell.width for cell in drawn), drawn[0].height), "white")
    left = 0
    for cell in drawn:
        whole.paste(cell, (left, 0))
        left += cell.width
    return whole


def inpainting(pipe: ShowoPipeline, image: Image.Image) -> Image.Image:
    """The left half drawn anew."""
    mask = Image.new("L", image.size)
    mask.paste(255, (0, 0, image.width // 2, image.height))
    prompts = ["a yellow cross and a blue star", "a green square and a blue star"]
    drawn = pipe.inpaint(image, mask, prompts, seed=SEED).images
    return strip((image, PROMPT), (mask, "mask"), *zip(drawn, prompts, strict=True))


def extrapolation(pipe: ShowoPipeline, image: Image.Image) -> Image.Image:
    """Half a picture more to the right, and to the left of that."""
    right = pipe.extrapolate(image, PROMPT, "right", seed=SEED).images[0]
    both = pipe.extrapolate(image, PROMPT, ["right", "left"], seed=SEED).images[0]
    return strip((image, PROMPT), (right, "right"), (both, "right, left"))


def variation(pipe: ShowoPipeline, image: Image.Image) -> Image.Image:
    """More and more of the picture drawn anew."""
    strengths = (0.3, 0.6, 0.9)
    drawn = [pipe.vary(image, PROMPT, strength, seed=SEED).images[0] for strength in strengths]
    return strip((image, PROMPT), *((one, f"strength {share}") for one, share in zip(drawn, strengths, strict=True)))


def other_shapes(pipe: ShowoPipeline) -> Image.Image:
    """Pictures that are no squares."""
    side = pipe.resolution
    wide = pipe.text_to_image("two yellow stars", width=2 * side, seed=SEED).images[0]
    tall = pipe.text_to_image("two yellow stars", height=3 * side // 2, seed=SEED).images[0]
    return strip((wide, f"two yellow stars, {wide.width} x {wide.height}"), (tall, f"{tall.width} x {tall.height}"))


def dialogue(pipe: ShowoPipeline, image: Image.Image) -> Image.Image:
    """Questions about one picture, alone and one after another."""
    questions = ["How many stars are there?", "Where is the star?"]
    alone = pipe.image_to_text(image, questions, seed=SEED).texts
    chat = pipe.chat(image)
    together = [chat.ask(question, seed=SEED).texts[0] for question in questions]
    texts = [" ".join(f"{q} {a}" for q, a in zip(questions, said, strict=True)) for said in (alone, together)]
    return strip((image, f"Alone: {texts[0]}"), (image, f"In a dialogue: {texts[1]}"))


def main() -> None:
    """Draw all of them into the folder named, docs/images if none is."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    pipe = ShowoPipeline.from_pretrained("tiny", device="cpu")
    image = SHAPES.render(SCENE)
    pictures = {
        "inpainting": inpainting(pipe, image),
        "extrapolation": extrapolation(pipe, image),
        "variation": variation(pipe, image),
        "other_shapes": other_shapes(pipe),
        "dialogue": dialogue(pipe, image),
    }
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")


if __name__ == "__main__":
    main()
