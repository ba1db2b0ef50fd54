"""The one kind of error a user can cause."""


class InputError(ValueError):
    """A request that cannot be met: its message names the input, what is wrong with it and what would be right.

    Raised before any heavy work. The command line prints the message on one line and exits with status 2.
    """
