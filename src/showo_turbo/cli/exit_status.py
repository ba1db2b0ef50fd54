"""Exit status of commands: an error of the user is one line on standard error and status 2; an interruption is 130."""

import sys
from collections.abc import Callable
from typing import NoReturn

from showo_turbo.cli.terminal import quiet_torchao
from showo_turbo.errors import InputError


def run_or_exit(command: Callable[[], object]) -> None:
    """Run a command; exit if its input is invalid, the file system fails or Ctrl-C is pressed."""
    quiet_torchao()
    try:
        command()
    except InputError as error:
        _fail(str(error))
    except OSError as error:
        where = f"{str(error.filename)!r}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)


def report_error(message: str) -> None:
    """Print an error message as one line on standard error."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)


def _fail(message: str) -> NoReturn:
    report_error(message)
    sys.exit(2)
