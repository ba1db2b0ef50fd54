"""`showo-turbo`: the list of commands."""

from typing import Annotated

import typer

from showo_turbo import __version__
from showo_turbo.cli.ask import ask
from showo_turbo.cli.average import average
from showo_turbo.cli.chat import chat
from showo_turbo.cli.convert import convert
from showo_turbo.cli.demo import demo
from showo_turbo.cli.describe import describe
from showo_turbo.cli.distill import distill
from showo_turbo.cli.evaluate import evaluate
from showo_turbo.cli.exit_status import run_or_exit
from showo_turbo.cli.extrapolate import extrapolate
from showo_turbo.cli.generate import generate
from showo_turbo.cli.inpaint import inpaint
from showo_turbo.cli.pretrain import app as pretrain
from showo_turbo.cli.report import report
from showo_turbo.cli.vary import vary

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
app.command()(generate)
app.command()(inpaint)
app.command()(extrapolate)
app.command()(vary)
app.command()(ask)
app.command()(describe)
app.command()(chat)
app.command()(demo)
app.command()(evaluate)
app.command()(report)
app.command()(convert)
app.command()(distill)
app.command()(average)
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
    run_or_exit(app)


def distil_from_arguments() -> None:
    """Run `distill` on `sys.argv`, for launchers that start a script; always ends in SystemExit."""
    distil = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    distil.command()(distill)
    run_or_exit(distil)
