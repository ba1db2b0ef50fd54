"""`showo-turbo extrapolate`: an image drawn on beyond its borders."""

from typing import Annotated

import typer

from showo_turbo.cli.drawing import edit
from showo_turbo.cli.option_groups import DrawingOptions, with_options
from showo_turbo.cli.options import ImageFile


@with_options
def extrapolate(
    image: ImageFile,
    prompt: Annotated[str, typer.Argument(help="What is to be seen beyond the borders.", show_default=False)],
    options: DrawingOptions,
    direction: Annotated[
        list[str], typer.Option(help="left, right, up or down, half an image at a time; may be given several times.")
    ] = ["left"],  # noqa: B006
    offset: Annotated[int, typer.Option(help="How many codes more than half an image are added at a time.")] = 0,
) -> None:
    """Draw on beyond the borders of an image."""
    edit("extrapolate", {"image": image, "direction": direction, "offset": offset}, prompt, options)
