"""`showo-turbo`: the commands, and how they start."""

import os
from typing import Annotated

import typer

from showo_turbo import __version__
from showo_turbo.cli.answer import ask, chat, describe
from showo_turbo.cli.app import app as page
from showo_turbo.cli.compare import compare
from showo_turbo.cli.convert import average, convert
from showo_turbo.cli.data import data
from showo_turbo.cli.demo import demo
from showo_turbo.cli.draw import edit, extrapolate, generate, inpaint, vary
from showo_turbo.cli.evaluate import evaluate
from showo_turbo.cli.exit_status import run_or_exit
from showo_turbo.cli.plan import plan
from showo_turbo.cli.report import report
from showo_turbo.cli.serve import serve
from showo_turbo.cli.show_trajectory import trajectory
from showo_turbo.cli.summarize import summarize
from showo_turbo.cli.terminal import verbosity
from showo_turbo.cli.train import distill, finetune, pretrain

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
for command in (
    generate,
    inpaint,
    extrapolate,
    vary,
    edit,
    ask,
    describe,
    chat,
    serve,
    demo,
    trajectory,
    evaluate,
    report,
    compare,
    summarize,
    convert,
    finetune,
    distill,
    plan,
    average,
):
    app.command()(command)
app.command("app")(page)
app.add_typer(pretrain, name="pretrain")
app.add_typer(data, name="data")


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"showo-turbo {__version__}")
        raise typer.Exit


@app.callback()
def showo_turbo(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print results and errors only; before the command.")] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="Print messages of libraries and tracebacks of errors; before the command."),
    ] = False,
) -> None:
    """Draw images from text and answer questions about images with one transformer."""
    verbosity.quiet, verbosity.verbose = quiet, verbose
    if quiet:
        os.environ["TQDM_DISABLE"] = "1"  # tqdm reads it when it is imported, which is later


def run() -> None:
    """Run the command in `sys.argv`; always raises SystemExit."""
    run_or_exit(app)


def run_distill() -> None:
    """Run `distill` on `sys.argv`, for launchers that start a script; always raises SystemExit."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(distill)
    run_or_exit(app)
