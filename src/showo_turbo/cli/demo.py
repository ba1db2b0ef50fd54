"""`showo-turbo demo`: images of eight prompts in one file, and the model's answers about them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from showo_turbo.cli.common_options import (
    DEFAULT_DTYPE,
    DEFAULT_MODEL,
    Device,
    Model,
    Overwrite,
    load_pipeline,
    world_of,
)
from showo_turbo.cli.output_files import check_outputs, png_bytes
from showo_turbo.cli.terminal import StepProgress, progress_bar
from showo_turbo.files import atomic_files
from showo_turbo.validation import check_seed

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULT_OUTPUT = Path("outputs/demo.png")
COLUMNS = 4
HEIGHT = 192


def demo(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help=f"A PNG file; {DEFAULT_OUTPUT} (replaced) if left out.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    seed: Annotated[int, typer.Option(help="Seed of all images.")] = 0,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw eight prompts into one image file, and ask the model about its own images."""
    import torch

    from showo_turbo.processing.image_labels import label_image
    from showo_turbo.processing.images import make_grid

    check_seed("seed", seed)
    texts = world_of(model).demo
    if output is None:
        DEFAULT_OUTPUT.parent.mkdir(exist_ok=True)
    path = output or DEFAULT_OUTPUT
    check_outputs([path], overwrite or output is None)
    pipe = load_pipeline(model, device, DEFAULT_DTYPE)
    prompts, questions = list(texts), list(texts.values())
    with progress_bar() as progress:
        on_step = StepProgress(progress, "drawing")
        generators = [torch.Generator().manual_seed((seed + row) % 2**63) for row in range(len(prompts))]
        drawn = pipe.text_to_image(prompts, generator=generators, callback_on_step_end=on_step)
    images = cast("list[Image]", drawn.images)  # PIL is the default output type
    answers = pipe.image_to_text(images, questions, seed=seed).texts
    cells = [label_image(image, prompt, HEIGHT) for image, prompt in zip(images, prompts, strict=True)]
    atomic_files({path: png_bytes(make_grid(cells, COLUMNS))})
    for prompt, question, answer in zip(prompts, questions, answers, strict=True):
        typer.echo(f"drawn:  {prompt}\nasked:  {question}\nanswer: {answer}\n")
    typer.echo(f"pictures: {path}")
