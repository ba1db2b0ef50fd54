"""`showo-turbo describe`: what an image shows, in words."""

from typing import Annotated

import typer

from showo_turbo.cli.ask import ImageFile, ask
from showo_turbo.cli.options import (
    DEFAULT_DTYPE,
    DEFAULT_MODEL,
    BlockLength,
    Decoding,
    Device,
    Dtype,
    Model,
    Stats,
)


def describe(
    image: ImageFile,
    model: Model = DEFAULT_MODEL,
    decoding: Decoding = "jacobi",
    block_length: BlockLength = 16,
    max_new_tokens: Annotated[int, typer.Option(help="Longest description, in tokens.")] = 128,
    stats: Stats = False,
    device: Device = None,
    dtype: Dtype = DEFAULT_DTYPE,
) -> None:
    """Describe an image."""
    ask(image, ["Describe the image."], model, decoding, block_length, max_new_tokens, stats, device, dtype)
