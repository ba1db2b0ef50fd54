"""Bring images to 8 bits a channel.

Decisions:
- Gray levels of 16 bits, 32 bits or floating point are scaled; Pillow's own conversion clips at 255. What is white
  follows from the file (16 bits); for the modes "I" and "F", which have no range of their own, it is the smallest of 1
  ("F" only), 255 and 65,535 that no pixel exceeds.
- An image of more than `MAX_PIXELS` is converted in bands of rows, at half its size, so that no second copy is in
  memory.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
from PIL import Image

from showo_turbo.errors import InputError

MAX_PIXELS = 89_478_485
"""Pixels of the largest image that is used as it is."""

_BAND_PIXELS = 1 << 22

_WHITE = {"I": (255, 65535), "F": (1, 255, 65535)}

_OVERSHOOT = 0.1
"""Fraction of white by which levels in floating point may be negative, as resampling makes them."""

_STRAIGHT_ALPHA = {"La": "LA", "RGBa": "RGBA"}
"""Color modes with premultiplied alpha, which Pillow converts to few others."""


def to_8_bits(image: Image.Image, name: str) -> Image.Image:
    """Return an image with 8 bits a channel, at half its size if it is larger than `MAX_PIXELS`."""
    factor = 2 if image.width * image.height > MAX_PIXELS else 1
    if image.mode.startswith("I;16") or image.mode in _WHITE:
        white = _white_level(image, name)
        return _in_bands(image, "L", lambda band: _scale_levels(band, white, name), factor)
    if image.mode == "LAB":
        raise InputError(f"{name} has the color mode LAB, which is not converted: save it as RGB")
    if image.mode in _STRAIGHT_ALPHA:
        image = image.convert(_STRAIGHT_ALPHA[image.mode])
    if factor == 1:
        return image
    mode = "RGBA" if image.has_transparency_data else "L" if image.mode in ("1", "L") else "RGB"
    return _in_bands(image, mode, lambda band: band.convert(mode), factor)


def _white_level(image: Image.Image, name: str) -> float:
    """Return the level of white in a gray image of more than 8 bits.

    Raises:
        InputError: if levels are negative, or larger than those of 16 bits.
    """
    if image.mode.startswith("I;16"):
        return 65535
    low, high = cast(tuple[float, float], image.getextrema())
    _check_finite(name, np.array([low, high]))
    known = _WHITE[image.mode]
    if image.mode == "I" and (image.format in ("PNG", "PPM") or getattr(image, "tag_v2", {}).get(258) == (16,)):
        known = (65535,)
    overshoot = _OVERSHOOT if image.mode == "F" else 0
    white = next((level for level in known if high <= level + (level == 1)), None)  # resampling overshoots 1
    if white is None or low < -overshoot * white:
        ranges = " or ".join(f"0 to {level}" for level in known)
        raise InputError(f"{name} has levels from {low:g} to {high:g}: scale them to {ranges}")
    return white


def _scale_levels(band: Image.Image, white: float, name: str) -> Image.Image:
    levels = np.asarray(band).astype(np.float64) / (white / 255)
    _check_finite(name, levels)
    return Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))


def _check_finite(name: str, levels: np.ndarray) -> None:
    if not np.isfinite(levels).all():
        raise InputError(f"{name} has levels that are NaN or infinite: replace them")


def _in_bands(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image], factor: int) -> Image.Image:
    """Convert an image some rows at a time, and divide its size by `factor`."""
    result = Image.new(mode, (-(-image.width // factor), -(-image.height // factor)))
    rows = factor * max(1, _BAND_PIXELS // image.width // factor)
    for top in range(0, image.height, rows):
        band = convert(image.crop((0, top, image.width, min(top + rows, image.height))))
        result.paste(band if factor == 1 else band.reduce(factor), (0, top // factor))
    return result
