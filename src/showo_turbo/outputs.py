"""Outputs of the pipelines."""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from torch import Tensor

Images = list[Image.Image] | np.ndarray | Tensor
"""Images in an output type.

"pil": PIL images. "np": float32 (batch, height, width, 3) in [0, 1]. "pt": float32 (batch, 3, height, width) in [0, 1].
"latent": the codes themselves, long (batch, tokens).
"""


@dataclass(frozen=True)
class CanvasFrame:
    """Hold images after a forward pass.

    Attributes:
        images: one for each image of the batch, as it would be if its guesses were final.
        known: bool (batch, rows, columns), the codes that are final.
        forward_passes: forward passes so far; 0 at the start.
    """

    images: list[Image.Image]
    known: Tensor
    forward_passes: int


@dataclass(frozen=True)
class AnswerFrame:
    """Hold an answer after a forward pass: one iterate of Jacobi decoding.

    Attributes:
        tokens: texts of the settled tokens, and of the guesses that follow them in the block.
        num_settled: number of tokens that are final.
        forward_passes: forward passes so far; 0 at the start.
    """

    tokens: list[str]
    num_settled: int
    forward_passes: int


@dataclass(frozen=True)
class ImageOutput:
    """Hold generated images.

    In a notebook, an output with a trajectory shows it.

    Attributes:
        images: in the requested output type; all images of the first prompt, then those of the second, ...
        codes: long (batch, tokens), codebook indices 0..codebook_size-1, row-major.
        forward_passes: forward passes of the transformer, whatever the batch size.
        grid: rows and columns of the codes.
        trajectory: the images at the start and after every forward pass, with `return_trajectory`.
    """

    images: Images
    codes: Tensor
    forward_passes: int
    grid: tuple[int, int]
    trajectory: list[CanvasFrame] | None = None

    def _repr_html_(self) -> str | None:
        return None if self.trajectory is None else _as_html(self, len(self.codes))


@dataclass(frozen=True)
class TextOutput:
    """Hold answers.

    In a notebook, an output with trajectories shows them.

    Attributes:
        texts: one per question.
        token_ids: the ids of each answer, without the end of text.
        forward_passes: forward passes of the transformer, whatever the batch size.
        trajectory: of each answer, its first guesses and what it was after every forward pass, with
            `return_trajectory`.
    """

    texts: list[str]
    token_ids: list[list[int]]
    forward_passes: int
    trajectory: list[list[AnswerFrame]] | None = None

    def _repr_html_(self) -> str | None:
        return None if self.trajectory is None else _as_html(self, len(self.texts))


def _as_html(output: ImageOutput | TextOutput, count: int) -> str:
    """Return pictures of the trajectories of an output, for notebooks."""
    from showo_turbo.plots.trajectories import plot_trajectory

    pictures = []
    for index in range(count):
        buffer = BytesIO()
        plot_trajectory(output, index=index).save(buffer, format="PNG")
        pictures.append(
            f'<img alt="trajectory {index + 1}" src="data:image/png;base64,{b64encode(buffer.getvalue()).decode()}">'
        )
    return "<br>".join(pictures)
