"""Outputs of the pipelines."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

Images = list[Image.Image] | np.ndarray | Tensor
"""Images in an output type.

"pil": PIL images. "np": float32 (batch, height, width, 3) in [0, 1]. "pt": float32 (batch, 3, height, width) in [0, 1].
"latent": the codes themselves, long (batch, tokens).
"""


@dataclass(frozen=True)
class ImageOutput:
    """Hold generated images.

    Attributes:
        images: in the requested output type; all images of the first prompt, then those of the second, ...
        codes: long (batch, tokens), codebook indices 0..codebook_size-1, row-major.
        forward_passes: forward passes of the transformer, whatever the batch size.
        grid: rows and columns of the codes.
    """

    images: Images
    codes: Tensor
    forward_passes: int
    grid: tuple[int, int]


@dataclass(frozen=True)
class TextOutput:
    """Hold answers.

    Attributes:
        texts: one per question.
        token_ids: the ids of each answer, without the end of text.
        forward_passes: forward passes of the transformer, whatever the batch size.
    """

    texts: list[str]
    token_ids: list[list[int]]
    forward_passes: int
