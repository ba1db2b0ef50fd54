"""Define the error for invalid input."""


class InputError(ValueError):
    """Report invalid input: the message names the input, what is wrong with it and what to choose.

    Raised before any expensive work. The command line prints the message on one line and exits with status 2.
    """
