"""Check numbers that users give."""

import sys
from numbers import Integral

from showo_turbo.errors import InputError


def check_integer(name: str, value: object, minimum: int | None = None) -> None:
    """Check that a value is an integer, and at least a minimum.

    Raises:
        InputError: if the value is not an `int` or is less than `minimum`.
    """
    if type(value) is not int or (minimum is not None and value < minimum):
        raise InputError(f"{name} is {value!r}: choose a whole number" + _or_more(minimum))


def check_number(name: str, value: object, minimum: float | None = None) -> None:
    """Check that a value is a finite number, and at least a minimum.

    Raises:
        InputError: if the value is not an `int` or a `float`, is NaN or infinite, or is less than `minimum`.
    """
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not abs(value) <= sys.float_info.max
        or (minimum is not None and value < minimum)
    ):
        raise InputError(f"{name} is {value!r}: choose a finite number" + _or_more(minimum))


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


def _or_more(minimum: float | None) -> str:
    return "" if minimum is None else f", {minimum} or more"
