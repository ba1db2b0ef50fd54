"""`showo-turbo average`: one model from several that began as the same."""

from pathlib import Path
from typing import Annotated

import typer

from showo_turbo.checkpoints.names import resolve
from showo_turbo.cli.files import check_new_folder
from showo_turbo.errors import InputError
from showo_turbo.files import atomic_folder


def average(
    models: Annotated[list[str], typer.Argument(help="Shipped models, folders or hub names, two or more.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write; must not exist, or be empty.")],
) -> None:
    """Write a model whose weights are the mean of others' weights, and all else the first one's.

    Students of one teacher that differ in their seeds make a better student than each of them (model soups).
    """
    if len(models) < 2:
        raise InputError(f"models is {models[0]!r} alone: name two or more")
    check_new_folder(output)
    for model in models:
        resolve(model)

    from transformers.utils import logging

    from showo_turbo.checkpoints.loading import locate
    from showo_turbo.checkpoints.weights import average_weights
    from showo_turbo.pipelines.pipeline import ShowoPipeline

    logging.set_verbosity_error()
    files = [locate(model) for model in models]
    pipe = ShowoPipeline.from_pretrained(models[0], device="cpu")
    average_weights(pipe.model, [one.weights() for one in files[1:]])
    pipe.model.to(files[0].stored_dtype())
    with atomic_folder(output) as folder:
        pipe.save_pretrained(folder)
    typer.echo(f"checkpoint: {output}")
