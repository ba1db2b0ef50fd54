"""`inference_t2i.py`: text to image, inpainting and extrapolation.

In each mode the image files are named and checked before a model is loaded; each batch is written when it is finished.
"""

import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from showo_turbo.cli.common_options import report_unknown_words
from showo_turbo.cli.prompt_files import read_prompt_lines
from showo_turbo.compat.output_folder import OutputFolder, image_names
from showo_turbo.compat.showo_options import TextToImageOptions, split
from showo_turbo.compat.showo_pipeline import load_pipeline
from showo_turbo.compat.tracker import check_tracker, track
from showo_turbo.errors import InputError
from showo_turbo.validation import shown

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from showo_turbo.outputs import Images
    from showo_turbo.pipelines.pipeline import ShowoPipeline

Draw = Callable[["ShowoPipeline", TextToImageOptions, list[str], "torch.Generator"], Iterator["Images"]]
"""Yields the images of a mode's prompts, one batch at a time."""


def run(options: TextToImageOptions) -> None:
    """Draw images of all prompts and write them to files; the names of the files are printed.

    Raises:
        InputError: if a file cannot be read, or an option is out of its range.
    """
    prompts = _prompts(options)
    captions = prompts if options.mode == "t2i" else [" ".join(dict.fromkeys(prompts))] * options.images_per_batch
    folder = OutputFolder(options.output_folder(options.mode), "images.jsonl", image_names(captions), options.overwrite)
    check_tracker(options)
    _check_images(options)
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    results: list[dict[str, object]] = [
        {"image": name, "prompt": caption, "mode": options.mode, "seed": seed}
        for name, caption in zip(folder.names, captions, strict=True)
    ]
    with folder.opened():
        images = _draw_all(options, prompts, seed, folder, results)
    track(options, f"t2i_{options.mode}", "generated_images", zip(images, captions, strict=True))


def _prompts(options: TextToImageOptions) -> list[str]:
    """Return the prompts; for extrapolation one per direction."""
    if options.mode == "inpainting":
        return [options.prompt or ""]
    if options.mode == "extrapolation":
        prompts, directions = split(options.prompt), options.directions
        if len(prompts) not in (1, len(directions)):
            raise InputError(
                f"prompt has {len(prompts)} parts and extra_direction {len(directions)}: give one prompt, or one each"
            )
        return prompts * (len(directions) // len(prompts))
    if options.prompt is not None and options.validation_prompts_file is not None:
        raise InputError("prompt and validation_prompts_file are both given: leave one out")
    if options.prompt is None:
        named = options.validation_prompts_file or options.dataset.params.validation_prompts_file
        if named is None:
            raise InputError("prompt is missing: add prompt='...' or validation_prompts_file=FILE")
        return list(read_prompt_lines(Path(named), "validation_prompts_file", strip=False).values())
    if not split(options.prompt):
        raise InputError(f"prompt is {options.prompt!r}, which holds no text: say what the images should show")
    return split(options.prompt)


def _check_images(options: TextToImageOptions) -> None:
    """Check that the images to edit can be read, before a model is loaded."""
    from showo_turbo.processing.image_files import load_image
    from showo_turbo.processing.masks import load_mask

    if options.mode != "t2i" and options.image_path is not None:
        load_image(options.image_path)
    if options.mode == "inpainting" and options.inpainting_mask_path is not None:
        load_mask(options.inpainting_mask_path)


def _draw_all(
    options: TextToImageOptions, prompts: list[str], seed: int, folder: OutputFolder, results: list[dict[str, object]]
) -> "list[Image]":
    """Return all images, after writing every batch as soon as it is finished."""
    import torch

    pipe = load_pipeline(options)
    for prompt in dict.fromkeys(prompts):
        report_truncated(pipe, prompt)
    report_unknown_words(pipe, prompts, "prompts")
    draw: Draw = {"t2i": _text_to_image, "inpainting": _inpaint, "extrapolation": _extrapolate}[options.mode]
    images: list[Image] = []
    for drawn in draw(pipe, options, prompts, torch.Generator().manual_seed(seed)):
        batch = cast("list[Image]", drawn)  # PIL is the default output type
        names = folder.names[len(images) : len(images) + len(batch)]
        folder.write_images(dict(zip(names, batch, strict=True)))
        print(*(folder.path / name for name in names), sep="\n", flush=True)
        images += batch
        folder.write_results(results[: len(images)])
    return images


def report_truncated(pipe: "ShowoPipeline", prompt: str) -> None:
    """Report on standard error if a prompt is longer than the model takes; its ids are truncated, as in Show-o."""
    pipe.prompts.check_prompt(prompt)
    if end := pipe.prompts.truncated_end(prompt):
        length = pipe.prompts.max_text_length
        print(
            f"note: the model takes {length} tokens: the end, {shown(end)}, of {shown(prompt)} is not used",
            file=sys.stderr,
        )


def _text_to_image(
    pipe: "ShowoPipeline", options: TextToImageOptions, prompts: list[str], generator: "torch.Generator"
) -> "Iterator[Images]":
    """Draw one batch of prompts after the other."""
    size = options.images_per_batch
    for first in range(0, len(prompts), size):
        batch = prompts[first : first + size]
        yield pipe.text_to_image(batch, **options.sampling, generator=generator).images


def _inpaint(
    pipe: "ShowoPipeline", options: TextToImageOptions, prompts: list[str], generator: "torch.Generator"
) -> "Iterator[Images]":
    """Redraw the masked part; image and mask are each cropped to the model's square, so their sizes may differ."""
    from showo_turbo.processing.image_files import load_image, resize_and_crop
    from showo_turbo.processing.masks import load_mask

    assert options.image_path is not None and options.inpainting_mask_path is not None  # noqa: PT018
    image = resize_and_crop(load_image(options.image_path), pipe.resolution)
    mask = resize_and_crop(load_mask(options.inpainting_mask_path), pipe.resolution)
    count = options.images_per_batch
    yield pipe.inpaint(
        image, mask, prompts[0], **options.sampling, num_images_per_prompt=count, generator=generator
    ).images


def _extrapolate(
    pipe: "ShowoPipeline", options: TextToImageOptions, prompts: list[str], generator: "torch.Generator"
) -> "Iterator[Images]":
    """Extend the image in one direction after the other, each with its own prompt."""
    codes = pipe.encode_image(options.image_path).repeat(options.images_per_batch, 1)
    for prompt, direction in zip(prompts, options.directions, strict=True):
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
