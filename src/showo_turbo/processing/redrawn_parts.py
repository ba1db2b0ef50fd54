"""Parts of an image that editing tasks redraw: training on them, a model learns to keep the rest in view.

inpainting     extrapolation    variation       . known
. . . .        . . ? ?          ? . . ?         ? redrawn
. ? ? .        . . ? ?          . ? . .
. ? ? .        . . ? ?          ? ? . ?
"""

import random

import torch
from torch import Tensor


def draw_redrawn_parts(count: int, side: int, known_share: float, rng: random.Random) -> Tensor:
    """Draw the codes of each image to redraw: a part of a random `known_share` of the images, all of the others.

    Returns:
        bool (count, side * side), True where redrawn.
    """
    parts = torch.ones(count, side, side, dtype=torch.bool)
    if known_share:
        for row in range(count):
            if rng.random() < known_share:
                parts[row] = draw_redrawn_part(side, rng)
    return parts.flatten(1)


def draw_redrawn_part(side: int, rng: random.Random) -> Tensor:
    """Draw the codes that an editing task redraws, bool (side, side), at least one.

    They are, equally often, a rectangle (inpainting), one half (extrapolation) or a random subset (variation).
    """
    task = rng.randrange(3)
    part = torch.zeros(side, side, dtype=torch.bool)
    if task == 0:
        height, width = rng.randint(1, side), rng.randint(1, side)
        top, left = rng.randint(0, side - height), rng.randint(0, side - width)
        part[top : top + height, left : left + width] = True
    elif task == 1:
        half = part[: side // 2] if rng.random() < 0.5 else part[:, : side // 2]
        half[:] = True
        part = part if rng.random() < 0.5 else ~part
    else:
        count = rng.randint(1, side * side - 1)
        part.view(-1)[rng.sample(range(side * side), count)] = True
    return part
