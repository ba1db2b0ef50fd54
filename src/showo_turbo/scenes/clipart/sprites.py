"""Sprites of the clip-art world: 67 classes, eleven of them in several colors.

`scripts/make_clipart_sprites.py` renders the files from Fluent Emoji (flat) by Microsoft; see `sprites/LICENSE`.
"""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "sprites"
SPRITE_SIZE = 128

COLORS = ("red", "green", "blue", "yellow")

# fmt: off
_TINTED = ("balloon", "bicycle", "book", "car", "chair", "flower", "heart", "shirt", "star", "umbrella")
_PLAIN = (
    "airplane", "backpack", "banana", "basketball", "bear", "bed", "bird", "boat", "bottle", "broccoli", "bus",
    "butterfly", "cake", "carrot", "cat", "cell phone", "clock", "cow", "cup", "dog", "donut", "elephant", "fish",
    "giraffe", "guitar", "handbag", "horse", "hot dog", "house", "kite", "knife", "laptop", "motorcycle", "orange",
    "pizza", "potted plant", "rocket", "sandwich", "scissors", "sheep", "skateboard", "spoon", "stop sign",
    "suitcase", "teddy bear", "tennis racket", "toilet", "toothbrush", "traffic light", "train", "tree", "truck",
    "tv", "vase", "wine glass", "zebra",
)
# fmt: on

COLORS_OF: dict[str, tuple[str | None, ...]] = {
    **dict.fromkeys(_PLAIN, (None,)),
    **dict.fromkeys(_TINTED, COLORS),
    "apple": ("red", "green", "yellow"),
}
"""Colors of every class; (None,) for a class whose color is not named."""

LOOKS = tuple((noun, color) for noun, colors in COLORS_OF.items() for color in colors)


@cache
def sprite(noun: str, color: str | None, size: int) -> np.ndarray:
    """Return a sprite on white, read-only uint8 (size, size, 3); `size` divides SPRITE_SIZE."""
    with Image.open(FOLDER / f"{noun}.png") as file:
        row = np.asarray(file.convert("RGB"))
    start, factor = COLORS_OF[noun].index(color) * SPRITE_SIZE, SPRITE_SIZE // size
    look = row[:, start : start + SPRITE_SIZE]
    blocks = look.reshape(size, factor, size, factor, 3).astype(np.float64)
    pixels = blocks.mean((1, 3)).round().astype(np.uint8)
    pixels.setflags(write=False)
    return pixels
