"""`inference_t2i.py`: text to image, inpainting and extrapolation as Show-o's command does them.

Each mode names its pictures before a model is loaded, then yields them as they are done.
"""

import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from showo_turbo.cli.prompt_files import read_prompts
from showo_turbo.compat.output_folder import OutputFolder, picture_names
from showo_turbo.compat.showo_options import TextToImageOptions, split
from showo_turbo.compat.showo_pipeline import load_pipeline
from showo_turbo.compat.tracker import check_tracker, track
from showo_turbo.errors import InputError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from showo_turbo.pipelines.pipeline import ShowoPipeline

Draw = Callable[["ShowoPipeline", TextToImageOptions, list[str], "torch.Generator"], Iterator["list[Image]"]]
"""Draws all pictures of a mode, a batch at a time, from its prompts."""


def run(options: TextToImageOptions) -> None:
    """Draw what the options say, into files; their names are printed.

    Raises:
        InputError: when something that is named cannot be read, or an option is out of its range.
    """
    prompts = _prompts(options)
    captions = prompts if options.mode == "t2i" else [" ".join(dict.fromkeys(prompts))] * options.images_at_once
    folder = OutputFolder(
        options.output_folder(options.mode), "images.jsonl", picture_names(captions), options.overwrite
    )
    check_tracker(options)
    _check_images(options)
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    results = [
        {"image": name, "prompt": caption, "mode": options.mode, "seed": seed}
        for name, caption in zip(folder.names, captions, strict=True)
    ]
    with folder.opened():
        pictures = _draw_all(options, prompts, seed, folder)
        folder.write_results(results)
    track(options, f"t2i_{options.mode}", "generated_images", zip(pictures, captions, strict=True))


def _prompts(options: TextToImageOptions) -> list[str]:
    """What to draw; of extrapolation one prompt a direction."""
    if options.mode == "inpainting":
        return [options.prompt]
    if options.mode == "extrapolation":
        prompts, directions = split(options.prompt), split(options.extra_direction)
        if len(prompts) not in (1, len(directions)):
            raise InputError(
                f"prompt has {len(prompts)} parts and extra_direction {len(directions)}: give one prompt, or one each"
            )
        return prompts * (len(directions) // len(prompts))
    if options.prompt is not None and options.validation_prompts_file is not None:
        raise InputError("prompt and validation_prompts_file are both given: leave one out")
    named = options.validation_prompts_file or options.dataset.params.validation_prompts_file
    if options.prompt is None and named is None:
        raise InputError("nothing to draw: add prompt='...' or validation_prompts_file=FILE")
    if options.prompt is None:
        return read_prompts(Path(named), "validation_prompts_file")
    if not split(options.prompt):
        raise InputError(f"prompt is {options.prompt!r}, in which there is nothing to draw")
    return split(options.prompt)


def _check_images(options: TextToImageOptions) -> None:
    """Refuse images that cannot be read before a model is loaded."""
    from showo_turbo.processing.images import open_image

    named = {"t2i": (), "inpainting": (options.image_path, options.inpainting_mask_path)}
    for path in named.get(options.mode, (options.image_path,)):
        open_image(path)


def _draw_all(options: TextToImageOptions, prompts: list[str], seed: int, folder: OutputFolder) -> "list[Image]":
    """Write every batch of pictures as soon as it is done."""
    import torch

    pipe = load_pipeline(options)
    prompts = [shorten(pipe, prompt) for prompt in prompts]
    draw: Draw = {"t2i": _text_to_image, "inpainting": _inpaint, "extrapolation": _extrapolate}[options.mode]
    done: list[Image] = []
    for batch in draw(pipe, options, prompts, torch.Generator().manual_seed(seed)):
        names = folder.names[len(done) : len(done) + len(batch)]
        folder.write_pictures(dict(zip(names, batch, strict=True)))
        print(*(folder.path / name for name in names), sep="\n", flush=True)
        done += batch
    return done


def shorten(pipe: "ShowoPipeline", prompt: str) -> str:
    """A prompt without the end that the model has no room for, which is said on standard error."""
    kept = prompt
    while kept and (cut := pipe.prompts.truncated_end(kept)):
        kept = kept[: -max(1, len(cut))]
    if kept != prompt:
        print(f"note: only the first {len(kept)} of {len(prompt)} characters are used of {prompt!r}", file=sys.stderr)
    return kept


def _text_to_image(
    pipe: "ShowoPipeline", options: TextToImageOptions, prompts: list[str], generator: "torch.Generator"
) -> "Iterator[list[Image]]":
    size = options.images_at_once
    for first in range(0, len(prompts), size):
        batch = prompts[first : first + size]
        yield pipe.text_to_image(batch, **options.sampling, generator=generator).images


def _inpaint(
    pipe: "ShowoPipeline", options: TextToImageOptions, prompts: list[str], generator: "torch.Generator"
) -> "Iterator[list[Image]]":
    """Image and mask are each cropped to the model's square first, so their sizes may differ."""
    from showo_turbo.processing.images import load_image, resize_and_crop

    image, mask = (
        resize_and_crop(load_image(path), pipe.resolution)
        for path in (options.image_path, options.inpainting_mask_path)
    )
    copies = options.images_at_once
    yield pipe.inpaint(
        image, mask, prompts[0], **options.sampling, num_images_per_prompt=copies, generator=generator
    ).images


def _extrapolate(
    pipe: "ShowoPipeline", options: TextToImageOptions, prompts: list[str], generator: "torch.Generator"
) -> "Iterator[list[Image]]":
    """One direction after the other, each with its own prompt, over the codes of the one before."""
    codes = pipe.encode_image(options.image_path).repeat(options.images_at_once, 1)
    for prompt, direction in zip(prompts, split(options.extra_direction), strict=True):
        output = pipe.extrapolate(
            prompt=prompt,
            direction=direction,
            offset=options.offset,
            codes=codes,
            **options.sampling,
            generator=generator,
            output_type="latent",
        )
        codes = output.codes.unflatten(1, output.grid)
    yield pipe.decode_codes(output.codes, *output.grid)
