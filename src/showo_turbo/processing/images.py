"""Convert images between files, PIL and pixel tensors.

    path, open file or PIL --load_image--> RGB --resize_and_crop--> square --image_to_pixels--> (3, H, W) in [-1, 1]
    pixels (B, 3, H, W) --pixels_to_images--> PIL images --make_grid--> one PIL image

Resizing and rounding are pixel-exact with the published models; the last step truncates to 8 bits.
"""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.processing.image_files import ImageSource, open_image

_LARGEST_ASPECT_RATIO = 50


def load_image(source: ImageSource) -> Image.Image:
    """Read an image as RGB.

    Raises:
        InputError: as `open_image`.
    """
    return to_rgb(open_image(source))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image, as `open_image` returns it, to RGB; transparency is dropped."""
    if image.mode == "P" and image.has_transparency_data:
        image = image.convert("RGBA")  # Pillow warns of one step
    return image.convert("RGB")


def resize_and_crop(image: Image.Image, resolution: int) -> Image.Image:
    """Resize the shorter side to `resolution` (bicubic) and crop the center square.

    Raises:
        InputError: if `resolution` is not positive, or as `check_aspect_ratio`.
    """
    if resolution < 1:
        raise InputError(f"resolution is {resolution}; expected a positive number of pixels")
    check_aspect_ratio(image)
    shorter = min(image.size)
    width, height = (resolution if side == shorter else int(resolution * side / shorter) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - resolution) / 2), round((height - resolution) / 2)
    return image.crop((left, top, left + resolution, top + resolution))


def check_aspect_ratio(image: Image.Image) -> None:
    """Check that a center crop keeps a fair part of the image.

    Raises:
        InputError: if one side is more than 50 times the other.
    """
    shorter, longer = sorted(image.size)
    if longer > _LARGEST_ASPECT_RATIO * shorter:
        raise InputError(
            f"image is {image.width} x {image.height}; "
            f"expected sides that differ at most {_LARGEST_ASPECT_RATIO}-fold: crop it first"
        )


def image_to_pixels(image: Image.Image) -> Tensor:
    """Return the pixels of an RGB image, float32 (3, height, width) in [-1, 1]."""
    levels = torch.from_numpy(np.array(image))
    return rearrange((levels.float() / 255 - 0.5) / 0.5, "height width channel -> channel height width").contiguous()


def preprocess_images(sources: Sequence[ImageSource], resolution: int) -> Tensor:
    """Read, resize and crop images into one batch, float32 (batch, 3, resolution, resolution) in [-1, 1].

    Raises:
        InputError: if there are no images, or as `load_image` and `resize_and_crop`.
    """
    if not sources:
        raise InputError("images is empty; expected at least one image")
    return torch.stack([image_to_pixels(resize_and_crop(load_image(source), resolution)) for source in sources])


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
