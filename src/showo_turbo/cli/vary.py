"""`showo-turbo vary`: images like another one."""

from typing import Annotated

import typer

from showo_turbo.cli.drawing import edit
from showo_turbo.cli.option_groups import DrawingOptions, with_options
from showo_turbo.cli.options import ImageFile


@with_options
def vary(
    image: ImageFile,
    prompt: Annotated[str, typer.Argument(help="What the whole image shows.", show_default=False)],
    options: DrawingOptions,
    strength: Annotated[float, typer.Option(help="The share of the image that is drawn anew, up to 1.")] = 0.6,
) -> None:
    """Draw an image like another one, a random part of it anew."""
    edit("vary", {"image": image, "strength": strength}, prompt, options)
