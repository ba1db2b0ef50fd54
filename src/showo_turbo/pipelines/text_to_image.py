"""Text to image, and every other task that draws, in three steps: prepare -> denoise -> unpack.

    texts --prepare--> ImageDenoiser --+
                                       +--denoise--> finished canvas --unpack--> images
    what is known ------> Canvas ------+

The tasks differ in what is known at the start: nothing (text to image), all around a mask (inpainting), one side
(extrapolation), a random part (variation).
"""

from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.canvas import Canvas, Square, paint
from showo_turbo.generation.image_denoiser import ImageDenoiser
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.generation.scheduler import Generators
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.showo import Showo
from showo_turbo.outputs import Images
from showo_turbo.processing.images import pixels_to_images
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.validation import check_integer

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


def prepare(
    model: Showo,
    prompts: PromptBuilder,
    texts: Sequence[str],
    options: SamplingOptions,
    num_images_per_prompt: int = 1,
    generator: Generators = None,
) -> ImageDenoiser:
    """Check a request and lay it out: a denoiser of all images, those of the first prompt first.

    Raises:
        InputError: when a prompt is empty or too long, an option is out of its range, or the number of generators is
            not that of the prompts.
    """
    if not texts:
        raise InputError("prompt is an empty list: give at least one prompt")
    check_integer("num_images_per_prompt", num_images_per_prompt, 1)
    if isinstance(generator, Sequence) and len(generator) != len(texts):
        raise InputError(
            f"generator is a list of {len(generator)} for {len(texts)} prompts: give one, or one per prompt"
        )
    num_codes = model.config.num_vq_tokens
    scheduler = options.scheduler(prompts.vocabulary.codebook_size, num_codes)
    for text in texts:
        prompts.check_prompt(text)
    rows = [row for text in texts for row in [prompts.text_to_image(text)] * num_images_per_prompt]
    return ImageDenoiser(
        model,
        prompts.vocabulary,
        scheduler,
        rows,
        num_codes,
        unconditional=prompts.unconditional(),
        guidance_scale=options.guidance_scale,
        generator=generator,
    )


def denoise(
    denoiser: ImageDenoiser,
    canvas: Canvas,
    squares: Sequence[Square],
    on_step: Callable[[Canvas], None] | None = None,
) -> Canvas:
    """The finished canvas; `on_step` sees the canvas after every pass."""
    for seen in paint(denoiser, canvas, squares):
        if on_step is not None and seen.forward_passes > 0:
            on_step(seen)
    return seen


def check_output_type(output_type: str, image_tokenizer: MagvitV2 | None) -> None:
    """Refuse an output type that is unknown, or needs an image tokenizer where there is none.

    Raises:
        InputError: in both cases.
    """
    if output_type not in OUTPUT_TYPES:
        raise InputError(f"output_type is {output_type!r}: choose {', '.join(OUTPUT_TYPES)}")
    if output_type != "latent":
        require_image_tokenizer(image_tokenizer)


def require_image_tokenizer(image_tokenizer: MagvitV2 | None) -> MagvitV2:
    """The image tokenizer, which turns codes into pixels and back.

    Raises:
        InputError: when there is none.
    """
    if image_tokenizer is None:
        raise InputError(
            "the checkpoint has no image tokenizer: name one, from_pretrained(..., image_tokenizer=FOLDER), or work on "
            "codes (output_type='latent', image_to_text(codes=...))"
        )
    return image_tokenizer


@torch.no_grad()
def unpack(
    codes: Tensor,
    image_tokenizer: MagvitV2 | None,
    output_type: str = "pil",
    height: int | None = None,
    width: int | None = None,
) -> Images:
    """Images of codes, long (batch, tokens), in the output type asked for (see `outputs.Images`).

    Raises:
        InputError: when the codes are no codes, do not fill the grid, or there is no image tokenizer for them.
    """
    check_output_type(output_type, image_tokenizer)
    if output_type == "latent":
        return codes
    tokenizer = require_image_tokenizer(image_tokenizer)
    pixels = tokenizer.decode_codes(codes.to(tokenizer.quantize.embedding.device), height, width)
    if output_type == "pil":
        return pixels_to_images(pixels)
    pixels = ((pixels + 1) / 2).clamp(0, 1)
    if output_type == "pt":
        return pixels
    return rearrange(pixels, "batch channel height width -> batch height width channel").cpu().numpy()
