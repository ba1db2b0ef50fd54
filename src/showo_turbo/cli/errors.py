"""What becomes of errors: a user's mistake is one line on standard error and exit status 2; an interruption is 130."""

import sys
from collections.abc import Callable
from typing import NoReturn

from showo_turbo.errors import InputError


def run_or_exit(command: Callable[[], object]) -> None:
    """Run a command; end the process when it fails by its input, the file system, or an interruption."""
    try:
        command()
    except InputError as error:
        _fail(str(error))
    except OSError as error:
        where = f"{str(error.filename)!r}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
