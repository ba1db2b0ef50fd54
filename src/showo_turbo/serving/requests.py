"""Requests to the engine: what a user wants, as a value. The names are those of the pipeline's methods.

ImageRequest --prepare--> ImageDenoiser, blank state --engine--> states --unpack--> ImageOutput
TextRequest  --prepare--> TextDecoder, first guesses --engine--> states --unpack--> TextOutput

A request's result is that of the method alone: `pipe.text_to_image(**vars(request))`, `pipe.image_to_text(...)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

from torch import Tensor

from showo_turbo.generation.image_denoiser import blank_state
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.generation.trajectory import State
from showo_turbo.outputs import ImageOutput
from showo_turbo.pipelines import image_to_text as answering
from showo_turbo.pipelines import text_to_image as drawing
from showo_turbo.pipelines.image_to_text import DecodingOptions
from showo_turbo.pipelines.parts import PipelineParts, as_list, seeded
from showo_turbo.pipelines.sight import Sight
from showo_turbo.pipelines.understanding import TextTasks
from showo_turbo.processing.images import ImageSource
from showo_turbo.serving.batching import Job


@dataclass(frozen=True, eq=False)
class ImageRequest:
    """Draw images, square ones; the options are those of `ShowoPipeline.text_to_image`."""

    prompt: str | Sequence[str]
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    top_k: int | Literal["recommended"] | None = "recommended"
    temperature: float | None = None
    schedule: str | None = None
    order: str | None = None
    sampled_steps: int | Literal["recommended"] | None = "recommended"
    num_images_per_prompt: int = 1
    seed: int | None = None
    output_type: str = "pil"
    early_exit: float | None = None

    def prepare(self, pipe: PipelineParts) -> Job:
        """Check this request and lay it out.

        Raises:
            InputError: when a prompt is empty or too long, or an option is out of its range.
        """
        drawing.check_output_type(self.output_type, pipe.image_tokenizer)
        options = pipe.sampling_options(**_fields_of(SamplingOptions, self))
        texts, source = as_list(self.prompt), seeded(self.seed)
        denoiser = drawing.prepare(pipe.model, pipe.prompts, texts, options, self.num_images_per_prompt, source)
        start = blank_state(len(denoiser.owners), denoiser.num_codes, denoiser.vocabulary)
        alike = None if source is None else (options, len(denoiser.owners))  # without a seed, all draw from one source
        return Job(denoiser, start, partial(_images, pipe, self.output_type), alike)


@dataclass(frozen=True, eq=False)
class TextRequest:
    """Answer questions about images; the options are those of `ShowoPipeline.image_to_text`."""

    image: ImageSource | Sequence[ImageSource] | Sight | None = None
    prompt: str | Sequence[str] = "Describe the image."
    codes: Tensor | None = None
    max_new_tokens: int = 64
    decoding: str = "jacobi"
    block_length: int = 16
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    sliding_window: bool = True
    drafts: bool = True
    seed: int | None = None

    def prepare(self, pipe: TextTasks) -> Job:
        """Check this request, look at its images, and lay it out.

        Raises:
            InputError: when an image cannot be read, a question is empty or too long, or an option is out of its range.
        """
        options = DecodingOptions(**_fields_of(DecodingOptions, self))
        pairs = pipe.pair_questions(self.image, self.prompt, self.codes)
        decoder, guesses = pipe.prepare_answers(pairs, options, seeded(self.seed))
        alike = None if options.do_sample else (options, decoder.model)
        return Job(decoder, decoder.start(guesses), partial(answering.unpack, prompts=pipe.prompts), alike)


def _fields_of(options: type, request: ImageRequest | TextRequest) -> dict[str, Any]:
    """What a request says of some options, by their names."""
    return {field.name: getattr(request, field.name) for field in fields(options)}


def _images(pipe: PipelineParts, output_type: str, state: State) -> ImageOutput:
    """What a state shows."""
    codes = pipe.prompts.vocabulary.ids_to_codes(state.ids)
    images = pipe.decode_codes(codes, output_type=output_type)
    return ImageOutput(images, codes, state.forward_passes, (pipe.side, pipe.side))
