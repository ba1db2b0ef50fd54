"""Detect the sprites of an image without a neural network, to score generated images.

The image is compared with every sprite as a whole, then quarter by quarter, at a quarter of the resolution. The nearest
template wins if its residual is small against the template's own distance from white, in each half of it: the left, the
right, the upper and the lower one, so that an image of half one and half another object is none. Anything else that is
not blank is reported as unrecognised.
"""

from functools import cache

import numpy as np
from PIL import Image

from showo_turbo.scenes.clipart.sprites import LOOKS, SPRITE_SIZE, sprite
from showo_turbo.scenes.scene import MIDDLE, QUARTERS, Detection, Look, Scene, SceneObject, rgb_pixels

RESOLUTION = SPRITE_SIZE
QUARTER = RESOLUTION // 2
BACKGROUND = "white"

TEMPLATE_SIZE = 32
MAX_RESIDUAL = 0.2
"""Squared distance to the nearest template in each of its halves, relative to the half's own from white."""
MIN_HALF_SHARE = 0.3
"""A half counts as at least this fraction of its template: some sprites have a nearly white half."""
MAX_BLANK = 0.05
"""Squared distance from white of an empty quarter, relative to that of the palest sprite."""


@cache
def _templates() -> tuple[np.ndarray, np.ndarray]:
    """Return the sprites as distances from white (num_looks, size, size, 3), and their squared norms (num_looks,)."""
    templates = 255.0 - np.stack([sprite(noun, color, TEMPLATE_SIZE) for noun, color in LOOKS])
    return templates, (templates**2).sum((1, 2, 3))


def detect(image: Image.Image | np.ndarray) -> Detection:
    """Detect the scene of an image.

    Args:
        image: 128 x 128 RGB, as a PIL image or a uint8 array (128, 128, 3).

    Raises:
        InputError: if the image has another size.
    """
    pixels = rgb_pixels(image, RESOLUTION).astype(np.float64)
    if whole := _nearest_look(pixels):
        return Detection(Scene(BACKGROUND, (SceneObject(MIDDLE, *whole),)), ())
    objects, unrecognised = [], []
    for place in range(len(QUARTERS)):
        top, left = place // 2 * QUARTER, place % 2 * QUARTER
        quarter = pixels[top : top + QUARTER, left : left + QUARTER]
        if _is_blank(quarter):
            continue
        if look := _nearest_look(quarter):
            objects.append(SceneObject(place, *look))
        else:
            unrecognised.append(place)
    return Detection(Scene(BACKGROUND, tuple(objects)), tuple(unrecognised))


def _reduced(pixels: np.ndarray) -> np.ndarray:
    """Return distances from white at the templates' size, (size, size, 3)."""
    factor = len(pixels) // TEMPLATE_SIZE
    blocks = pixels.reshape(TEMPLATE_SIZE, factor, TEMPLATE_SIZE, factor, 3)
    return 255.0 - blocks.mean((1, 3))


def _nearest_look(pixels: np.ndarray) -> Look | None:
    templates, norms = _templates()
    residuals = (templates - _reduced(pixels)) ** 2
    best = int(residuals.sum((1, 2, 3)).argmin())
    floor = MIN_HALF_SHARE * norms[best]
    halves = zip(_halves(residuals[best]), _halves(templates[best] ** 2), strict=True)
    return LOOKS[best] if all(part <= MAX_RESIDUAL * max(norm, floor) for part, norm in halves) else None


def _halves(values: np.ndarray) -> tuple[float, ...]:
    """Return the sums over the upper, lower, left and right half of (size, size, 3)."""
    middle = TEMPLATE_SIZE // 2
    return tuple(part.sum() for part in (values[:middle], values[middle:], values[:, :middle], values[:, middle:]))


def _is_blank(quarter: np.ndarray) -> bool:
    return bool((_reduced(quarter) ** 2).sum() <= MAX_BLANK * _templates()[1].min())
