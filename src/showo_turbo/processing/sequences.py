"""Concatenate prompts and images to the sequences that the transformer takes."""

import torch
from torch import Tensor

from showo_turbo.vocabulary import Vocabulary


def image_sequences(prompts: Tensor, image: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Return `prompt [soi] image [eoi]`.

    Args:
        prompts: long (batch, length), left-padded.
        image: long (batch, n), ids of codes and masks.
        vocabulary: the id layout.

    Returns:
        long (batch, length + n + 2); the image ends one before the last position.
    """
    border = torch.full_like(image[:, :1], vocabulary.soi_id)
    return torch.cat([prompts, border, image, torch.full_like(border, vocabulary.eoi_id)], dim=1)
