"""Exit status of commands: an error of the user is one line on standard error and status 2; an interruption is 130."""

import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from showo_turbo.cli.terminal import accept_any_text, silence_standard_output, verbosity
from showo_turbo.errors import InputError


def run_or_exit(command: Callable[[], object]) -> None:
    """Run a command; exit if its input is invalid, the file system fails or Ctrl-C is pressed."""
    accept_any_text(sys.stdout, sys.stderr)
    try:
        command()
        sys.stdout.flush()
    except InputError as error:
        _fail(str(error))
    except BrokenPipeError:  # the reader, such as `head`, has what it needs
        silence_standard_output()
        sys.exit(0)
    except OSError as error:
        where = f"{str(error.filename)!r}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)


def report_error(message: str) -> None:
    """Print an error message as one line on standard error."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)


def _fail(message: str) -> NoReturn:
    if verbosity.verbose:
        traceback.print_exc()
    report_error(message)
    sys.exit(2)
