"""What a pipeline returns."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

Images = list[Image.Image] | np.ndarray | Tensor
"""Images by output type.

"pil": PIL images. "np": float32 (batch, height, width, 3) in [0, 1]. "pt": float32 (batch, 3, height, width) in [0, 1].
"latent": the codes themselves, long (batch, tokens).
"""


@dataclass(frozen=True)
class ImageOutput:
    """Generated images.

    Attributes:
        images: in the output type asked for; all images of the first prompt, then those of the second, ...
        codes: long (batch, tokens), codebook indices 0..codebook_size-1, row-major.
        forward_passes: calls of the transformer, whatever the batch.
        grid: rows and columns of the codes.
    """

    images: Images
    codes: Tensor
    forward_passes: int
    grid: tuple[int, int]


@dataclass(frozen=True)
class TextOutput:
    """Answers.

    Attributes:
        texts: one a question.
        token_ids: the ids of each answer, without the end of text.
        forward_passes: calls of the transformer, whatever the batch.
    """

    texts: list[str]
    token_ids: list[list[int]]
    forward_passes: int
