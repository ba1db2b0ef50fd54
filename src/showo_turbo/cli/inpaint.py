"""`showo-turbo inpaint`: a part of an image drawn anew."""

from typing import Annotated

import typer

from showo_turbo.cli.drawing import edit
from showo_turbo.cli.option_groups import DrawingOptions, with_options
from showo_turbo.cli.options import ImageFile


@with_options
def inpaint(
    image: ImageFile,
    mask: Annotated[str, typer.Argument(help="An image of the same size, white where to draw.", show_default=False)],
    prompt: Annotated[str, typer.Argument(help="What the whole image shows.", show_default=False)],
    options: DrawingOptions,
) -> None:
    """Draw the part of an image anew that is white in a mask."""
    edit("inpaint", {"image": image, "mask": mask}, prompt, options)
