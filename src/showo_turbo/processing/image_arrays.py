"""Convert arrays of pixels to PIL images: those of `output_type` "np" and "pt", and 8-bit ones.

Decisions:
- Levels are truncated to 8 bits, as the pipeline's own PIL images are, so that an image has the same codes in every
  output type. The small summand keeps the levels of `image / 255` as they are.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from showo_turbo.errors import InputError

_ROUNDING_ERROR = 1e-5


def array_to_image(array: np.ndarray | Tensor, name: str) -> Image.Image:
    """Return the PIL image of an array.

    Args:
        array: (height, width, 3) if numpy, (3, height, width) if torch; in floating point from 0 to 1, or uint8. A
            numpy array of gray levels has no last dimension.
        name: name of the image in error messages.

    Raises:
        InputError: if it has another shape, dtype or range, or no pixels.
    """
    if isinstance(array, Tensor):
        layout, is_image = "(3, height, width)", array.ndim == 3 and array.shape[0] == 3
        levels = array.detach().cpu()
        levels = levels.float() if levels.dtype == torch.bfloat16 else levels
        pixels = levels.movedim(0, -1).numpy() if is_image else levels.numpy()
    else:
        layout, is_image = "(height, width, 3)", array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
        pixels = array
    if not is_image or 0 in pixels.shape:
        raise InputError(f"{name} is an array of shape {tuple(array.shape)}: expected {layout}")
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind != "f":
            raise InputError(f"{name} is an array of {pixels.dtype}: expected floating point from 0 to 1, or uint8")
        lowest, highest = pixels.min(), pixels.max()
        if not (lowest >= 0 and highest <= 1):  # also if NaN
            raise InputError(f"{name} is an array of levels from {lowest:.4g} to {highest:.4g}: expected 0 to 1")
        pixels = (pixels.astype(np.float64) * 255 + _ROUNDING_ERROR).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels))
