"""Start states of image rollouts: fully masked, or with a part of the sample's image known.

    inpainting     extrapolation    variation       . known
    . . . .        . . ? ?          ? . . ?         ? masked
    . ? ? .        . . ? ?          . ? . .
    . ? ? .        . . ? ?          ? ? . ?

Without partly known starts, a student forgets the editing tasks, which its teacher learned from random masks.
"""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from showo_turbo.data import CaptionSample
from showo_turbo.errors import InputError
from showo_turbo.generation.image_denoiser import masked_state, partly_known_state
from showo_turbo.generation.trajectory import State
from showo_turbo.pipelines.pipeline import ShowoPipeline


def start_states(
    pipe: ShowoPipeline, samples: Sequence[CaptionSample], known_share: float, rng: random.Random
) -> State:
    """Return the start of each sample's rollout; a random `known_share` of them know a part of the sample's image.

    Raises:
        InputError: if a sample that is chosen has no image.
    """
    num_codes, vocabulary = pipe.model.config.num_vq_tokens, pipe.prompts.vocabulary
    if not known_share:
        return masked_state(len(samples), num_codes, vocabulary, pipe.device)
    codes, known = torch.zeros(len(samples), num_codes, dtype=torch.long), []
    for row, sample in enumerate(samples):
        if rng.random() >= known_share:
            known.append(torch.zeros(num_codes, dtype=torch.bool))
            continue
        if sample.image is None:
            raise InputError(
                f"{sample.key} has no image, and image.known_share is {known_share}: choose captions with images, or 0"
            )
        image = sample.image
        codes[row] = image if isinstance(image, Tensor) else pipe.encode_image(image)[0]
        known.append(~draw_redrawn_part(pipe.grid_size, rng).flatten())
    return partly_known_state(codes.to(pipe.device), torch.stack(known).to(pipe.device), vocabulary)


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
