"""The tasks that draw."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from showo_turbo import text_to_image as drawing
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.generation.scheduler import Generators
from showo_turbo.generation.trajectory import State
from showo_turbo.outputs import ImageOutput
from showo_turbo.tasks.parts import PipelineParts, as_list, seeded

StepCallback = Callable[[PipelineParts, int, int, dict[str, Any]], object]
"""`callback(pipe, step, timestep, callback_kwargs)`; see `ImageTasks.text_to_image`."""


class ImageTasks(PipelineParts):
    """Text to image."""

    def text_to_image(
        self,
        prompt: str | Sequence[str],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        top_k: int | Literal["recommended"] | None = "recommended",
        temperature: float | None = None,
        schedule: str | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        seed: int | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
    ) -> ImageOutput:
        """Draw images.

        Options that are left out take the checkpoint's recommendation, `self.recommended`.

        Args:
            prompt: one text or several.
            num_inference_steps: passes of the transformer, 1 to the image's codes.
            guidance_scale: w in (1 + w) * conditional - w * unconditional, Show-o's convention: 0 is no guidance. (It
                is diffusers' scale minus 1.)
            top_k: draw among the k most probable codes only; None draws among all.
            temperature: weight of the noise in choosing which codes to keep, before the first step.
            schedule: how fast codes are kept: "cosine", "linear", "sigmoid" or "powX".
            num_images_per_prompt: images of every prompt.
            generator: a random generator for all images, or one per prompt; with a list, each prompt's images are those
                it would have alone.
            seed: seed of one generator for all images, if no generator is given; without both, every call differs.
            output_type: "pil", "np", "pt" or "latent" (codes only); see `outputs.Images`.
            callback_on_step_end: called after every step with this pipeline, the step (from 0), the steps still to
                come and a dict of `codes`, long (batch, tokens), and `masked`, bool (batch, tokens), where they are not
                final. What it returns is ignored.

        Raises:
            InputError: when a prompt is empty or too long, or an option is out of its range; before any pass.
        """
        options = self._sampling_options(
            {
                "num_inference_steps": num_inference_steps,
                "guidance_scale": guidance_scale,
                "temperature": temperature,
                "schedule": schedule,
            },
            top_k,
        )
        drawing.check_output_type(output_type, self.image_tokenizer)
        source = generator if generator is not None else seeded(seed)
        denoiser, start = drawing.prepare(
            self.model, self.prompts, as_list(prompt), options, num_images_per_prompt, source
        )

        def report(step: int, state: State) -> None:
            seen = {"codes": self.prompts.vocabulary.ids_to_codes(state.ids), "masked": ~state.settled}
            callback_on_step_end(self, step, options.num_inference_steps - 1 - step, seen)

        final = drawing.denoise(denoiser, start, report if callback_on_step_end else None)
        codes = self.prompts.vocabulary.ids_to_codes(final.ids)
        return ImageOutput(self.decode_codes(codes, output_type=output_type), codes, final.forward_passes)

    def _sampling_options(self, given: dict[str, Any], top_k: int | str | None) -> SamplingOptions:
        """The recommended options, with those that are given in their place."""
        given = {name: value for name, value in given.items() if value is not None}
        return replace(self.recommended, **given, **({} if top_k == "recommended" else {"top_k": top_k}))
