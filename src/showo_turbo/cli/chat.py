"""`showo-turbo chat`: a dialogue about an image, a question a line."""

import sys
from collections.abc import Iterator
from dataclasses import asdict

import typer

from showo_turbo.cli.exit_status import report_error
from showo_turbo.cli.option_groups import AnsweringOptions, with_options
from showo_turbo.cli.options import ImageFile, load_pipeline
from showo_turbo.cli.terminal import TextPrinter, stats_line
from showo_turbo.errors import InputError


@with_options
def chat(image: ImageFile, options: AnsweringOptions) -> None:
    """Talk about an image: every line of the input is a question, read with all that was said before.

    A question that cannot be asked is reported, and the dialogue goes on; the exit status is then 2. The shipped
    models have learnt single questions only, and often answer later ones wrongly: `ask` puts each by itself.
    """
    from showo_turbo.processing.images import load_image

    decoding, picture = asdict(options.decoding_options()), load_image(image)
    pipe = load_pipeline(options.model, options.device, options.dtype, options.quantization)
    dialogue = pipe.chat(picture)
    unasked = 0
    for question in _questions():
        try:
            answer = dialogue.ask(question, **decoding, seed=0, streamer=TextPrinter(pipe.prompts))
        except InputError as error:
            report_error(str(error))
            unasked += 1
            continue
        if options.stats:
            typer.echo(stats_line(answer, options.max_new_tokens))
    if unasked:
        raise typer.Exit(2)


def _questions() -> Iterator[str]:
    """Lines of standard input that hold anything, to its end; a person is prompted for them."""
    interactive = sys.stdin.isatty()
    while True:
        if interactive:
            typer.echo("> ", nl=False, err=True)
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError as error:
            raise InputError(f"standard input is in another encoding than the terminal's ({error})") from error
        if not line:
            return
        if line.strip():
            yield line.strip()
