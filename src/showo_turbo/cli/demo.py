"""`showo-turbo demo`: images of eight prompts in one file, and the model's answers about them."""

from itertools import zip_longest
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
    """Draw eight prompts into one image file, and ask the model about its own images.

    Images and answers that the exact detector of the built-in world finds wrong are marked.
    """
    import torch

    from showo_turbo.evaluation.demo_judge import judge_demo
    from showo_turbo.processing.image_labels import label_image
    from showo_turbo.processing.images import make_grid

    check_seed("seed", seed)
    world = world_of(model)
    texts = world.demo
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
    is_judged = pipe.resolution == world.resolution
    verdicts = judge_demo(world, images, answers) if is_judged else []
    for prompt, question, answer, verdict in zip_longest(prompts, questions, answers, verdicts):
        typer.echo(f"drawn:  {prompt}\nasked:  {question}\nanswer: {answer}")
        if verdict and verdict.shown:
            typer.echo(f"wrong:  the image shows {verdict.shown}")
        if verdict and verdict.expected:
            typer.echo(f"wrong:  the right answer is: {verdict.expected}")
        typer.echo()
    if is_judged:
        images_right, answers_right = (
            sum(getattr(verdict, name) is None for verdict in verdicts) for name in ("shown", "expected")
        )
        typer.echo(f"{images_right} of {len(prompts)} images and {answers_right} answers are right, by the detector")
    typer.echo(f"pictures: {path}")
