"""Images that clients send: checked before they are decoded, and reduced to what the model takes.

Decisions:
- A few formats are read. The number of pixels is checked from the header, so a bomb is never decoded.
- Images are cropped to the model's square here, in threads of their own, as the pipeline would do: a request that waits
  holds no large image.
"""

import base64
import binascii
from io import BytesIO

from PIL import Image
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.pipelines.image_editing import read_mask
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.image_files import load_image, open_image, resize_and_crop
from showo_turbo.serving.http.error_bodies import ApiError, invalid

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def decode_data_url(url: str) -> bytes:
    """Return the content of a data URL.

    Raises:
        ApiError: if it is not base64.
    """
    header, comma, data = url.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise invalid("image_url", "image_url is no base64 data URL: give data:image/png;base64,...")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("image_url", "image_url holds no valid base64: give data:image/png;base64,...") from None


def open_limited(data: bytes, max_pixels: float, name: str = "image") -> Image.Image:
    """Decode an image of at most so many million pixels.

    Raises:
        ApiError: if it is larger, or cannot be read.
    """
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ApiError(
            413, f"{name} is too large: give at most {max_pixels:g} million pixels", "too_large", name
        ) from None
    except Exception:  # a damaged header raises exceptions of many types
        raise invalid(name, f"{name} cannot be read as an image: give a whole {', '.join(FORMATS)}") from None
    if image.width * image.height > max_pixels * 1e6:
        raise ApiError(
            413,
            f"{name} is too large ({image.width} x {image.height}): give at most {max_pixels:g} million pixels",
            "too_large",
            name,
        )
    try:
        return open_image(image)
    except InputError as error:
        raise invalid(name, str(error)) from None


def to_model_size(image: Image.Image, pipe: ShowoPipeline) -> Image.Image:
    """Return the square of an image that the pipeline's image tokenizer reads.

    Raises:
        InputError: if its sides differ too much.
    """
    return resize_and_crop(load_image(image), pipe.resolution)


def mask_of(mask: Image.Image, image: Image.Image, pipe: ShowoPipeline) -> Tensor:
    """Return the codes to redraw, bool (1, height, width).

    Raises:
        InputError: as `read_mask`.
    """
    return read_mask(mask, image, pipe.resolution, pipe.grid_size)[None]


def has_hole(image: Image.Image) -> bool:
    """Return whether a part of an image is transparent, and not all of it."""
    if not image.has_transparency_data:
        return False
    lowest, highest = image.convert("RGBA").getchannel("A").getextrema()
    return float(lowest) < 128 <= float(highest)  # type: ignore[arg-type]
