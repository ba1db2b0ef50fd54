"""`showo-turbo convert`: a checkpoint of any layout to one folder of ours, and back to the published layout."""

from pathlib import Path
from typing import Annotated

import typer

from showo_turbo.checkpoints.names import resolve
from showo_turbo.cli.files import check_new_folder
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
        str | None, typer.Option(help="float32, bfloat16 or float16; as it is stored, if left out.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="What an adapter changes, where it does not say so itself.")] = None,
    image_tokenizer: Annotated[str | None, typer.Option(help="Folder or hub name of the image tokenizer.")] = None,
    text_tokenizer: Annotated[str | None, typer.Option(help="Folder or hub name of text tokenizer and Phi.")] = None,
    vision_tower: Annotated[
        str | None, typer.Option(help="Folder or hub name of the CLIP vision tower, for w_clip_vit.")
    ] = None,
    llm_model_path: Annotated[
        str | None,
        typer.Option(help="Where the published code is to find the Phi config: hub name or folder; phi if left out."),
    ] = None,
) -> None:
    """Write a checkpoint anew: tokenizers, weights, settings and a card in one folder, or the published layout."""
    if to not in LAYOUTS:
        raise InputError(f"to is {to!r}: choose {', '.join(LAYOUTS)}")
    if llm_model_path is not None and to != "published":
        raise InputError("llm-model-path is for --to published: our own layout holds the Phi config")
    check_new_folder(output)
    resolve(source)

    from transformers.utils import logging

    from showo_turbo.checkpoints.loading import TEXT_FOLDER, locate
    from showo_turbo.checkpoints.published_layout import save_published
    from showo_turbo.pipelines.pipeline import ShowoPipeline

    logging.set_verbosity_error()
    parts = {
        "image_tokenizer": image_tokenizer,
        "text_tokenizer": text_tokenizer,
        "base": base,
        "vision_tower": vision_tower,
    }
    dtype = dtype or locate(source, **parts).stored_dtype()
    pipe = ShowoPipeline.from_pretrained(source, device="cpu", dtype=dtype, **parts)
    with atomic_folder(output) as folder:
        if to == "published":
            save_published(folder, pipe, llm_model_path or TEXT_FOLDER)
        else:
            pipe.save_pretrained(folder)
    typer.echo(f"checkpoint: {output}")
