"""Convert pixels to PIL images, and put several in one.

    pixels (B, 3, H, W) --pixels_to_images--> PIL images --label_image--> with text --make_grid--> one PIL image

Rounding is pixel-exact with the published models: levels are truncated to 8 bits.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from showo_turbo.errors import InputError


def pixels_to_images(pixels: Tensor) -> list[Image.Image]:
    """Return the PIL images of pixels (batch, 3, height, width) in [-1, 1]; values outside are clamped.

    Raises:
        InputError: if `pixels` has another shape.
    """
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise InputError(f"pixels have shape {tuple(pixels.shape)}; expected (batch, 3, height, width)")
    levels = ((pixels.detach().float().cpu() + 1) / 2).clamp(0, 1) * 255
    levels = rearrange(levels.to(torch.uint8), "batch channel height width -> batch height width channel")
    return [Image.fromarray(image.numpy()) for image in levels.contiguous()]


def make_grid(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """Paste images row by row into one on white, in cells of the size of the largest.

    Raises:
        InputError: if there are no images or no columns.
    """
    if not images or columns < 1:
        raise InputError(f"a grid of {len(images)} images in {columns} columns: expected at least one of each")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    width, height = max(image.width for image in images), max(image.height for image in images)
    grid = Image.new("RGB", (columns * width, rows * height), "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        grid.paste(image, (column * width, row * height))
    return grid
