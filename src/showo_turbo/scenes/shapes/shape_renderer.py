"""Render coloured shapes: flat colours with smooth edges, 64 x 64 pixels."""

import math
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from showo_turbo.scenes.scene import Scene

SHAPE_NAMES = ("circle", "square", "triangle", "star", "cross")
COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
BACKGROUNDS = ("white", "black")

RESOLUTION = 64
QUARTER = RESOLUTION // 2
OBJECT_SIZE = 26

RGB = {
    "red": (225, 35, 35),
    "green": (30, 165, 60),
    "blue": (45, 90, 240),
    "yellow": (250, 210, 30),
    "purple": (155, 60, 200),
    "orange": (250, 130, 20),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}

_SUPERSAMPLING = 8


@cache
def shape_coverage(shape: str) -> np.ndarray:
    """Return the fraction of each pixel of a quarter that a shape covers, read-only float32 (32, 32) in [0, 1]."""
    size = QUARTER * _SUPERSAMPLING
    canvas = Image.new("L", (size, size))
    draw = ImageDraw.Draw(canvas)
    center, radius = size / 2, OBJECT_SIZE * _SUPERSAMPLING / 2

    def polar(degrees: float, distance: float) -> tuple[float, float]:
        angle = math.radians(degrees)
        return center + distance * math.sin(angle), center - distance * math.cos(angle)

    if shape == "circle":
        draw.ellipse((center - radius, center - radius, center + radius, center + radius), fill=255)
    elif shape == "square":
        half = radius * 0.9
        draw.rectangle((center - half, center - half, center + half, center + half), fill=255)
    elif shape == "triangle":
        draw.polygon(
            [(center, center - radius), (center - radius, center + radius), (center + radius, center + radius)],
            fill=255,
        )
    elif shape == "star":
        draw.polygon([polar(36 * i, radius * (1.1 if i % 2 == 0 else 0.48)) for i in range(10)], fill=255)
    elif shape == "cross":
        arm = radius * 0.36
        draw.rectangle((center - radius, center - arm, center + radius, center + arm), fill=255)
        draw.rectangle((center - arm, center - radius, center + arm, center + radius), fill=255)
    else:
        raise ValueError(f"unknown shape {shape!r}: one of {', '.join(SHAPE_NAMES)}")
    coverage = np.asarray(canvas.resize((QUARTER, QUARTER), Image.Resampling.BOX), dtype=np.float32) / 255
    coverage.setflags(write=False)
    return coverage


def render_array(scene: Scene) -> np.ndarray:
    """Render a scene as an array, uint8 (64, 64, 3)."""
    background = np.array(RGB[scene.background], dtype=np.float32)
    image = np.tile(background, (RESOLUTION, RESOLUTION, 1))
    for thing in scene.objects:
        alpha = shape_coverage(thing.noun)[..., None]
        top, left = thing.row * QUARTER, thing.column * QUARTER
        color = np.array(RGB[str(thing.color)], dtype=np.float32)
        image[top : top + QUARTER, left : left + QUARTER] = alpha * color + (1 - alpha) * background
    return image.round().astype(np.uint8)
