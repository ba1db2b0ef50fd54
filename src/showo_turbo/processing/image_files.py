"""Open images: formats that are data only, within a bound on memory, as 8 bits a channel.

    path, open file --open_image_file--> PIL image, still compressed --+
                                                                       +--open_image--> upright, 8 bits, own color mode
    PIL image, array --------------------------------------------------+

Decisions:
- All images that the package opens are opened here, with one list of formats. Pillow would try every format that it
  has, whatever the name of the file, and starts Ghostscript for EPS.
- Up to `MAX_PIXELS` (Pillow's own limit) an image is used as it is. A larger one is read at half its size: a JPEG as it
  is decoded, other formats in bands of rows, so that no second copy is in memory. One that takes more than `_MEMORY` to
  decode is refused.
- Gray levels of 16 bits, 32 bits or floating point are scaled to 8 bits; Pillow's own conversion clips at 255. What is
  white follows from the file (16 bits); for the modes "I" and "F", which have no range of their own, it is the smallest
  of 1 ("F" only), 255 and 65,535 that no pixel exceeds.
"""

import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from PIL import Image, ImageFile
from torch import Tensor

from showo_turbo.errors import InputError, one_line
from showo_turbo.processing.image_arrays import array_to_image

ImageSource = str | Path | BinaryIO | Image.Image | np.ndarray | Tensor
"""Path, open binary file, PIL image, or array of one image as `image_arrays.array_to_image` takes it."""

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "QOI", "TIFF", "WEBP")
"""Formats that are opened, under Pillow's names; MPO is JPEG with several images."""

MAX_PIXELS = 89_478_485
"""Pixels of the largest image that is used as it is."""

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

_BAND_PIXELS = 1 << 22

_WHITE = {"I": (255, 65535), "F": (1, 255, 65535)}

_OVERSHOOT = 0.1
"""Fraction of white by which levels in floating point may be negative, as resampling makes them."""

_STRAIGHT_ALPHA = {"La": "LA", "RGBa": "RGBA"}
"""Color modes with premultiplied alpha, which Pillow converts to few others."""

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
    if isinstance(source, np.ndarray | Tensor):
        return array_to_image(source, "image")
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
            upright = _as_8_bits(image, name)
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
    Image.init()
    try:
        return Image.open(file, formats=[kind for kind in FORMATS if kind in Image.OPEN])
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


def _as_8_bits(image: Image.Image, name: str) -> Image.Image:
    """Return an image with 8 bits a channel, at half its size if it is larger than `MAX_PIXELS`."""
    factor = 2 if image.width * image.height > MAX_PIXELS else 1
    if image.mode.startswith("I;16") or image.mode in _WHITE:
        white = _white_level(image, name)
        return _in_bands(image, "L", lambda band: _scale_levels(band, white, name), factor)
    if image.mode == "LAB":
        raise InputError(f"{name} has the color mode LAB, which is not converted: save it as RGB")
    if image.mode in _STRAIGHT_ALPHA:
        image = image.convert(_STRAIGHT_ALPHA[image.mode])
    if factor == 1:
        return image
    mode = "RGBA" if image.has_transparency_data else "L" if image.mode in ("1", "L") else "RGB"
    return _in_bands(image, mode, lambda band: band.convert(mode), factor)


def _white_level(image: Image.Image, name: str) -> float:
    """Return the level of white in a gray image of more than 8 bits.

    Raises:
        InputError: if levels are negative, or larger than those of 16 bits.
    """
    if image.mode.startswith("I;16"):
        return 65535
    low, high = cast(tuple[float, float], image.getextrema())
    _check_finite(name, np.array([low, high]))
    known = _WHITE[image.mode]
    if image.mode == "I" and (image.format in ("PNG", "PPM") or getattr(image, "tag_v2", {}).get(258) == (16,)):
        known = (65535,)
    overshoot = _OVERSHOOT if image.mode == "F" else 0
    white = next((level for level in known if high <= level + (level == 1)), None)  # resampling overshoots 1
    if white is None or low < -overshoot * white:
        ranges = " or ".join(f"0 to {level}" for level in known)
        raise InputError(f"{name} has levels from {low:g} to {high:g}: scale them to {ranges}")
    return white


def _scale_levels(band: Image.Image, white: float, name: str) -> Image.Image:
    levels = np.asarray(band).astype(np.float64) / (white / 255)
    _check_finite(name, levels)
    return Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))


def _check_finite(name: str, levels: np.ndarray) -> None:
    if not np.isfinite(levels).all():
        raise InputError(f"{name} has levels that are NaN or infinite: replace them")


def _in_bands(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image], factor: int) -> Image.Image:
    """Convert an image some rows at a time, and divide its size by `factor`."""
    result = Image.new(mode, (-(-image.width // factor), -(-image.height // factor)))
    rows = factor * max(1, _BAND_PIXELS // image.width // factor)
    for top in range(0, image.height, rows):
        band = convert(image.crop((0, top, image.width, min(top + rows, image.height))))
        result.paste(band if factor == 1 else band.reduce(factor), (0, top // factor))
    return result
