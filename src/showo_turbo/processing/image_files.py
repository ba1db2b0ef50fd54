"""Read images: formats that are data only, within a bound on memory. No torch is imported for files.

    path, file, PIL image, array --open_image--> upright, 8 bits --load_image--> RGB --resize_and_crop--> square
    square --image_to_pixels--> (3, height, width) in [-1, 1]

Decisions:
- All images that the package opens are opened here, with one list of formats. Pillow would try every format that it
  has, whatever the name of the file, and starts Ghostscript for EPS.
- Up to `MAX_PIXELS` (Pillow's own limit) an image is used as it is. A larger one is read at half its size: a JPEG as it
  is decoded, other formats in bands of rows, so that no second copy is in memory. One that takes more than `_MEMORY` to
  decode is refused.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, Union, cast

import numpy as np
from PIL import Image, ImageFile

from showo_turbo.errors import InputError, one_line
from showo_turbo.processing.image_levels import MAX_PIXELS, to_8_bits

if TYPE_CHECKING:
    from torch import Tensor

ImageSource: TypeAlias = Union[str, Path, BinaryIO, Image.Image, np.ndarray, "Tensor"]
"""Path, open binary file, PIL image, or array of one image as `image_arrays.array_to_image` takes it."""

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "QOI", "TIFF", "WEBP")
"""Formats that are opened, under Pillow's names; MPO is JPEG with several images."""

MAX_FILE_BYTES = 1 << 29
"""Size of the largest file of an image."""

_MEMORY = 3 << 28
"""Bytes that an image may take while it is decoded."""

_COPIES = {"AVIF": 3, "JPEG2000": 5, "TIFF": 2, "WEBP": 4.2}
"""Memory that decoders take, as a multiple of the decoded image, where it is not 1 (measured)."""

_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}
"""Bytes that Pillow stores for a pixel, by color mode, where they are not 4."""

_PROGRESSIVE_JPEG_BYTES = 6
"""Bytes of a pixel's coefficients, all of which are in memory while a progressive JPEG is decoded."""

_LARGEST_ASPECT_RATIO = 50

_MODES_OF_8_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV")

_EXIF_ORIENTATION = 0x0112
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(source: ImageSource) -> Image.Image:
    """Read an image with 8 bits a channel in its own color mode, and apply its EXIF orientation.

    Raises:
        InputError: if the file does not exist, is too large, is not an image in one of `FORMATS`, or has no pixels, or
            if gray levels have no known range.
    """
    if isinstance(source, np.ndarray) or hasattr(source, "numpy"):
        from showo_turbo.processing.image_arrays import array_to_image

        return array_to_image(cast("np.ndarray | Tensor", source), "image")
    if not isinstance(source, (str, Path, Image.Image)) and not hasattr(source, "read"):
        raise InputError(
            f"image is a {type(source).__name__}; expected a path, an open binary file, a PIL image or an array"
        )
    name = f"image {str(source)!r}" if isinstance(source, (str, Path)) else "image"
    try:
        with _as_pil(source, name) as image:
            _check_pixels(image, name)
            image.load()
            orientation = _orientation(image)
            as_it_is = image.mode in _MODES_OF_8_BITS and image.width * image.height <= MAX_PIXELS
            upright = image if as_it_is else to_8_bits(image, name)
    except FileNotFoundError:
        raise InputError(f"{name} does not exist: expected the path of an image file") from None
    except Image.DecompressionBombError:
        raise _too_large(name, f"more than {2 * MAX_PIXELS // 10**6} million pixels") from None
    except InputError:
        raise
    except Exception as error:  # a damaged file raises exceptions of many types
        reason = one_line(error)
        raise InputError(f"{name} cannot be read ({reason}): expected a whole PNG, JPEG or the like") from error
    method = _TO_UPRIGHT.get(orientation)
    return upright if method is None else upright.transpose(method)


def load_image(source: ImageSource) -> Image.Image:
    """Read an image as RGB.

    Raises:
        InputError: as `open_image`.
    """
    return to_rgb(open_image(source))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image, as `open_image` returns it, to RGB; transparency is dropped."""
    if image.mode == "P" and image.has_transparency_data:
        image = image.convert("RGBA")  # Pillow warns of one step
    return image.convert("RGB")


def resize_and_crop(image: Image.Image, resolution: int) -> Image.Image:
    """Resize the shorter side to `resolution` (bicubic) and crop the center square.

    Raises:
        InputError: if `resolution` is not positive, or as `check_aspect_ratio`.
    """
    if resolution < 1:
        raise InputError(f"resolution is {resolution}; expected a positive number of pixels")
    check_aspect_ratio(image)
    shorter = min(image.size)
    width, height = (resolution if side == shorter else int(resolution * side / shorter) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - resolution) / 2), round((height - resolution) / 2)
    return image.crop((left, top, left + resolution, top + resolution))


def check_aspect_ratio(image: Image.Image) -> None:
    """Check that a center crop keeps a fair part of the image.

    Raises:
        InputError: if one side is more than 50 times the other.
    """
    shorter, longer = sorted(image.size)
    if longer > _LARGEST_ASPECT_RATIO * shorter:
        raise InputError(
            f"image is {image.width} x {image.height}; "
            f"expected sides that differ at most {_LARGEST_ASPECT_RATIO}-fold: crop it first"
        )


def check_same_size(image: Image.Image, mask: Image.Image) -> None:
    """Check that a mask has the size of its image.

    Raises:
        InputError: if it has another one.
    """
    if mask.size != image.size:
        sizes = [" x ".join(map(str, one.size)) for one in (mask, image)]
        raise InputError(f"mask is {sizes[0]} pixels and the image {sizes[1]}: give a mask of the image's size")


def image_to_pixels(image: Image.Image) -> Tensor:
    """Return the pixels of an RGB image, float32 (3, height, width) in [-1, 1]."""
    import torch
    from einops import rearrange

    levels = torch.from_numpy(np.array(image))
    return rearrange((levels.float() / 255 - 0.5) / 0.5, "height width channel -> channel height width").contiguous()


def preprocess_images(sources: Sequence[ImageSource], resolution: int) -> Tensor:
    """Read, resize and crop images into one batch, float32 (batch, 3, resolution, resolution) in [-1, 1].

    Raises:
        InputError: if there are no images, or as `load_image` and `resize_and_crop`.
    """
    if not sources:
        raise InputError("images is empty; expected at least one image")
    import torch

    return torch.stack([image_to_pixels(resize_and_crop(load_image(source), resolution)) for source in sources])


def readable_formats() -> list[str]:
    """Return those of `FORMATS` that the installed Pillow reads."""
    Image.init()
    return [kind for kind in FORMATS if kind in Image.OPEN]


@contextmanager
def _as_pil(source: str | Path | BinaryIO | Image.Image, name: str) -> Iterator[Image.Image]:
    """Yield a PIL image that may not be decoded yet; Pillow's warning of large images is silent in the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        if isinstance(source, Image.Image):
            if isinstance(source, ImageFile.ImageFile) and source.tile and source.format not in FORMATS:
                raise InputError(f"{name} is an {source.format} file, which is not opened: choose {_formats()}")
            yield source
        elif isinstance(source, (str, Path)):
            if not stat.S_ISREG(os.stat(source).st_mode):
                raise InputError(f"{name} cannot be read (it is not a plain file): expected an image file")
            with open(source, "rb") as file, _open_file(file, name) as image:
                yield image
        else:
            with _open_file(source, name) as image:
                yield image


def _open_file(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Open an image of a file by its content."""
    if not (hasattr(file, "seekable") and file.seekable()):
        file = BytesIO(file.read(MAX_FILE_BYTES + 1))
    size = file.seek(0, os.SEEK_END)
    if size > MAX_FILE_BYTES:
        raise _too_large(name, f"more than {MAX_FILE_BYTES >> 20} MiB")
    try:
        return Image.open(file, formats=readable_formats())
    except Image.UnidentifiedImageError:
        raise InputError(f"{name} cannot be read as an image: expected {_formats()}") from None


def _check_pixels(image: Image.Image, name: str) -> None:
    """Raise `InputError` if an image has no pixels or takes too much memory; read a large JPEG at half its size."""
    size = f"{image.width} x {image.height}"
    if 0 in image.size:
        raise InputError(f"{name} has no pixels: its size is {size}")
    if not isinstance(image, ImageFile.ImageFile):
        return
    pixels = image.width * image.height
    memory = pixels * _PIXEL_BYTES.get(image.mode, 4) * _COPIES.get(image.format or "", 1)
    if image.format in ("JPEG", "MPO"):
        coefficients = pixels * _PROGRESSIVE_JPEG_BYTES * ("progressive" in image.info)
        if pixels > MAX_PIXELS or memory + coefficients > _MEMORY:
            image.draft(None, (image.width // 2, image.height // 2))
            memory /= 4
        memory += coefficients
    if pixels > 2 * MAX_PIXELS or memory > _MEMORY:
        raise _too_large(name, f"{size} pixels")


def _too_large(name: str, size: str) -> InputError:
    return InputError(f"{name} is too large ({size}): scale it down first")


def _formats() -> str:
    return ", ".join(kind for kind in FORMATS if kind != "MPO")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 if there is none or the metadata is damaged."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged metadata raises exceptions of many types
        return 1
