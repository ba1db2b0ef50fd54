"""Define the error for invalid input."""

_CHARACTERS = 200


class InputError(ValueError):
    """Report invalid input: the message names the input, what is wrong with it and what to choose.

    Raised before any expensive work. The command line prints the message on one line and exits with status 2.
    """


def one_line(error: object) -> str:
    """Return the message of an error on one line of printable characters, without its end if it is long."""
    text = "".join(one if one.isprintable() else " " for one in str(error)[: 4 * _CHARACTERS])
    text = " ".join(text.split()).rstrip(".") or type(error).__name__
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}..."
