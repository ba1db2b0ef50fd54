"""`showo-turbo chat`: a dialogue about an image, a question a line."""

import sys
from collections.abc import Iterator
from dataclasses import asdict

import typer

from showo_turbo.cli.option_groups import AnsweringOptions, with_options
from showo_turbo.cli.options import ImageFile, load_pipeline
from showo_turbo.cli.terminal import TextPrinter, stats_line
from showo_turbo.errors import InputError


@with_options
def chat(image: ImageFile, options: AnsweringOptions) -> None:
    """Talk about an image: every line of the input is a question, read with all that was said before."""
    from showo_turbo.processing.images import load_image

    decoding, picture = asdict(options.decoding_options()), load_image(image)
    pipe = load_pipeline(options.model, options.device, options.dtype, options.quantization)
    dialogue = pipe.chat(picture)
    for question in _questions():
        answer = dialogue.ask(question, **decoding, seed=0, streamer=TextPrinter(pipe.prompts))
        if options.stats:
            typer.echo(stats_line(answer, options.max_new_tokens))


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
