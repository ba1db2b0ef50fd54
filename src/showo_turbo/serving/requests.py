"""Requests to the engine: the arguments of the pipeline's methods as values.

ImageRequest --prepare_request--> ImageDenoiser, masked state --engine--> states --output--> ImageOutput
TextRequest  --prepare_request--> TextDecoder, first guesses  --engine--> states --output--> TextOutput

The result of a request is that of the method: `pipe.text_to_image(**vars(request))`, `pipe.image_to_text(...)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from showo_turbo.components import as_list, make_generator
from showo_turbo.errors import InputError
from showo_turbo.generation.image_denoiser import masked_state
from showo_turbo.generation.options import DecodingOptions, SamplingOptions, add_options, options_in
from showo_turbo.generation.trajectory import State
from showo_turbo.outputs import ImageOutput
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.pipelines.understanding import EncodedImages
from showo_turbo.processing.image_files import ImageSource
from showo_turbo.serving.batching import Job


@dataclass(frozen=True, eq=False)
@add_options(SamplingOptions, after="prompt")
class ImageRequest:
    """Request images, square ones; its fields are the arguments of `ShowoPipeline.text_to_image`."""

    prompt: str | Sequence[str]
    num_images_per_prompt: int = 1
    seed: int | None = None
    output_type: str = "pil"

    if TYPE_CHECKING:  # fields that are derived from `SamplingOptions` are unknown to type checkers

        def __init__(self, prompt: str | Sequence[str], *args: Any, **options: Any) -> None: ...


@dataclass(frozen=True, eq=False)
@add_options(DecodingOptions, after="codes")
class TextRequest:
    """Request answers to questions about images; its fields are the arguments of `ShowoPipeline.image_to_text`."""

    image: ImageSource | Sequence[ImageSource] | EncodedImages | None = None
    prompt: str | Sequence[str] = "Describe the image."
    codes: Tensor | None = None
    seed: int | None = None

    if TYPE_CHECKING:

        def __init__(self, *args: Any, **options: Any) -> None: ...


def prepare_request(pipe: ShowoPipeline, request: ImageRequest | TextRequest) -> Job:
    """Check a request, encode its images, and build its decoder and first state.

    Raises:
        InputError: if an image cannot be read, a prompt is empty or too long, or an option is out of its range.
    """
    if isinstance(request, ImageRequest):
        return _prepare_images(pipe, request)
    if isinstance(request, TextRequest):
        return _prepare_answers(pipe, request)
    raise InputError(f"request is {request!r}: expected an ImageRequest or a TextRequest")


def _prepare_images(pipe: ShowoPipeline, request: ImageRequest) -> Job:
    arguments = dict(vars(request))
    call = pipe.prepare_images(as_list(arguments.pop("prompt")), **arguments)
    vocabulary, images = call.denoiser.vocabulary, len(call.denoiser.prompt_of_image)
    start = masked_state(images, call.denoiser.num_codes, vocabulary)
    # Requests without a seed all draw from torch's default generator, so each needs a step of its own.
    batch_key = None if request.seed is None else (call.sampling, images)

    def output(state: State) -> ImageOutput:
        codes = state.ids - vocabulary.image_offset
        images = pipe.decode_codes(codes, output_type=request.output_type)
        return ImageOutput(images, codes, state.forward_passes, (pipe.grid_size, pipe.grid_size))

    return Job(call.denoiser, start, output, batch_key)


def _prepare_answers(pipe: ShowoPipeline, request: TextRequest) -> Job:
    decoding = DecodingOptions(**options_in(DecodingOptions, request))
    pairs = pipe.pair_questions(request.image, request.prompt, request.codes)
    decoder, guesses = pipe.prepare_answers(pairs, decoding, make_generator(request.seed))
    batch_key = None if decoding.do_sample else (decoding, decoder.model)
    return Job(decoder, decoder.start(guesses), pipe.text_output, batch_key)
