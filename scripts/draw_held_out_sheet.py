"""Draw a sheet of unselected images: 32 held-out prompts of a world's benchmark, evenly spaced, one image each.

python scripts/draw_held_out_sheet.py clipart docs/images/clipart_held_out.webp [--steps 4]
"""

import argparse
from pathlib import Path

import torch

from showo_turbo import ShowoPipeline
from showo_turbo.processing.image_labels import label_image
from showo_turbo.processing.images import make_grid
from showo_turbo.scenes.benchmark import benchmark_prompts
from showo_turbo.scenes.worlds import find_world

COUNT, COLUMNS, HEIGHT = 32, 8, 192


def main() -> None:
    """Draw all images with seeds 0 to 31, and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("output", type=Path)
    parser.add_argument("--world", default="clipart")
    parser.add_argument("--steps", type=int, help="as the model recommends, if left out")
    arguments = parser.parse_args()
    prompts = benchmark_prompts(world=find_world(arguments.world))
    texts = [prompts[index * len(prompts) // COUNT].prompt for index in range(COUNT)]
    pipe = ShowoPipeline.from_pretrained(arguments.model, device="cpu", dtype="float32")
    generators = [torch.Generator().manual_seed(row) for row in range(COUNT)]
    drawn = pipe.text_to_image(texts, num_inference_steps=arguments.steps, generator=generators)
    cells = [label_image(image, text, HEIGHT) for image, text in zip(drawn.images, texts, strict=True)]
    make_grid(cells, COLUMNS).save(arguments.output)


if __name__ == "__main__":
    main()
