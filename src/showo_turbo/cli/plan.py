"""`showo-turbo plan`: what fits on the GPUs, and how long a training takes."""

from pathlib import Path
from typing import Annotated

import typer

RECIPES = {
    "distill-256": "configs/256/training.yaml",
    "distill-512": "configs/512/training.yaml",
    "finetune": "configs/finetune_lora.yaml",
}
"""Recipes by name, as files of the repository."""


def plan(
    recipe: Annotated[
        str, typer.Option("--recipe", help=f"{', '.join(RECIPES)}, or a YAML config of `distill` or `finetune`.")
    ] = "distill-512",
    resolution: Annotated[int, typer.Option("--resolution", help="Side of the images in pixels.")] = 512,
    gpus: Annotated[int, typer.Option("--gpus", help="Number of GPUs.")] = 8,
    gpu_memory: Annotated[float, typer.Option("--gpu-memory", help="GiB of each.")] = 80.0,
    tflops: Annotated[
        float, typer.Option("--tflops", help="Peak of each in bfloat16, without sparsity; 990 is an H100.")
    ] = 990.0,
    utilisation: Annotated[
        float, typer.Option("--utilisation", help="Fraction of the peak that large batches reach.")
    ] = 0.4,
) -> None:
    """Print what fits on some GPUs, samples per second and hours, for a model of the published size (seconds).

    Nothing is trained or downloaded. See docs/how-to/plan.md for what is assumed.

    \b
    Example:
      showo-turbo plan --recipe distill-512 --resolution 512 --gpus 8 \\
        --gpu-memory 80
    """
    from showo_turbo.planning.estimates import Hardware
    from showo_turbo.planning.plan_lines import plan_lines
    from showo_turbo.validation import check_integer, check_number

    check_integer("--gpus", gpus, 1, 100_000)
    check_integer("--resolution", resolution, 16, 4096)
    check_number("--gpu-memory", gpu_memory, 1, 10_000)
    check_number("--tflops", tflops, 1, 1_000_000)
    check_number("--utilisation", utilisation, 0.001, 1)
    for line in plan_lines(_recipe_file(recipe), resolution, Hardware(gpus, gpu_memory, tflops, utilisation)):
        typer.echo(line)


def _recipe_file(recipe: str) -> Path:
    """Return the config of a recipe.

    Raises:
        InputError: if there is none.
    """
    from showo_turbo.errors import InputError

    file = Path(__file__).parents[3] / RECIPES[recipe] if recipe in RECIPES else Path(recipe)
    if not file.is_file():
        raise InputError(
            f"--recipe is {recipe!r}: choose {', '.join(RECIPES)} (files of a clone of the repository), or a YAML file"
        )
    return file
