"""`showo-turbo convert`, `average`: checkpoints to a checkpoint."""

from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from showo_turbo.checkpoints.names import resolve
from showo_turbo.cli.output_files import check_new_folder
from showo_turbo.cli.terminal import quiet_transformers
from showo_turbo.errors import InputError
from showo_turbo.files import atomic_folder

LAYOUTS = ("showo-turbo", "published")


def convert(
    source: Annotated[
        str, typer.Argument(help="A shipped model, a folder or a hub name; of a checkpoint or of a LoRA adapter.")
    ],
    output: Annotated[Path, typer.Argument(help="The folder to write; must not exist, or be empty.")],
    to: Annotated[str, typer.Option(help="showo-turbo (one folder with everything) or published.")] = LAYOUTS[0],
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; the stored dtype if left out.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Base checkpoint of an adapter that does not name it.")] = None,
    image_tokenizer: Annotated[str | None, typer.Option(help="Folder or hub name of the image tokenizer.")] = None,
    text_tokenizer: Annotated[
        str | None, typer.Option(help="Folder or hub name of the text tokenizer and the Phi config.")
    ] = None,
    vision_tower: Annotated[
        str | None, typer.Option(help="Folder or hub name of the CLIP vision tower, for w_clip_vit.")
    ] = None,
    llm_model_path: Annotated[
        str | None,
        typer.Option(help="Phi config that the published code loads: hub name or folder; phi if left out."),
    ] = None,
) -> None:
    """Convert a checkpoint to one folder with tokenizers, weights, settings and a card, or to the published layout."""
    if to not in LAYOUTS:
        raise InputError(f"to is {to!r}: choose {', '.join(LAYOUTS)}")
    if llm_model_path is not None and to != "published":
        raise InputError("llm-model-path is for --to published: our own layout holds the Phi config")
    check_new_folder(output)
    resolve(source)

    quiet_transformers()
    from showo_turbo.checkpoints.loading import TEXT_FOLDER, locate
    from showo_turbo.checkpoints.published_layout import save_published
    from showo_turbo.pipelines.pipeline import ShowoPipeline

    components = {
        "image_tokenizer": image_tokenizer,
        "text_tokenizer": text_tokenizer,
        "base": base,
        "vision_tower": vision_tower,
    }
    stored_dtype = dtype or locate(source, **components).stored_dtype()
    pipe = ShowoPipeline.from_pretrained(source, device="cpu", dtype=stored_dtype, **components)
    with atomic_folder(output) as folder:
        if to == "published":
            save_published(folder, pipe, llm_model_path or TEXT_FOLDER)
        else:
            pipe.save_pretrained(folder)
    typer.echo(f"checkpoint: {output}")


def average(
    models: Annotated[list[str], typer.Argument(help="Shipped models, folders or hub names, two or more.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write; must not exist, or be empty.")],
    shares: Annotated[
        str | None,
        typer.Option(help="Share of each model, such as 0.7,0.3; they are divided by their sum. Equal if left out."),
    ] = None,
) -> None:
    """Write a model with the mean of several models' weights; everything else is the first one's.

    Students of one teacher that differ in their seeds average to a better student than each of them (model soups). A
    student that has forgotten what its teacher knows remembers it by a share of the teacher.
    """
    if len(models) < 2:
        raise InputError(f"models is {models[0]!r} alone: name two or more")
    fractions = _parse_shares(shares, len(models))
    check_new_folder(output)
    for model in models:
        resolve(model)

    quiet_transformers()
    from showo_turbo.checkpoints.loading import locate
    from showo_turbo.checkpoints.weights import average_weights
    from showo_turbo.pipelines.pipeline import ShowoPipeline

    files = [locate(model) for model in models]
    latents = [one.config.num_latents for one in files]
    if len(set(latents)) > 1:
        raise InputError(f"models have {', '.join(map(str, latents))} latents: choose models with equally many")
    pipe = ShowoPipeline.from_pretrained(models[0], device="cpu")
    average_weights(pipe.model.state_dict(), [one.weights() for one in files[1:]], fractions)
    pipe.model.to(files[0].stored_dtype())
    with atomic_folder(output) as folder:
        pipe.save_pretrained(folder)
    typer.echo(f"checkpoint: {output}")


def _parse_shares(shares: str | None, count: int) -> list[float]:
    """Return the share of each of `count` models, with a sum of 1."""
    if shares is None:
        return [1 / count] * count
    try:
        numbers = [float(number) for number in shares.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(isfinite(number) and number >= 0 for number in numbers) or not sum(numbers):
        raise InputError(
            f"shares is {shares!r}: give a number of 0 or more for each of the {count} models, separated by commas"
        )
    return [number / sum(numbers) for number in numbers]
