"""`showo-turbo chat`: a dialogue about an image, a question a line."""

import sys
from collections.abc import Iterator

import typer

from showo_turbo.cli.options import (
    DEFAULT_DTYPE,
    DEFAULT_MODEL,
    BlockLength,
    Decoding,
    Device,
    Dtype,
    ImageFile,
    MaxNewTokens,
    Model,
    Stats,
    load_pipeline,
)
from showo_turbo.cli.terminal import TextPrinter, stats_line


def chat(
    image: ImageFile,
    model: Model = DEFAULT_MODEL,
    decoding: Decoding = "jacobi",
    block_length: BlockLength = 16,
    max_new_tokens: MaxNewTokens = 64,
    stats: Stats = False,
    device: Device = None,
    dtype: Dtype = DEFAULT_DTYPE,
) -> None:
    """Talk about an image: every line of the input is a question, read with all that was said before."""
    from showo_turbo.image_to_text import DecodingOptions
    from showo_turbo.processing.images import load_image

    DecodingOptions(max_new_tokens, decoding, block_length)
    picture = load_image(image)
    pipe = load_pipeline(model, device, dtype)
    dialogue = pipe.chat(picture)
    for question in _questions():
        answer = dialogue.ask(
            question,
            max_new_tokens=max_new_tokens,
            decoding=decoding,
            block_length=block_length,
            seed=0,
            streamer=TextPrinter(pipe.prompts),
        )
        if stats:
            typer.echo(stats_line(answer, max_new_tokens))


def _questions() -> Iterator[str]:
    """Lines of standard input that hold anything, to its end; a person is prompted for them."""
    interactive = sys.stdin.isatty()
    while True:
        if interactive:
            typer.echo("> ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
