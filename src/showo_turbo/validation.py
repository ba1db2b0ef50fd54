"""What numbers that users give may be."""

import sys
from numbers import Integral

from showo_turbo.errors import InputError


def check_integer(name: str, value: object, minimum: int | None = None) -> None:
    """Refuse what is no whole number, or less than a minimum.

    Raises:
        InputError: then.
    """
    if type(value) is not int or (minimum is not None and value < minimum):
        raise InputError(f"{name} is {value!r}: choose a whole number" + _or_more(minimum))


def check_number(name: str, value: object, minimum: float | None = None) -> None:
    """Refuse what is no finite number, or less than a minimum.

    Raises:
        InputError: then.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if not number or (minimum is not None and value < minimum):
        raise InputError(f"{name} is {value!r}: choose a finite number" + _or_more(minimum))


def check_fraction(name: str, value: float) -> None:
    """Refuse what is no share.

    Raises:
        InputError: when it is not between 0 and 1.
    """
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}: it is a share between 0 and 1")


def check_seed(name: str, value: object) -> None:
    """Refuse what seeds no generator.

    Raises:
        InputError: when it is no whole number (numpy's are), or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= value < 2**63:
        raise InputError(f"{name} is {value!r}: choose a whole number from 0 to 2**63 - 1")


def _or_more(minimum: float | None) -> str:
    return "" if minimum is None else f", {minimum} or more"
