"""`showo-turbo`: the list of commands, and what becomes of errors.

A user's mistake is one line on standard error and exit status 2; an interruption is 130.
"""

import sys
from typing import Annotated, NoReturn

import typer

from showo_turbo import __version__
from showo_turbo.cli.ask import ask
from showo_turbo.cli.convert import convert
from showo_turbo.cli.demo import demo
from showo_turbo.cli.describe import describe
from showo_turbo.cli.evaluate import evaluate
from showo_turbo.cli.generate import generate
from showo_turbo.cli.pretrain import app as pretrain
from showo_turbo.errors import InputError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
app.command()(generate)
app.command()(ask)
app.command()(describe)
app.command()(demo)
app.command()(evaluate)
app.command()(convert)
app.add_typer(pretrain, name="pretrain")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"showo-turbo {__version__}")
        raise typer.Exit


@app.callback()
def showo_turbo(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Draw images from text and answer questions about images with one transformer."""


def run() -> None:
    """Run the command in `sys.argv`; always ends in SystemExit."""
    try:
        app()
    except InputError as error:
        _fail(str(error))
    except OSError as error:
        where = f"{str(error.filename)!r}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    sys.exit(2)
