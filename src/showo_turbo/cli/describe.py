"""`showo-turbo describe`: what an image shows, in words."""

from showo_turbo.cli.ask import ask
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
)


def describe(
    image: ImageFile,
    model: Model = DEFAULT_MODEL,
    decoding: Decoding = "jacobi",
    block_length: BlockLength = 16,
    max_new_tokens: MaxNewTokens = 128,
    stats: Stats = False,
    device: Device = None,
    dtype: Dtype = DEFAULT_DTYPE,
) -> None:
    """Describe an image."""
    ask(image, ["Describe the image."], model, decoding, block_length, max_new_tokens, stats, device, dtype)
