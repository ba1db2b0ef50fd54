"""Draw images: text to image, inpainting, extrapolation, variation.

    prompts, options --> ImageDenoiser --+
                                         +--denoise_windows--> finished canvas --decode_codes--> images
    known codes -------> Canvas ---------+

The tasks differ in what is known at the start: nothing (text to image), all but the mask (inpainting), one side
(extrapolation), a random part (variation).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from showo_turbo.components import Components, as_list, broadcast, make_generator
from showo_turbo.errors import InputError
from showo_turbo.generation.canvas import (
    Canvas,
    Window,
    cover,
    denoise_windows,
    extrapolate,
    unknown_windows,
)
from showo_turbo.generation.image_denoiser import ImageDenoiser
from showo_turbo.generation.limits import check_extrapolation, check_pixels, check_strength
from showo_turbo.generation.options import MAX_IMAGES, SamplingOptions, takes_options
from showo_turbo.generation.scheduler import Generators, UnmaskingScheduler
from showo_turbo.outputs import ImageOutput
from showo_turbo.pipelines.image_editing import draw_unknown, read_mask, split_grids, split_masks
from showo_turbo.processing.image_files import ImageSource, open_image
from showo_turbo.validation import check_integer

StepCallback = Callable[[Components, int, int, dict[str, Any]], object]
"""`callback(pipe, step, timestep, callback_kwargs)`; see `ImageGeneration.text_to_image`."""


@dataclass(frozen=True)
class ImageCall:
    """Hold the checked arguments of a call, all but what is known of the images."""

    denoiser: ImageDenoiser
    sampling: SamplingOptions
    num_images_per_prompt: int
    generator: Generators
    output_type: str
    callback: StepCallback | None


class ImageGeneration(Components):
    """Draw images.

    Images to edit are given as pixels, of which the central square is used at the model's resolution, or as `codes`,
    with nothing lost and of any size: long (tokens,) or (batch, tokens) for square ones, or (batch, height, width).
    Known codes stay bit for bit.

    A callback that sets `pipe._interrupt = True`, as with diffusers' pipelines, stops the call after the step: it
    returns the images as they are then.
    """

    _interrupt = False

    @takes_options(SamplingOptions)
    def text_to_image(
        self,
        prompt: str | Sequence[str],
        *,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        seed: int | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
        height: int | None = None,
        width: int | None = None,
        **options: Any,
    ) -> ImageOutput:
        """Draw images of prompts.

        Args:
            prompt: one text or several.
            num_images_per_prompt: images of every prompt.
            generator: a random generator for all images, or one per prompt; with a list, each prompt's images are those
                of a call with this prompt alone.
            seed: seed of one generator for all images, if no generator is given; without both, every call differs.
            output_type: "pil", "np", "pt" or "latent" (codes only); see `outputs.Images`.
            callback_on_step_end: called after every step with this pipeline, the step (from 0), the number of steps
                left (at most, with early exit) and a dict of `codes`, long (batch, tokens), `masked`, bool
                (batch, tokens), where they are not final, and `grid`, rows and columns of the codes. Its return value
                is ignored; `pipe._interrupt = True` stops after the step.
            height: height of the images in pixels: a multiple of the image tokenizer's downsampling factor, and at
                least the model's resolution, which is the default. Larger images are drawn window by window, each with
                all steps, see `generation.canvas`.
            width: width of the images in pixels, likewise.
            **options: fields of `SamplingOptions`, such as `num_inference_steps`; those that are left out take the
                checkpoint's recommendation, `self.recommended`.

        Raises:
            InputError: if a prompt is empty or too long, or an option is out of its range; before any forward pass.
        """
        grid = (self.codes_along("height", height), self.codes_along("width", width))
        prompts = as_list(prompt)
        call = self.prepare_images(
            prompts, num_images_per_prompt, generator, seed, output_type, callback_on_step_end, **options
        )
        return self._draw(call, Canvas.blank(len(prompts) * num_images_per_prompt, *grid), cover(grid, self.grid_size))

    @takes_options(SamplingOptions)
    def inpaint(
        self,
        image: ImageSource | Sequence[ImageSource] | None = None,
        mask: ImageSource | Tensor | Sequence[ImageSource] | None = None,
        prompt: str | Sequence[str] = "",
        *,
        codes: Tensor | None = None,
        **options: Any,
    ) -> ImageOutput:
        """Redraw a part of images. One image may be paired with several prompts, and one prompt with several images.

        Args:
            image: a path, an open file, a PIL image, an array (output types "np" and "pt"), or a list of these.
            mask: an image of the same size, white or transparent where to redraw (see `processing.masks`), or bool over
                the codes, shaped as `codes`. One for all images, or one for each.
            prompt: what the whole image shows, one text or several.
            codes: the image as codes, in place of `image`.
            **options: as for `text_to_image`.

        Raises:
            InputError: if mask and image differ in size, the mask is empty, or as `text_to_image`; before any forward
                pass.
        """
        if mask is None:
            raise InputError("mask is missing: give an image that is white where to draw")
        sources = self._sources(image, codes)
        masks = split_masks(mask) if isinstance(mask, Tensor) else as_list(mask)
        sources, masks = broadcast(sources, masks, ("images", "masks"))
        resolution = self.resolution if codes is None else None
        unknown = [
            read_mask(one, source, resolution, self.grid_size) for one, source in zip(masks, sources, strict=True)
        ]
        pairs, prompts = broadcast(list(zip(sources, unknown, strict=True)), as_list(prompt), ("images", "prompts"))
        call = self.prepare_images(prompts, **options)
        known = ~torch.stack([one for _, one in pairs]).repeat_interleave(call.num_images_per_prompt, 0)
        canvas = Canvas(self._grids([source for source, _ in pairs], call), known)
        return self._draw(call, canvas, cover(canvas.grid, self.grid_size))

    @takes_options(SamplingOptions)
    def extrapolate(
        self,
        image: ImageSource | Sequence[ImageSource] | None = None,
        prompt: str | Sequence[str] = "",
        direction: str | Sequence[str] = "left",
        *,
        offset: int = 0,
        codes: Tensor | None = None,
        **options: Any,
    ) -> ImageOutput:
        """Extend images beyond their borders, half a window at a time.

        Args:
            image: a path, an open file, a PIL image, an array (output types "np" and "pt"), or a list of these.
            prompt: what the new part shows, one text or several.
            direction: "left", "right", "up" or "down", or several in order; each may occur several times.
            offset: number of codes that are added beyond half a window; the model then sees fewer known ones.
            codes: the image as codes, in place of `image`.
            **options: as for `text_to_image`; every window takes all steps.

        Raises:
            InputError: if a direction is unknown, or as `text_to_image`; before any forward pass.
        """
        directions = as_list(direction)
        check_extrapolation(directions, self.grid_size, offset)
        sources, prompts = broadcast(self._sources(image, codes), as_list(prompt), ("images", "prompts"))
        call = self.prepare_images(prompts, **options)
        grids = self._grids(sources, call)
        known = Canvas(grids, torch.ones_like(grids, dtype=torch.bool))
        return self._draw(call, *extrapolate(known, directions, self.grid_size, offset))

    @takes_options(SamplingOptions)
    def vary(
        self,
        image: ImageSource | Sequence[ImageSource] | None = None,
        prompt: str | Sequence[str] = "",
        strength: float = 0.6,
        *,
        codes: Tensor | None = None,
        **options: Any,
    ) -> ImageOutput:
        """Draw variations of images: a random part of the codes is redrawn.

        Args:
            image: a path, an open file, a PIL image, an array (output types "np" and "pt"), or a list of these.
            prompt: what the whole image shows, one text or several.
            strength: fraction of the codes that is redrawn, more than 0 to 1.
            codes: the image as codes, in place of `image`.
            **options: as for `text_to_image`; the redrawn codes are chosen by the same generator.

        Raises:
            InputError: if the strength is out of its range, or as `text_to_image`; before any forward pass.
        """
        check_strength(strength)
        sources, prompts = broadcast(self._sources(image, codes), as_list(prompt), ("images", "prompts"))
        call = self.prepare_images(prompts, **options)
        grids = self._grids(sources, call)
        canvas = Canvas(grids, ~draw_unknown(grids, strength, call.generator))
        return self._draw(call, canvas, cover(canvas.grid, self.grid_size))

    def prepare_images(
        self,
        prompts: Sequence[str],
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        seed: int | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
        **options: Any,
    ) -> ImageCall:
        """Check the arguments of a call and build a denoiser of all images, those of the first prompt first.

        Raises:
            InputError: if a prompt is empty or too long, an option is out of its range, or the number of generators is
                not that of the prompts.
        """
        sampling = self.recommended.override(**options)
        self.check_output_type(output_type)
        generator = make_generator(seed) if generator is None else generator
        if not prompts:
            raise InputError("prompt is an empty list: give at least one prompt")
        check_integer("num_images_per_prompt", num_images_per_prompt, 1, MAX_IMAGES)
        if isinstance(generator, Sequence) and len(generator) != len(prompts):
            raise InputError(
                f"generator is a list of {len(generator)} for {len(prompts)} prompts: give one, or one per prompt"
            )
        num_codes, vocabulary = self.model.config.num_vq_tokens, self.prompts.vocabulary
        scheduler = UnmaskingScheduler.from_options(sampling, vocabulary.codebook_size, num_codes)
        prompts = [self.prompts.check_prompt(prompt) for prompt in prompts]
        self.warn_unknown_words(prompts, "prompts")
        rows = [row for prompt in prompts for row in [self.prompts.text_to_image(prompt)] * num_images_per_prompt]
        denoiser = ImageDenoiser(
            self.model,
            vocabulary,
            scheduler,
            rows,
            num_codes,
            unconditional=self.prompts.unconditional(),
            guidance_scale=sampling.guidance_scale,
            generator=generator,
        )
        return ImageCall(denoiser, sampling, num_images_per_prompt, generator, output_type, callback_on_step_end)

    def _draw(self, call: ImageCall, canvas: Canvas, windows: Sequence[Window]) -> ImageOutput:
        """Denoise what is not known, window by window, and decode the result."""
        windows = unknown_windows(canvas, windows)
        total = len(windows) * call.denoiser.scheduler.num_inference_steps
        self._interrupt = False
        for drawn in denoise_windows(call.denoiser, canvas, windows):
            passes = drawn.forward_passes
            if call.callback is not None and passes > 0:
                details = {"codes": drawn.codes.flatten(1).clone(), "masked": ~drawn.known.flatten(1)}
                call.callback(self, passes - 1, total - passes, details | {"grid": drawn.grid})
                if self._interrupt:
                    break
        codes = drawn.codes.flatten(1)
        images = self.decode_codes(codes, *drawn.grid, output_type=call.output_type)
        return ImageOutput(images, codes, drawn.forward_passes, drawn.grid)

    def codes_along(self, name: str, pixels: int | None) -> int:
        """Return a height or width in codes; the model's own for None.

        Raises:
            InputError: if it is not a multiple of the pixels of a code, or too small or large.
        """
        if pixels is None:
            return self.grid_size
        factor = self.resolution // self.grid_size
        return check_pixels(name, pixels, self.resolution, factor) // factor

    def _sources(self, image: ImageSource | Sequence[ImageSource] | None, codes: Tensor | None) -> list:
        """Return the images to edit, one by one, as PIL images or as codes (height, width)."""
        if (image is None) == (codes is None):
            raise InputError("give either image or codes, and not both")
        if codes is None:
            return [open_image(source) for source in as_list(image)]
        self.check_codes(codes)
        return split_grids(codes)

    def _grids(self, sources: list, call: ImageCall) -> Tensor:
        """Return the codes of the images to edit, on the CPU, long (batch, height, width), once for each result."""
        if isinstance(sources[0], Tensor):
            grids = torch.stack(sources)
        else:
            grids = torch.stack(split_grids(self.encode_image(sources)))
        return grids.cpu().repeat_interleave(call.num_images_per_prompt, 0)
