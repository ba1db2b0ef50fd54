"""`showo-turbo describe`: what an image shows, in words."""

from dataclasses import dataclass

from showo_turbo.cli.ask import answer
from showo_turbo.cli.option_groups import AnsweringOptions, with_options
from showo_turbo.cli.options import ImageFile, MaxNewTokens


@dataclass(frozen=True)
class DescribingOptions(AnsweringOptions):
    """A description is longer than other answers."""

    max_new_tokens: MaxNewTokens = 128


@with_options
def describe(image: ImageFile, options: DescribingOptions) -> None:
    """Describe an image."""
    answer(image, ["Describe the image."], options)
