"""Start states of image rollouts: fully masked, or with a part of the sample's image known.

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
from showo_turbo.processing.redrawn_parts import draw_redrawn_parts


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
    known = ~draw_redrawn_parts(len(samples), pipe.grid_size, known_share, rng)
    codes = torch.zeros(len(samples), num_codes, dtype=torch.long)
    for row in known.any(1).nonzero().flatten().tolist():
        image = samples[row].image
        if image is None:
            raise InputError(
                f"{samples[row].key} has no image, and image.known_share is {known_share}: choose captions with "
                "images, or 0"
            )
        codes[row] = image if isinstance(image, Tensor) else pipe.encode_image(image)[0]
    return partly_known_state(codes.to(pipe.device), known.to(pipe.device), vocabulary)
