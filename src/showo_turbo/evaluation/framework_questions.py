"""Answer the questions of an evaluation framework by the engine, as `evaluate` answers those of a benchmark.

Decisions:
- The model reads one image, so of several images the first is read. One line says how many questions that concerns.
- A limit of new tokens is an upper bound in all frameworks, and often larger than the positions of the model. So it is
  lowered to the positions that are left.
- Options that change answers and that do not exist here, such as beam search, are refused rather than ignored.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from showo_turbo.errors import InputError
from showo_turbo.evaluation.items import Item
from showo_turbo.evaluation.run import run_items
from showo_turbo.generation.options import DecodingOptions
from showo_turbo.outputs import TextOutput
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.pipelines.understanding import EncodedImages
from showo_turbo.processing.prompts import MAX_QUESTION_CHARACTERS
from showo_turbo.serving.requests import PipelineRequest, TextRequest

logger = logging.getLogger(__name__)

_NEUTRAL = {"num_beams": 1, "repetition_penalty": 1.0, "length_penalty": 1.0, "num_return_sequences": 1}
"""Options of transformers that do not exist here, with the value that changes nothing."""


@dataclass(frozen=True)
class FrameworkQuestion:
    """Hold a question of a framework.

    Attributes:
        text: the question with the framework's instruction.
        open_images: opens its images.
        options: options of generation, by transformers' names.
        where: names the question in error messages.
    """

    text: str
    open_images: Callable[[], Sequence[Image.Image]]
    options: Mapping[str, Any]
    where: str


def answer_questions(
    pipe: ShowoPipeline, questions: Iterable[FrameworkQuestion], batch_size: int, shorten: bool
) -> list[TextOutput]:
    """Answer questions, in their order.

    Args:
        pipe: the pipeline.
        questions: the questions.
        batch_size: number of answers at a time; they do not depend on it.
        shorten: cut the start of questions that are too long, rather than refuse them.

    Raises:
        InputError: naming a question that is invalid, has no image, or has options that do not exist here.
    """
    by_id = {str(number): question for number, question in enumerate(questions)}
    counts = {"read the first of several images": 0, "are cut at their start": 0}
    last: dict[tuple[Any, ...], EncodedImages] = {}

    def encode(question: FrameworkQuestion) -> EncodedImages:
        images = question.open_images()
        if not images:
            raise InputError("question has no image: the model answers questions about an image")
        counts["read the first of several images"] += len(images) > 1
        key = (images[0].mode, images[0].size, images[0].tobytes())
        if key not in last:  # consecutive questions are often about one image
            last.clear()
            last[key] = pipe.encode_images([images[0]])
        return last[key]

    def make_requests(item: Item) -> list[PipelineRequest]:
        question, text = by_id[item.id], item.text
        if shorten and len(text) > MAX_QUESTION_CHARACTERS:
            text = text[-MAX_QUESTION_CHARACTERS:]  # options and instruction are at the end
            counts["are cut at their start"] += 1
        encoded = encode(question)
        return [TextRequest(encoded, text, seed=0, **_decoding(pipe, question.options, encoded, text))]

    items = [Item(key, question.text, question.where) for key, question in by_id.items()]
    engine = pipe.engine(max_sequences=batch_size)
    outputs = {item.id: output for item, (output,) in run_items(engine, items, make_requests, batch_size)}
    for what, count in counts.items():
        if count:
            logger.warning("%s of %s questions %s", count, len(items), what)
    return [outputs[item.id] for item in items]


def cut_at(text: str, stops: Sequence[str]) -> str:
    """Return a text up to the first of the stop sequences in it."""
    return min((text.partition(stop)[0] for stop in stops if stop), key=len, default=text)


def _decoding(pipe: ShowoPipeline, options: Mapping[str, Any], encoded: EncodedImages, text: str) -> dict[str, Any]:
    """Return decoding options for options of transformers.

    Raises:
        InputError: if an option does not exist here, or no position is left for the answer.
    """
    for name, neutral in _NEUTRAL.items():
        if options.get(name) not in (None, neutral):
            raise InputError(f"{name} is {options[name]}: choose {neutral}, this model's decoding has no other")
    chosen: dict[str, Any] = {}
    if options.get("do_sample") and options.get("temperature") != 0:
        if options.get("top_p") not in (None, 1, 1.0):
            raise InputError(f"top_p is {options['top_p']}: choose 1, or top_k, this model's sampling has no top_p")
        chosen = {"do_sample": True, "decoding": "autoregressive"}
        chosen |= {name: options[name] for name in ("temperature", "top_k") if options.get(name) is not None}
    limit = options.get("max_new_tokens")
    limit = DecodingOptions().max_new_tokens if limit is None else limit
    question = pipe.prompts.check_question(text)
    left = pipe.model.max_positions - len(pipe.prompts.understanding([0] * encoded.rows.shape[1], question))
    if left < 1:
        raise InputError(f"image and question fill the model's {pipe.model.max_positions} positions: shorten it")
    return chosen | {"max_new_tokens": min(limit, left)}
