"""Draw images of prompts, and hold what all tasks that draw have in common.

    prompts, options --prepare_images--> ImageDenoiser --+
                                                         +--> Drawing --denoise_windows--> states --> images
    known codes ---------------> Canvas, windows --------+

The tasks differ in what is known at the start: nothing here; the rest is in `image_editing`. The pipeline's methods run
a `Drawing` by itself, the engine runs it among others (`serving.requests`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from PIL.Image import Image

from showo_turbo.components import Components, as_list, make_generator
from showo_turbo.errors import InputError
from showo_turbo.generation.canvas import Canvas, Window, cover, denoise_windows
from showo_turbo.generation.image_denoiser import ImageDenoiser
from showo_turbo.generation.model_limits import check_pixels
from showo_turbo.generation.options import MAX_IMAGES, SamplingOptions, takes_options
from showo_turbo.generation.scheduler import Generators, UnmaskingScheduler
from showo_turbo.outputs import CanvasFrame, ImageOutput
from showo_turbo.validation import check_integer, shown

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
    return_trajectory: bool = False


@dataclass(frozen=True)
class Drawing:
    """Hold a task that is ready to run.

    Attributes:
        call: the checked arguments, and the denoiser of all images.
        canvas: what is known of the images.
        windows: windows in which something is to be drawn, in order.
    """

    call: ImageCall
    canvas: Canvas
    windows: list[Window]

    @property
    def passes(self) -> int:
        """Largest number of forward passes."""
        return len(self.windows) * self.call.denoiser.scheduler.num_inference_steps


class ImageGeneration(Components):
    """Draw images of prompts.

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
        return_trajectory: bool = False,
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
            return_trajectory: store the images at the start and after every step in the output's `trajectory`, which
                decodes all of them; see `plot_trajectory`.
            height: height of the images in pixels: a multiple of the image tokenizer's downsampling factor, and at
                least the model's resolution, which is the default. Larger images are drawn window by window, each with
                all steps, see `generation.canvas`.
            width: width of the images in pixels, likewise.
            **options: fields of `SamplingOptions`, such as `num_inference_steps`; those that are left out take the
                checkpoint's recommendation, `self.recommended`.

        Raises:
            InputError: if a prompt is empty or too long, or an option is out of its range; before any forward pass.
        """
        return self._draw(
            self.prepare_drawing(
                prompt,
                height,
                width,
                num_images_per_prompt=num_images_per_prompt,
                generator=generator,
                seed=seed,
                output_type=output_type,
                callback_on_step_end=callback_on_step_end,
                return_trajectory=return_trajectory,
                **options,
            )
        )

    def prepare_drawing(
        self, prompt: str | Sequence[str], height: int | None = None, width: int | None = None, **options: Any
    ) -> Drawing:
        """Prepare `text_to_image`, which describes arguments and errors."""
        grid = (self.codes_along("height", height), self.codes_along("width", width))
        call = self.prepare_images(as_list(prompt), **options)
        return Drawing(call, Canvas.blank(len(call.denoiser.prompt_of_image), *grid), cover(grid, self.grid_size))

    def prepare_images(
        self,
        prompts: Sequence[str],
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        seed: int | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
        return_trajectory: bool = False,
        sources: Sequence[Sequence[int]] | None = None,
        **options: Any,
    ) -> ImageCall:
        """Check the arguments of a call and build a denoiser of all images, those of the first prompt first.

        Args:
            prompts: the texts.
            num_images_per_prompt: as for `text_to_image`, and so are all others but `sources`.
            generator: likewise.
            seed: likewise.
            output_type: likewise.
            callback_on_step_end: likewise.
            return_trajectory: likewise.
            sources: codes of an image for each prompt, which is then an instruction to edit it.
            **options: likewise.

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
        if callback_on_step_end is not None and not callable(callback_on_step_end):
            raise InputError(f"callback_on_step_end is {shown(callback_on_step_end)}: expected a function")
        if isinstance(generator, Sequence) and len(generator) != len(prompts):
            raise InputError(
                f"generator is a list of {len(generator)} for {len(prompts)} prompts: give one, or one per prompt"
            )
        num_codes, vocabulary = self.model.config.num_vq_tokens, self.prompts.vocabulary
        scheduler = UnmaskingScheduler.from_options(sampling, vocabulary.codebook_size, num_codes)
        prompts = [self.prompts.check_prompt(prompt) for prompt in prompts]
        self.warn_unknown_words(prompts, "prompts")
        if sources is None:
            rows = [self.prompts.text_to_image(prompt) for prompt in prompts]
        else:
            rows = [self.prompts.editing(codes, text) for codes, text in zip(sources, prompts, strict=True)]
        rows = [row for row in rows for _ in range(num_images_per_prompt)]
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
        return ImageCall(
            *(denoiser, sampling, num_images_per_prompt, generator, output_type, callback_on_step_end),
            return_trajectory=return_trajectory,
        )

    def _draw(self, drawing: Drawing) -> ImageOutput:
        """Denoise what is not known, window by window, and decode the result."""
        call, total = drawing.call, drawing.passes
        self._interrupt = False
        frames: list[CanvasFrame] = []
        canvas, vocabulary = drawing.canvas, call.denoiser.vocabulary
        for state in denoise_windows(call.denoiser, canvas, drawing.windows):
            passes = state.forward_passes
            if call.return_trajectory:
                drawn = canvas.at(state, vocabulary)
                pixels = self.decode_codes(drawn.codes.flatten(1), *drawn.grid)
                frames.append(CanvasFrame(cast(list[Image], pixels), drawn.known.clone(), passes))
            if call.callback is not None and passes > 0:
                drawn = canvas.at(state, vocabulary)
                details = {"codes": drawn.codes.flatten(1).clone(), "masked": ~drawn.known.flatten(1)}
                call.callback(self, passes - 1, total - passes, details | {"grid": drawn.grid})
                if self._interrupt:
                    break
        drawn = canvas.at(state, vocabulary)
        codes = drawn.codes.flatten(1)
        images = self.decode_codes(codes, *drawn.grid, output_type=call.output_type)
        return ImageOutput(images, codes, drawn.forward_passes, drawn.grid, frames or None)

    def codes_along(self, name: str, pixels: int | None) -> int:
        """Return a height or width in codes; the model's own for None.

        Raises:
            InputError: if it is not a multiple of the pixels of a code, or too small or large.
        """
        if pixels is None:
            return self.grid_size
        factor = self.resolution // self.grid_size
        return check_pixels(name, pixels, self.resolution, factor) // factor
