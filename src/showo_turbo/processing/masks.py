"""Convert mask images to masks of codes.

    mask --load_mask--> gray, white where to redraw --resize_and_crop, as the image--> square --bicubic--> grid of codes

Decisions:
- White is redrawn, as in Show-o. A mask that is partly transparent is redrawn where it is transparent, as in OpenAI's
  image edits and ComfyUI, so an image with a hole is a mask as well. If it is also painted in black and white, and the
  two disagree, it is refused.
- Show-o samples the mask at the middle of each code's square by bicubic interpolation without antialiasing, in float32.
"""

from typing import cast

import torch
import torch.nn.functional as F
from PIL import Image, ImageChops, ImageOps
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.processing.image_files import ImageSource, open_image, resize_and_crop, to_rgb

_DARK, _BRIGHT = 32, 224
_EDGES = 0.1
"""Fraction of a mask in black and white that may be gray, at the edges of shapes."""

_CONTRAST = 32
"""Difference of levels from which an image has a shape in it."""

_DISAGREEMENT = 0.02
"""Fraction of a mask in which brightness and transparency may differ, at the edges of shapes."""


def load_mask(source: ImageSource) -> Image.Image:
    """Read a mask as gray, white where to redraw.

    Raises:
        InputError: as `open_image`, if the mask is transparent everywhere, if its only shape is in a transparency of
            less than half, or if black and white and its transparency are different masks.
    """
    mask = open_image(source)
    gray = to_rgb(mask).convert("L")
    if not mask.has_transparency_data:
        return gray
    transparent = ImageOps.invert(mask.convert("RGBA").getchannel("A"))
    lowest, highest = cast(tuple[int, int], transparent.getextrema())
    if highest < 128:
        if highest - lowest >= _CONTRAST > _contrast(gray):
            raise InputError(
                f"mask has its shape in its transparency, which is at most {highest / 255:.0%}: make it transparent "
                "where to draw, or save it without transparency, white where to draw"
            )
        return gray
    if lowest >= 128:
        raise InputError(
            "mask is transparent everywhere: make it opaque where the image stays, or save it without transparency, "
            "white where to draw"
        )
    if _is_black_and_white(gray):
        differing = ImageChops.logical_xor(
            *(image.point(lambda level: level >= 128, "1") for image in (gray, transparent))
        )
        if differing.histogram()[255] > _DISAGREEMENT * gray.width * gray.height:
            raise InputError(
                "mask is white in one part and transparent in another, and both mean where to draw: save it without "
                "transparency, white where to draw"
            )
    return transparent


def mask_to_grid(mask: ImageSource, resolution: int, grid_size: int) -> Tensor:
    """Convert a mask image to a mask of codes: bool (grid_size, grid_size), True where to redraw.

    The mask is resized and cropped as its image is. A code is masked if the mask, interpolated at the middle of its
    square, is at least half of white.

    Args:
        mask: image of the same size as the image, see `load_mask`.
        resolution: side of the square that the image is cropped to, in pixels.
        grid_size: codes along that side.

    Raises:
        InputError: as `load_mask` and `resize_and_crop`, or if `grid_size` is not in 1..resolution.
    """
    if not 1 <= grid_size <= resolution:
        raise InputError(f"grid_size is {grid_size}; expected 1..{resolution} codes along {resolution} pixels")
    square = resize_and_crop(load_mask(mask), resolution)
    levels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).reshape(1, 1, resolution, resolution)
    sampled = F.interpolate(levels.float() / 255, size=grid_size, mode="bicubic")
    return sampled[0, 0] >= 0.5


def _contrast(gray: Image.Image) -> int:
    """Return the difference between the brightest and the darkest level of an image."""
    darkest, brightest = cast(tuple[int, int], gray.getextrema())
    return brightest - darkest


def _is_black_and_white(gray: Image.Image) -> bool:
    """Return whether an image has black and white parts, and little else."""
    counts = gray.histogram()
    dark, bright = sum(counts[:_DARK]), sum(counts[_BRIGHT:])
    return min(dark, bright) > 0 and sum(counts) - dark - bright <= _EDGES * sum(counts)
