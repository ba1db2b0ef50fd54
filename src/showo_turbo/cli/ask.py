"""`showo-turbo ask`: questions about an image, answered on the terminal."""

from typing import Annotated

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


def ask(
    image: ImageFile,
    questions: Annotated[list[str], typer.Argument(help="One question or several.", show_default=False)],
    model: Model = DEFAULT_MODEL,
    decoding: Decoding = "jacobi",
    block_length: BlockLength = 16,
    max_new_tokens: MaxNewTokens = 64,
    stats: Stats = False,
    device: Device = None,
    dtype: Dtype = DEFAULT_DTYPE,
) -> None:
    """Answer questions about an image. Several questions are printed with their answers."""
    from showo_turbo.image_to_text import DecodingOptions, check_questions
    from showo_turbo.processing.images import load_image

    options = DecodingOptions(max_new_tokens, decoding, block_length)
    picture = load_image(image)
    pipe = load_pipeline(model, device, dtype)
    check_questions(pipe.model, pipe.prompts, questions, pipe.image_length, options)
    image_once = {"image": picture} if pipe.model.config.w_clip_vit else {"codes": pipe.encode_image(picture)}
    for question in questions:
        if len(questions) > 1:
            typer.echo(question)
        answer = pipe.image_to_text(
            **image_once,
            prompt=question,
            max_new_tokens=max_new_tokens,
            decoding=decoding,
            block_length=block_length,
            seed=0,
            streamer=TextPrinter(pipe.prompts),
        )
        if stats:
            typer.echo(stats_line(answer, max_new_tokens))
