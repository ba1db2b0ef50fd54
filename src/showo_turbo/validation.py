"""Check numbers and names that users or files give, by themselves and against a model. No torch is imported here."""

import re
import sys
from importlib.util import find_spec
from numbers import Integral

from showo_turbo.errors import InputError
from showo_turbo.extras import install_hint

QUANTIZATIONS = ("int8", "float8")
DTYPE_NAMES = ("float32", "bfloat16", "float16")

NAMED_SCHEDULES = ("cosine", "linear", "sigmoid")

_SHOWN_CHARACTERS = 60
_MAX_EXPONENT = 100


def check_integer(name: str, value: object, minimum: int | None = None, maximum: int | None = None) -> None:
    """Check that a value is an integer in a range.

    Raises:
        InputError: if the value is not an `int`, is less than `minimum` or more than `maximum`.
    """
    if type(value) is not int or (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
        raise InputError(f"{name} is {shown(value)}: choose a whole number" + _range(minimum, maximum))


def check_number(name: str, value: object, minimum: float | None = None, maximum: float | None = None) -> None:
    """Check that a value is a finite number in a range.

    Raises:
        InputError: if the value is not an `int` or a `float`, is NaN or infinite, is less than `minimum` or more than
            `maximum`.
    """
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not abs(value) <= sys.float_info.max
        or (minimum is not None and value < minimum)
        or (maximum is not None and value > maximum)
    ):
        raise InputError(f"{name} is {shown(value)}: choose a finite number" + _range(minimum, maximum))


def check_fraction(name: str, value: float) -> None:
    """Check that a value is between 0 and 1.

    Raises:
        InputError: if it is not.
    """
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}: choose a fraction between 0 and 1")


def check_seed(name: str, value: object) -> None:
    """Check that a value can seed a random generator; numpy's integers can.

    Raises:
        InputError: if it is not an integer from 0 to 2**63 - 1.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= int(value) < 2**63:
        raise InputError(f"{name} is {value!r}: choose a whole number from 0 to 2**63 - 1")


def check_dtype(name: str) -> None:
    """Check the name of a dtype of weights.

    Raises:
        InputError: if it is not one of `DTYPE_NAMES`.
    """
    if name not in DTYPE_NAMES:
        raise InputError(f"dtype {name!r} is unknown: choose {', '.join(DTYPE_NAMES)}")


def check_quantization(name: str | None) -> None:
    """Check the name of a quantization, or None for none.

    Raises:
        InputError: if it is not one of `QUANTIZATIONS`, or torchao is not installed.
    """
    if name is not None and name not in QUANTIZATIONS:
        raise InputError(f"quantization {name!r} is unknown: choose {', '.join(QUANTIZATIONS)}, or leave it out")
    if name is not None and find_spec("torchao") is None:
        raise InputError(f"quantization {name!r} needs torchao: {install_hint('quantization')}")


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


def shown(value: object) -> str:
    """Return a value in one short line, without its middle if it is long, as an error message shows it."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or an integer of more than 4,300 digits
        text = f"a large {type(value).__name__}"
    half = _SHOWN_CHARACTERS // 2
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:half]} ... {text[-half:]}"


def _range(minimum: float | None, maximum: float | None) -> str:
    if maximum is None:
        return "" if minimum is None else f", {minimum} or more"
    return f", {maximum:,} or less" if minimum is None else f" from {minimum:,} to {maximum:,}"
