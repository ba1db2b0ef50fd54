"""ComfyUI's tensors to PNG files and back.

IMAGE is float (batch, height, width, 3) in 0..1, MASK float (batch, height, width), 1 where an image is redrawn.
"""

import base64
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
from PIL import Image


def image_to_png(image: torch.Tensor) -> bytes:
    """Return an image, float (height, width, 3 or more), as a PNG file; further channels are left out."""
    return _png(Image.fromarray(_levels(image[..., :3]), "RGB"))


def mask_to_png(mask: torch.Tensor, size: tuple[int, int]) -> bytes:
    """Return a mask, float (height, width), as a PNG file of a size (width, height), white where it is 1."""
    opened = Image.fromarray(_levels(mask), "L")
    return _png(opened if opened.size == size else opened.resize(size, Image.Resampling.BILINEAR))


def images_from_base64(files: Sequence[str]) -> torch.Tensor:
    """Return files of equal size as float (batch, height, width, 3)."""
    opened = [Image.open(BytesIO(base64.b64decode(file))).convert("RGB") for file in files]
    return torch.from_numpy(np.stack([np.asarray(image) for image in opened]).astype(np.float32) / 255)


def _levels(values: torch.Tensor) -> np.ndarray:
    return (values.detach().cpu().float().numpy() * 255).round().clip(0, 255).astype(np.uint8)


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
