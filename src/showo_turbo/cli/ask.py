"""`showo-turbo ask`: questions about an image, answered on the terminal."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from showo_turbo.cli.option_groups import AnsweringOptions, with_options
from showo_turbo.cli.options import ImageFile, load_pipeline
from showo_turbo.cli.terminal import TextPrinter, stats_line


@with_options
def ask(
    image: ImageFile,
    questions: Annotated[list[str], typer.Argument(help="One question or several.", show_default=False)],
    options: AnsweringOptions,
) -> None:
    """Answer questions about an image. Several questions are printed with their answers."""
    answer(image, questions, options)


def answer(image: str, questions: Sequence[str], options: AnsweringOptions) -> None:
    """Print the answers; the image is read once.

    Raises:
        InputError: when the image or the model cannot be read, or a question cannot be asked; before any answer.
    """
    from showo_turbo.processing.images import load_image

    decoding, picture = options.decoding_options(), load_image(image)
    pipe = load_pipeline(options.model, options.device, options.dtype, options.quantization)
    pipe.check_questions(questions, decoding)
    sight = pipe.encode_images([picture])
    for question in questions:
        if len(questions) > 1:
            typer.echo(question)
        said = pipe.image_to_text(sight, question, **asdict(decoding), seed=0, streamer=TextPrinter(pipe.prompts))
        if options.stats:
            typer.echo(stats_line(said, options.max_new_tokens))
