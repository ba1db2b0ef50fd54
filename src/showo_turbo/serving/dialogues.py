"""Dialogues in the engine, whose KV caches are kept between turns.

    turn 1   [mmu] [soi] codes [eoi] question 1 ASSISTANT:            all rows are computed, and stored at the end
    turn 2   [mmu] [soi] codes [eoi] question 1 .. answer 1 question 2 ASSISTANT:
             `------------- found by content -------------' `- computed -'

Decisions:
- A request holds all turns as text, so its prompt, and with it its answer, does not depend on what is stored.
- What is stored is found by content: the pixels of the image, then the longest common start of the ids. `TextForward`
  compares ids itself, so a wrong match costs time and changes no result.
- A decoder continues one dialogue at a time: it is taken out, and stored again with the longer dialogue at the end.
  Other dialogues about its picture meanwhile start from the picture alone (`generation.prefix_store`).
- Speculative drafts start afresh in each turn, so the number of forward passes does not depend on what is stored.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import Image

from showo_turbo.components import make_generator
from showo_turbo.generation.options import DecodingOptions, add_options, options_in
from showo_turbo.generation.prefix_store import PrefixStore
from showo_turbo.generation.text_decoder import TextDecoder
from showo_turbo.generation.trajectory import State
from showo_turbo.models.showo_features import FeatureShowo
from showo_turbo.outputs import TextOutput
from showo_turbo.pipelines.chat import ChatTurn
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.pipelines.understanding import EncodedImages
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.serving.batching import Job
from showo_turbo.serving.requests import expected_passes
from showo_turbo.validation import check_positions


@dataclass(frozen=True, eq=False)
@add_options(DecodingOptions, after="question")
class ChatRequest:
    """Request the next answer of a dialogue; the text is that of `Chat.ask` after the same turns.

    Attributes:
        image: the image.
        turns: questions and answers so far.
        question: the next question.
        seed: seed of a random generator.
    """

    image: Image
    turns: Sequence[ChatTurn]
    question: str
    seed: int | None = None

    if TYPE_CHECKING:  # fields that are derived from `DecodingOptions` are unknown to type checkers

        def __init__(self, *args: Any, **options: Any) -> None: ...

    @property
    def decoding_options(self) -> DecodingOptions:
        """Options of the answer."""
        return DecodingOptions(**options_in(DecodingOptions, self))


@dataclass(frozen=True)
class ChatOutput:
    """Hold an answer of a dialogue, or its settled start.

    Attributes:
        text: the answer.
        token_ids: its ids, without the end of text.
        forward_passes: forward passes of the transformer.
        prompt_tokens: length of the prompt.
        cached_tokens: part of the prompt that was found in the cache.
    """

    text: str
    token_ids: list[int]
    forward_passes: int
    prompt_tokens: int
    cached_tokens: int


class DialogueCache:
    """Store encoded images and the decoders of dialogues, the least recently used of which are dropped.

    Attributes:
        lookups: number of dialogues that were looked up.
        hits: number of these that continued a stored one.
        prompt_tokens: tokens of all prompts.
        cached_tokens: tokens of them that were found.
        stored_bytes: size of what is stored.
    """

    def __init__(self, max_bytes: int) -> None:
        """Start empty; nothing is stored if `max_bytes` is 0."""
        self.max_bytes = max_bytes
        self.lookups = self.hits = self.prompt_tokens = self.cached_tokens = self.stored_bytes = 0
        self._images: OrderedDict[bytes, EncodedImages] = OrderedDict()
        self._decoders: OrderedDict[TextDecoder, bytes] = OrderedDict()

    def encode(self, pipe: ShowoPipeline, image: Image) -> tuple[bytes, EncodedImages]:
        """Return a digest of an image's pixels, and the image as the model reads it."""
        digest = sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).digest()
        encoded = self._images.pop(digest, None)
        if encoded is None:
            encoded = pipe.encode_images([image])
            self.stored_bytes += _image_bytes(encoded)
        self._images[digest] = encoded
        self._evict()
        return digest, encoded

    def take(self, digest: bytes, ids: Sequence[int]) -> tuple[TextDecoder | None, int]:
        """Take out the decoder that has read the longest start of a prompt, and return it with the start's length."""
        prompt = torch.tensor([ids])
        found, longest = None, 0
        for decoder in [one for one, image in self._decoders.items() if image == digest]:
            read = decoder.forward.ids[:, : len(ids)]
            common = int((read == prompt[:, : read.shape[1]]).cumprod(1).sum())
            if common > longest:
                found, longest = decoder, common
        if found is not None:
            del self._decoders[found]
            self.stored_bytes -= found.forward.buffer.nbytes
        self.lookups, self.hits = self.lookups + 1, self.hits + (found is not None)
        self.prompt_tokens, self.cached_tokens = self.prompt_tokens + len(ids), self.cached_tokens + longest
        return found, longest

    def store(self, digest: bytes, decoder: TextDecoder) -> None:
        """Store the decoder of a dialogue whose answer is complete."""
        if decoder in self._decoders:
            return
        decoder.drafts = None
        self._decoders[decoder] = digest
        self.stored_bytes += decoder.forward.buffer.nbytes
        self._evict()

    def _evict(self) -> None:
        while self.stored_bytes > self.max_bytes and self._decoders:
            decoder, _ = self._decoders.popitem(last=False)
            self.stored_bytes -= decoder.forward.buffer.nbytes
        while self.stored_bytes > self.max_bytes and self._images:
            _, encoded = self._images.popitem(last=False)
            self.stored_bytes -= _image_bytes(encoded)


def dialogue_ids(
    prompts: PromptBuilder, image: Sequence[int], questions: Sequence[str], answers: Sequence[str]
) -> list[int]:
    """Return the prompt of a dialogue that ends with a question, as token ids.

    Args:
        prompts: the prompt templates.
        image: codes, or numbers of features.
        questions: results of `check_question`.
        answers: one less.
    """
    ids = prompts.understanding(image, questions[0])
    for answer, question in zip(map(str.strip, answers), questions[1:], strict=True):
        ids += [*(prompts.encode(f" {answer}") if answer else []), *prompts.next_turn(question)]
    return ids


def prepare_dialogue(
    pipe: ShowoPipeline, cache: DialogueCache, request: ChatRequest, store: PrefixStore | None = None
) -> Job:
    """Check a request, encode its image, and build its decoder and first state.

    Raises:
        InputError: if a text is empty or too long, or an option is out of its range.
    """
    prompts, decoding = pipe.prompts, request.decoding_options
    questions = pipe.check_questions([*(turn.question for turn in request.turns), request.question], decoding)
    for turn in request.turns:
        prompts.check_answer(turn.answer)
    digest, image = cache.encode(pipe, request.image)
    ids = dialogue_ids(prompts, image.rows[0].tolist(), questions, [turn.answer for turn in request.turns])
    positions = pipe.model.max_positions
    check_positions(len(ids), decoding.max_new_tokens, positions, "image, dialogue so far and question")
    previous, cached = cache.take(digest, ids)
    decoder, guesses = TextDecoder.from_options(
        image.model, prompts.vocabulary, [ids], decoding, make_generator(request.seed), previous
    )
    if decoder.model is pipe.model:
        decoder.store = store
    prompt_tokens = len(ids)

    def output(state: State) -> ChatOutput:
        if state.done:
            cache.store(digest, decoder)
        answer: TextOutput = pipe.text_output(state)
        return ChatOutput(answer.texts[0], answer.token_ids[0], answer.forward_passes, prompt_tokens, cached)

    return Job(decoder, decoder.start(guesses), output, passes=expected_passes(decoding))


def _image_bytes(encoded: EncodedImages) -> int:
    features = encoded.model.features.nbytes if isinstance(encoded.model, FeatureShowo) else 0
    return encoded.rows.nbytes + features
