"""Check options and arguments of tasks that draw against the sizes of a model. No torch is imported here.

The same checks serve commands, before anything is loaded, and the pipeline.
"""

import re
from collections.abc import Sequence

from showo_turbo.errors import InputError
from showo_turbo.generation.options import DIRECTIONS, MAX_DIRECTIONS, MAX_PIXELS_ALONG
from showo_turbo.validation import shown

NAMED_SCHEDULES = ("cosine", "linear", "sigmoid")

_MAX_EXPONENT = 100


def check_steps(num_inference_steps: int, num_codes: int) -> None:
    """Check a number of steps against the codes of an image.

    Raises:
        InputError: if there are fewer steps than one or more than codes.
    """
    if not 1 <= num_inference_steps <= num_codes:
        raise InputError(f"num_inference_steps is {num_inference_steps}: choose 1 to {num_codes} (the image's codes)")


def check_top_k(top_k: int | None, codebook_size: int) -> None:
    """Check a number of codes to sample among.

    Raises:
        InputError: if it is less than 1 or more than the codebook's size.
    """
    if top_k is not None and not 1 <= top_k <= codebook_size:
        raise InputError(f"top_k is {top_k}: choose 1 to {codebook_size} (the codebook's size), or None")


def schedule_exponent(name: str) -> float | None:
    """Return X of a mask schedule "powX", as in "pow2", or None for one of `NAMED_SCHEDULES`.

    Raises:
        InputError: if there is no schedule of that name.
    """
    if str(name) in NAMED_SCHEDULES:
        return None
    exponent = re.fullmatch(r"pow(\d+\.?\d*|\.\d+)", str(name))
    if exponent and 0 < float(exponent[1]) <= _MAX_EXPONENT:
        return float(exponent[1])
    raise InputError(
        f"schedule {shown(name)} is unknown: use {', '.join(NAMED_SCHEDULES)} or powX with a number X > 0, as in pow2 "
        f"(up to pow{_MAX_EXPONENT})"
    )


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


def check_positions(length: int, max_new_tokens: int, positions: int, prompt: str) -> None:
    """Check that a prompt and its answer fit the positions of a model.

    Args:
        length: tokens of the prompt.
        max_new_tokens: tokens of the longest answer.
        positions: of the model.
        prompt: names the parts of the prompt.

    Raises:
        InputError: if they do not.
    """
    if length + max_new_tokens > positions:
        raise InputError(
            f"{prompt} take {length} tokens and max_new_tokens is {max_new_tokens}, but the model has {positions} "
            "positions: shorten the question, or choose fewer new tokens"
        )


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
