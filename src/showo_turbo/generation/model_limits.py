"""Check sizes and edits of images against the sizes of a model. No torch is imported here.

The same checks serve commands, before anything is loaded, and the pipeline.
"""

from collections.abc import Sequence

from showo_turbo.errors import InputError
from showo_turbo.generation.options import DIRECTIONS, MAX_DIRECTIONS, MAX_PIXELS_ALONG
from showo_turbo.validation import shown


def check_pixels(name: str, pixels: object, resolution: int, factor: int) -> int:
    """Check a height or width of images.

    Args:
        name: "height" or "width".
        pixels: the value.
        resolution: side of the model's own square image.
        factor: pixels along a code.

    Raises:
        InputError: if it is not a multiple of the pixels of a code, or too small or large.
    """
    if type(pixels) is not int or pixels < resolution or pixels % factor:
        raise InputError(f"{name} is {shown(pixels)}: choose a multiple of {factor} pixels, at least {resolution}")
    if pixels > MAX_PIXELS_ALONG:
        raise InputError(f"{name} is {shown(pixels)}: choose at most {MAX_PIXELS_ALONG:,} pixels")
    return pixels


def check_strength(strength: float) -> None:
    """Check the strength of a variation.

    Raises:
        InputError: if it is not above 0 and at most 1.
    """
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 < strength <= 1:
        raise InputError(f"strength is {strength!r}: choose more than 0 (the same image) to 1 (another one)")


def check_extrapolation(directions: Sequence[str], side: int, offset: int = 0) -> None:
    """Check the arguments of an extrapolation that do not depend on the images.

    Raises:
        InputError: if there is no direction or an unknown one, nothing would be added, or a window would see nothing.
    """
    if len(directions) > MAX_DIRECTIONS:
        raise InputError(f"direction has {len(directions):,} entries: give at most {MAX_DIRECTIONS}")
    if not directions:
        raise InputError(f"direction is an empty list: give at least one of {', '.join(DIRECTIONS)}")
    if unknown := [direction for direction in directions if direction not in DIRECTIONS]:
        raise InputError(f"direction is {unknown[0]!r}: choose {', '.join(DIRECTIONS)}")
    if type(offset) is not int or not 1 <= side // 2 + offset < side:
        raise InputError(f"offset is {offset!r}: choose {1 - side // 2} to {side - side // 2 - 1}")
