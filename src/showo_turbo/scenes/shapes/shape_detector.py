"""Detect the shapes of an image without a neural network, to score generated images.

The background is the plain colour nearest to the pixels between the quarters, which no object covers. In each quarter
the pixels that differ from the background must form one of the shapes (by intersection over union with the renderer's
template) in one of the colours; anything else is reported as unrecognised.
"""

import numpy as np
from PIL import Image

from showo_turbo.scenes.scene import QUARTERS, Detection, Scene, SceneObject, rgb_pixels
from showo_turbo.scenes.shapes.shape_renderer import (
    BACKGROUNDS,
    COLORS,
    QUARTER,
    RESOLUTION,
    RGB,
    SHAPE_NAMES,
    shape_coverage,
)

MIN_SHAPE_IOU = 0.85
MAX_COLOR_DISTANCE = 60.0
MIN_OBJECT_PIXELS = 24


def detect(image: Image.Image | np.ndarray) -> Detection:
    """Detect the scene of an image.

    Args:
        image: 64 x 64 RGB, as a PIL image or a uint8 array (64, 64, 3).

    Raises:
        InputError: if the image has another size.
    """
    pixels = rgb_pixels(image, RESOLUTION).astype(np.float32)
    background = _nearest(_gutter(pixels), BACKGROUNDS)[0]
    objects, unrecognised = [], []
    for place in range(len(QUARTERS)):
        top, left = place // 2 * QUARTER, place % 2 * QUARTER
        quarter = pixels[top : top + QUARTER, left : left + QUARTER]
        foreground = np.linalg.norm(quarter - np.array(RGB[background], dtype=np.float32), axis=-1) > 100
        if foreground.sum() < MIN_OBJECT_PIXELS:
            continue
        thing = _recognise(quarter, foreground, place)
        if thing is None:
            unrecognised.append(place)
        else:
            objects.append(thing)
    return Detection(Scene(background, tuple(objects)), tuple(unrecognised))


def _gutter(pixels: np.ndarray) -> np.ndarray:
    """Return the median colour of the image's border and of the cross between the quarters."""
    lines = [0, 1, QUARTER - 1, QUARTER, RESOLUTION - 2, RESOLUTION - 1]
    return np.median(np.concatenate([pixels[lines].reshape(-1, 3), pixels[:, lines].reshape(-1, 3)]), axis=0)


def _nearest(color: np.ndarray, names: tuple[str, ...]) -> tuple[str, float]:
    distances = [float(np.linalg.norm(color - np.array(RGB[name]))) for name in names]
    best = int(np.argmin(distances))
    return names[best], distances[best]


def _recognise(quarter: np.ndarray, foreground: np.ndarray, place: int) -> SceneObject | None:
    color, distance = _nearest(np.median(quarter[foreground], axis=0), COLORS)
    if distance > MAX_COLOR_DISTANCE:
        return None
    templates = [shape_coverage(shape) > 0.5 for shape in SHAPE_NAMES]
    overlaps = [(foreground & template).sum() / (foreground | template).sum() for template in templates]
    best = int(np.argmax(overlaps))
    return SceneObject(place, SHAPE_NAMES[best], color) if overlaps[best] >= MIN_SHAPE_IOU else None
