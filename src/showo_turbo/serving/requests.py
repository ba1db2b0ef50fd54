"""Requests to the engine: the arguments of the pipeline's methods as values.

ImageRequest, InpaintRequest, ..  --prepare_request--> denoiser, first state        --engine--> states --> ImageOutput
TextRequest                       --prepare_request--> TextDecoder, first guesses   --engine--> states --> TextOutput

The result of a request is that of the method: `pipe.text_to_image(**vars(request))`, `pipe.inpaint(...)`, and so on.

Decisions:
- Square images with the same options and numbers of images share a decoder, edits among edits: with guidance, the first
  pass of an image of which nothing is known takes stored logits. Edits by instruction share one of their own, since
  their prompts hold an image.
- Other sizes and extrapolation run window by window, in a decoder of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from showo_turbo.components import make_generator
from showo_turbo.errors import InputError
from showo_turbo.generation.canvas import CanvasDenoiser
from showo_turbo.generation.options import DecodingOptions, SamplingOptions, add_options, options_in
from showo_turbo.generation.prefix_store import PrefixStore
from showo_turbo.generation.trajectory import State
from showo_turbo.outputs import ImageOutput
from showo_turbo.pipelines.image_generation import Drawing
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.pipelines.understanding import EncodedImages
from showo_turbo.processing.image_files import ImageSource
from showo_turbo.serving.batching import Job


@dataclass(frozen=True, eq=False)
@add_options(SamplingOptions, after="prompt")
class ImageRequest:
    """Request images of prompts; its fields are the arguments of `ShowoPipeline.text_to_image`."""

    prompt: str | Sequence[str]
    num_images_per_prompt: int = 1
    seed: int | None = None
    output_type: str = "pil"
    height: int | None = None
    width: int | None = None

    if TYPE_CHECKING:  # fields that are derived from `SamplingOptions` are unknown to type checkers

        def __init__(self, *args: Any, **options: Any) -> None: ...


@dataclass(frozen=True, eq=False)
@add_options(SamplingOptions, after="prompt")
class InpaintRequest:
    """Request images of which a part is redrawn; its fields are the arguments of `ShowoPipeline.inpaint`."""

    image: ImageSource | Sequence[ImageSource] | None = None
    mask: ImageSource | Tensor | Sequence[ImageSource] | None = None
    prompt: str | Sequence[str] = ""
    num_images_per_prompt: int = 1
    seed: int | None = None
    output_type: str = "pil"
    codes: Tensor | None = None

    if TYPE_CHECKING:  # fields that are derived from `SamplingOptions` are unknown to type checkers

        def __init__(self, *args: Any, **options: Any) -> None: ...


@dataclass(frozen=True, eq=False)
@add_options(SamplingOptions, after="direction")
class ExtrapolateRequest:
    """Request images that are extended; its fields are the arguments of `ShowoPipeline.extrapolate`."""

    image: ImageSource | Sequence[ImageSource] | None = None
    prompt: str | Sequence[str] = ""
    direction: str | Sequence[str] = "left"
    num_images_per_prompt: int = 1
    seed: int | None = None
    output_type: str = "pil"
    offset: int = 0
    codes: Tensor | None = None

    if TYPE_CHECKING:  # fields that are derived from `SamplingOptions` are unknown to type checkers

        def __init__(self, *args: Any, **options: Any) -> None: ...


@dataclass(frozen=True, eq=False)
@add_options(SamplingOptions, after="strength")
class VaryRequest:
    """Request variations of images; its fields are the arguments of `ShowoPipeline.vary`."""

    image: ImageSource | Sequence[ImageSource] | None = None
    prompt: str | Sequence[str] = ""
    strength: float = 0.6
    num_images_per_prompt: int = 1
    seed: int | None = None
    output_type: str = "pil"
    codes: Tensor | None = None

    if TYPE_CHECKING:  # fields that are derived from `SamplingOptions` are unknown to type checkers

        def __init__(self, *args: Any, **options: Any) -> None: ...


@dataclass(frozen=True, eq=False)
@add_options(SamplingOptions, after="prompt")
class EditRequest:
    """Request images as an instruction changes them; its fields are the arguments of `ShowoPipeline.edit`."""

    image: ImageSource | Sequence[ImageSource] | None = None
    prompt: str | Sequence[str] = ""
    num_images_per_prompt: int = 1
    seed: int | None = None
    output_type: str = "pil"
    codes: Tensor | None = None

    if TYPE_CHECKING:  # fields that are derived from `SamplingOptions` are unknown to type checkers

        def __init__(self, *args: Any, **options: Any) -> None: ...


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


DrawingRequest = ImageRequest | InpaintRequest | ExtrapolateRequest | VaryRequest | EditRequest
PipelineRequest = DrawingRequest | TextRequest

_TOKENS_PER_PASS = 4
"""Expected tokens per forward pass of Jacobi decoding; orders requests, and changes no result."""


def prepare_request(pipe: ShowoPipeline, request: PipelineRequest, store: PrefixStore | None = None) -> Job:
    """Check a request, encode its images, and build its decoder and first state.

    Args:
        pipe: the pipeline whose method it is.
        request: the request.
        store: KV caches of earlier pictures, which answers start from.

    Raises:
        InputError: if an image cannot be read, a prompt is empty or too long, or an option is out of its range.
    """
    if isinstance(request, TextRequest):
        return _prepare_answers(pipe, request, store)
    prepare: dict[type, Callable[..., Drawing]] = {
        ImageRequest: pipe.prepare_drawing,
        InpaintRequest: pipe.prepare_inpainting,
        ExtrapolateRequest: pipe.prepare_extrapolation,
        VaryRequest: pipe.prepare_variation,
        EditRequest: pipe.prepare_editing,
    }
    if type(request) not in prepare:
        raise InputError(f"request is {request!r}: expected an ImageRequest or a TextRequest")
    return _image_job(pipe, prepare[type(request)](**vars(request)), request)


def _image_job(pipe: ShowoPipeline, drawing: Drawing, request: DrawingRequest) -> Job:
    denoiser, canvas, sampling = drawing.call.denoiser, drawing.canvas, drawing.call.sampling
    vocabulary, output_type = denoiser.vocabulary, drawing.call.output_type

    def output(state: State) -> ImageOutput:  # it references no denoiser, see `Job`
        drawn = canvas.at(state, vocabulary)
        codes = drawn.codes.flatten(1)
        images = pipe.decode_codes(codes, *drawn.grid, output_type=output_type)
        return ImageOutput(images, codes, drawn.forward_passes, drawn.grid)

    start = canvas.start(vocabulary)
    if canvas.grid == (pipe.grid_size, pipe.grid_size):
        # Requests without a seed all draw from torch's default generator, so each needs a step of its own.
        kind = (isinstance(request, EditRequest), bool(start.settled.any()))
        batch_key = None if request.seed is None else (sampling, len(start.ids), kind)
        return Job(denoiser, start, output, batch_key, drawing.passes)
    return Job(CanvasDenoiser(denoiser, canvas.grid, drawing.windows), start, output, passes=drawing.passes)


def expected_passes(options: DecodingOptions) -> int:
    """Return the number of forward passes that an answer is expected to take."""
    return max(1, options.max_new_tokens // (_TOKENS_PER_PASS if options.decoding == "jacobi" else 1))


def _prepare_answers(pipe: ShowoPipeline, request: TextRequest, store: PrefixStore | None) -> Job:
    decoding = DecodingOptions(**options_in(DecodingOptions, request))
    pairs = pipe.pair_questions(request.image, request.prompt, request.codes)
    decoder, guesses = pipe.prepare_answers(pairs, decoding, make_generator(request.seed))
    if decoder.model is pipe.model:
        decoder.store = store
    batch_key = None if decoding.do_sample else (decoding, decoder.model)
    return Job(decoder, decoder.start(guesses), pipe.text_output, batch_key, expected_passes(decoding))
