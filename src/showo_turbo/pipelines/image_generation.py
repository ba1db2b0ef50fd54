"""The tasks that draw: text to image, inpainting, extrapolation, variation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

import torch
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.canvas import (
    Canvas,
    Square,
    all_squares,
    check_extrapolation,
    extrapolation,
    unknown_squares,
)
from showo_turbo.generation.image_denoiser import ImageDenoiser
from showo_turbo.generation.scheduler import Generators
from showo_turbo.outputs import ImageOutput
from showo_turbo.pipelines import image_editing as editing
from showo_turbo.pipelines import text_to_image as drawing
from showo_turbo.pipelines.parts import PipelineParts, as_list, seeded, share
from showo_turbo.processing.images import ImageSource, open_image

StepCallback = Callable[[PipelineParts, int, int, dict[str, Any]], object]
"""`callback(pipe, step, timestep, callback_kwargs)`; see `ImageTasks.text_to_image`."""


class DrawingOptions(TypedDict, total=False):
    """Options that every task that draws has; `ImageTasks.text_to_image` says what they mean."""

    num_inference_steps: int | None
    guidance_scale: float | None
    top_k: int | Literal["recommended"] | None
    temperature: float | None
    schedule: str | None
    order: str | None
    sampled_steps: int | Literal["recommended"] | None
    early_exit: float | None
    num_images_per_prompt: int
    generator: Generators
    seed: int | None
    output_type: str
    callback_on_step_end: StepCallback | None


@dataclass(frozen=True)
class _Request:
    """A checked request, all but what is known of the images."""

    denoiser: ImageDenoiser
    copies: int
    generator: Generators
    output_type: str
    callback: StepCallback | None


class ImageTasks(PipelineParts):
    """Everything that draws.

    Images that are edited are given as pixels, of which the middle square is taken at the model's resolution, or as
    `codes`, with nothing lost and of any size: long (tokens,) or (batch, tokens) for square ones, or
    (batch, height, width). Codes that are known stay as they are, bit for bit.
    """

    def text_to_image(
        self,
        prompt: str | Sequence[str],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        top_k: int | Literal["recommended"] | None = "recommended",
        temperature: float | None = None,
        schedule: str | None = None,
        order: str | None = None,
        sampled_steps: int | Literal["recommended"] | None = "recommended",
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        seed: int | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
        height: int | None = None,
        width: int | None = None,
        early_exit: float | None = None,
    ) -> ImageOutput:
        """Draw images.

        Options that are left out take the checkpoint's recommendation, `self.recommended`.

        Args:
            prompt: one text or several.
            num_inference_steps: passes of the transformer, 1 to the codes of a square image.
            guidance_scale: w in (1 + w) * conditional - w * unconditional, Show-o's convention: 0 is no guidance. (It
                is diffusers' scale minus 1.)
            top_k: draw among the k most probable codes only; None draws among all.
            temperature: weight of the noise in choosing which codes to keep, before the first step.
            schedule: how fast codes are kept: "cosine", "linear", "sigmoid" or "powX".
            order: which codes are kept first: "confidence" (as published) or "halton" (places far apart).
            sampled_steps: so many steps, the first ones, draw at random, and the others take the most probable codes;
                None draws in all.
            num_images_per_prompt: images of every prompt.
            generator: a random generator for all images, or one per prompt; with a list, each prompt's images are those
                it would have alone.
            seed: seed of one generator for all images, if no generator is given; without both, every call differs.
            output_type: "pil", "np", "pt" or "latent" (codes only); see `outputs.Images`.
            callback_on_step_end: called after every step with this pipeline, the step (from 0), the steps still to
                come (at most, with early exit) and a dict of `codes`, long (batch, tokens), `masked`, bool
                (batch, tokens), where they are not final, and `grid`, rows and columns of the codes. What it returns is
                ignored.
            height: of the images in pixels: a multiple of the image tokenizer's downsampling factor, and at least the
                model's resolution, which is taken if left out. What exceeds the square that the model was trained on
                is painted square by square, each with all steps, see `generation.canvas`.
            width: of the images in pixels, likewise.
            early_exit: finish an image before its last step, as soon as the codes still to settle leave so small a
                share of the image in doubt, such as 0.03; see `SamplingOptions`.

        Raises:
            InputError: when a prompt is empty or too long, or an option is out of its range; before any pass.
        """
        grid = (self._codes_along("height", height), self._codes_along("width", width))
        texts = as_list(prompt)
        request = self._request(
            texts,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            top_k=top_k,
            temperature=temperature,
            schedule=schedule,
            order=order,
            sampled_steps=sampled_steps,
            early_exit=early_exit,
            num_images_per_prompt=num_images_per_prompt,
            generator=generator,
            seed=seed,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
        )
        canvas = Canvas.blank(len(texts) * request.copies, *grid)
        return self._draw(request, canvas, all_squares(grid, self.side))

    def inpaint(
        self,
        image: ImageSource | Sequence[ImageSource] | None = None,
        mask: ImageSource | Tensor | Sequence[ImageSource] | None = None,
        prompt: str | Sequence[str] = "",
        *,
        codes: Tensor | None = None,
        **options: Unpack[DrawingOptions],
    ) -> ImageOutput:
        """Draw a part of images anew. One image goes with several prompts, and one prompt with several images.

        Args:
            image: a path, an open file, a PIL image, or a list of these.
            mask: an image of the same size, white where to draw (a code is drawn anew when half of its square is
                white), or bool over the codes, shaped as `codes`. One for all images, or one for each.
            prompt: what the whole image shows, one text or several.
            codes: in place of `image`, see the class.
            **options: as for `text_to_image`.

        Raises:
            InputError: when mask and image differ in size, nothing is masked, or as `text_to_image`; before any pass.
        """
        if mask is None:
            raise InputError("mask is missing: give an image that is white where to draw")
        sources = self._sources(image, codes)
        masks = editing.split_masks(mask) if isinstance(mask, Tensor) else as_list(mask)
        sources, masks = share(sources, masks, ("images", "masks"))
        resolution = self.resolution if codes is None else None
        unknown = [
            editing.read_mask(one, source, resolution, self.side) for one, source in zip(masks, sources, strict=True)
        ]
        pairs, texts = share(list(zip(sources, unknown, strict=True)), as_list(prompt), ("images", "prompts"))
        request = self._request(texts, **options)
        known = ~torch.stack([one for _, one in pairs])
        grids = self._grids([source for source, _ in pairs], request)
        canvas = Canvas(grids, known.repeat_interleave(request.copies, 0))
        return self._draw(request, canvas, all_squares(canvas.grid, self.side))

    def extrapolate(
        self,
        image: ImageSource | Sequence[ImageSource] | None = None,
        prompt: str | Sequence[str] = "",
        direction: str | Sequence[str] = "left",
        *,
        offset: int = 0,
        codes: Tensor | None = None,
        **options: Unpack[DrawingOptions],
    ) -> ImageOutput:
        """Draw on beyond the borders of images, half a square at a time.

        Args:
            image: a path, an open file, a PIL image, or a list of these.
            prompt: what is to be seen there, one text or several.
            direction: "left", "right", "up" or "down", or several in their order; the same one may come again.
            offset: how many codes more than half a square are added at a time, of which the model then sees less.
            codes: in place of `image`, see the class.
            **options: as for `text_to_image`; every square takes all steps.

        Raises:
            InputError: when a direction is unknown, or as `text_to_image`; before any pass.
        """
        directions = as_list(direction)
        check_extrapolation(directions, self.side, offset)
        sources, texts = share(self._sources(image, codes), as_list(prompt), ("images", "prompts"))
        request = self._request(texts, **options)
        grids = self._grids(sources, request)
        known = Canvas(grids, torch.ones_like(grids, dtype=torch.bool))
        return self._draw(request, *extrapolation(known, directions, self.side, offset))

    def vary(
        self,
        image: ImageSource | Sequence[ImageSource] | None = None,
        prompt: str | Sequence[str] = "",
        strength: float = 0.6,
        *,
        codes: Tensor | None = None,
        **options: Unpack[DrawingOptions],
    ) -> ImageOutput:
        """Draw images like those given: a random part of the codes is drawn anew.

        Args:
            image: a path, an open file, a PIL image, or a list of these.
            prompt: what the whole image shows, one text or several.
            strength: the share of the codes that is drawn anew, more than 0 to 1.
            codes: in place of `image`, see the class.
            **options: as for `text_to_image`; which codes are drawn anew comes from the same generator.

        Raises:
            InputError: when the strength is out of its range, or as `text_to_image`; before any pass.
        """
        editing.check_strength(strength)
        sources, texts = share(self._sources(image, codes), as_list(prompt), ("images", "prompts"))
        request = self._request(texts, **options)
        grids = self._grids(sources, request)
        canvas = Canvas(grids, ~editing.draw_unknown(grids, strength, request.generator))
        return self._draw(request, canvas, all_squares(canvas.grid, self.side))

    def _request(
        self,
        texts: Sequence[str],
        *,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        seed: int | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
        **sampling: float | str | None,
    ) -> _Request:
        """Check everything but the images."""
        options = self.sampling_options(**sampling)
        drawing.check_output_type(output_type, self.image_tokenizer)
        source = generator if generator is not None else seeded(seed)
        denoiser = drawing.prepare(self.model, self.prompts, texts, options, num_images_per_prompt, source)
        return _Request(denoiser, num_images_per_prompt, source, output_type, callback_on_step_end)

    def _draw(self, request: _Request, canvas: Canvas, squares: Sequence[Square]) -> ImageOutput:
        """Paint what is not known."""
        squares = unknown_squares(canvas, squares)
        total = len(squares) * request.denoiser.scheduler.num_inference_steps

        def report(seen: Canvas) -> None:
            details = {"codes": seen.codes.flatten(1).clone(), "masked": ~seen.known.flatten(1), "grid": seen.grid}
            request.callback(self, seen.forward_passes - 1, total - seen.forward_passes, details)

        final = drawing.denoise(request.denoiser, canvas, squares, report if request.callback else None)
        codes = final.codes.flatten(1)
        images = self.decode_codes(codes, *final.grid, output_type=request.output_type)
        return ImageOutput(images, codes, final.forward_passes, final.grid)

    def _codes_along(self, name: str, pixels: int | None) -> int:
        """A height or width in codes."""
        if pixels is None:
            return self.side
        factor = self.resolution // self.side
        if type(pixels) is not int or pixels < self.resolution or pixels % factor:
            raise InputError(f"{name} is {pixels!r}: choose a multiple of {factor} pixels, at least {self.resolution}")
        return pixels // factor

    def _sources(self, image: ImageSource | Sequence[ImageSource] | None, codes: Tensor | None) -> list:
        """The images to edit, as PIL images or as codes (height, width), one an image."""
        if (image is None) == (codes is None):
            raise InputError("give either image or codes, and not both")
        if codes is None:
            return [open_image(source) for source in as_list(image)]
        return editing.split_grids(self.check_codes(codes))

    def _grids(self, sources: list, request: _Request) -> Tensor:
        """Codes of the images to edit, on the CPU, long (batch, height, width), each as often as it is asked for."""
        if isinstance(sources[0], Tensor):
            grids = torch.stack(sources)
        else:
            grids = torch.stack(editing.split_grids(self.encode_each_once(sources)))
        return grids.cpu().repeat_interleave(request.copies, 0)
