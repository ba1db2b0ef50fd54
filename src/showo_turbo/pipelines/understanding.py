"""The tasks that answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.text_decoder import TextDecoder
from showo_turbo.models.showo import Showo
from showo_turbo.outputs import TextOutput
from showo_turbo.pipelines import image_to_text as answering
from showo_turbo.pipelines.chat import Dialogue
from showo_turbo.pipelines.image_to_text import DecodingOptions, Streamer
from showo_turbo.pipelines.parts import PipelineParts, as_list, one_source, share
from showo_turbo.pipelines.sight import Sight, require_vision_tower, see_features
from showo_turbo.processing.images import ImageSource


@dataclass(frozen=True)
class Pairs:
    """Images and questions about them.

    Attributes:
        sources: one a question: image sources, or rows of a `Sight`.
        questions: as given.
        seen_by: the model of the `Sight`; None where the images are still to be read.
    """

    sources: list
    questions: list[str]
    seen_by: Showo | None


class TextTasks(PipelineParts):
    """Image to text."""

    def image_to_text(
        self,
        image: ImageSource | Sequence[ImageSource] | Sight | None = None,
        prompt: str | Sequence[str] = "Describe the image.",
        *,
        codes: Tensor | None = None,
        max_new_tokens: int = 64,
        decoding: str = "jacobi",
        block_length: int = 16,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        sliding_window: bool = True,
        drafts: bool = True,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        streamer: Streamer | None = None,
    ) -> TextOutput:
        """Answer questions about images. One image goes with several questions, and one question with several images.

        Args:
            image: a path, an open file, a PIL image, a list of these, or what `see` has made of such a list, which then
                is not read again for every call.
            prompt: one question or several.
            codes: in place of `image`: its codes, long (tokens,), (batch, tokens) or (batch, height, width).
            max_new_tokens: longest answer.
            decoding: "jacobi" or "autoregressive"; without sampling both give the same answer.
            block_length: guesses per pass of Jacobi decoding.
            do_sample: draw ids at random; autoregressive only.
            temperature: divides the scores before drawing.
            top_k: draw among the k best ids only; None draws among all.
            sliding_window: keep `block_length` guesses ahead at all times, and the next block's as well where guesses
                have been good, rather than finish one block after the other; the answer is the same.
            drafts: take guesses from the question, the answer so far and earlier guesses where these were right more
                often than the model's own; the answer is the same.
            generator: where random numbers come from: drawn ids, and the first guesses of Jacobi decoding, which change
                the number of passes but not the answer.
            seed: seed of a generator, if none is given.
            streamer: sees the ids of the answer (one only) as they settle, through transformers' `put` and `end`.

        Raises:
            InputError: when an image cannot be read, a question is empty or too long, or an option is out of its range;
                before any pass.
        """
        options = DecodingOptions(
            max_new_tokens=max_new_tokens,
            decoding=decoding,
            block_length=block_length,
            do_sample=do_sample,
            temperature=temperature,
            top_k=top_k,
            sliding_window=sliding_window,
            drafts=drafts,
        )
        pairs = self.pair_questions(image, prompt, codes)
        if streamer is not None and len(pairs.questions) > 1:
            raise InputError(f"streamer takes one answer at a time, but there are {len(pairs.questions)} questions")
        decoder, guesses = self.prepare_answers(pairs, options, one_source(generator, seed))
        return answering.unpack(answering.decode(decoder, guesses, streamer), self.prompts)

    def pair_questions(
        self,
        image: ImageSource | Sequence[ImageSource] | Sight | None,
        prompt: str | Sequence[str],
        codes: Tensor | None = None,
    ) -> Pairs:
        """Images and questions as `image_to_text` takes them, pair by pair; nothing is read yet.

        Raises:
            InputError: when there is no image or two kinds, the codes are none of this model's, or the numbers differ.
        """
        if (image is None) == (codes is None):
            raise InputError("give either image or codes to image_to_text, and not both")
        if codes is not None:
            image = Sight(self.model, self.code_rows(codes))
        seen_by = image.model if isinstance(image, Sight) else None
        sources = as_list(image) if seen_by is None else list(image.rows)
        return Pairs(*share(sources, as_list(prompt), ("images", "questions")), seen_by)

    def prepare_answers(
        self, pairs: Pairs, options: DecodingOptions, generator: torch.Generator | None = None
    ) -> tuple[TextDecoder, Tensor]:
        """Check questions, look at the images, and lay out: a decoder and first guesses, see `image_to_text.prepare`.

        Raises:
            InputError: when an image cannot be read, or a question is empty or too long.
        """
        length = self.image_length if pairs.seen_by is None else len(pairs.sources[0])
        questions = answering.check_questions(self.model, self.prompts, pairs.questions, length, options)
        seen = pairs.seen_by is not None
        sight = Sight(pairs.seen_by, torch.stack(pairs.sources)) if seen else self.see(pairs.sources)
        rows = [self.prompts.understanding(row, one) for row, one in zip(sight.rows.tolist(), questions, strict=True)]
        return answering.prepare(sight.model, self.prompts.vocabulary, rows, options, generator)

    def chat(self, image: ImageSource | None = None, *, codes: Tensor | None = None) -> Dialogue:
        """A dialogue about one image: `pipe.chat(image).ask("What is it?")`, and so on.

        Args:
            image: a path, an open file or a PIL image.
            codes: in place of `image`: its codes, long (tokens,), (1, tokens) or (1, height, width).

        Raises:
            InputError: when the image cannot be read, or there is more than one.
        """
        if (image is None) == (codes is None):
            raise InputError("give either image or codes to chat, and not both")
        sight = self.see(as_list(image)) if codes is None else Sight(self.model, self.code_rows(codes))
        if len(sight.rows) != 1:
            raise InputError(f"a dialogue is about one image, but there are {len(sight.rows)}: start one for each")
        return Dialogue(sight.model, self.prompts, sight.rows[0])

    @property
    def image_length(self) -> int:
        """Tokens that an image takes in a question about it.

        Raises:
            InputError: when the checkpoint answers by CLIP features, and there is no CLIP picture tower.
        """
        config = self.model.config
        return require_vision_tower(self.vision_tower).num_features if config.w_clip_vit else config.num_vq_tokens

    def see(self, images: ImageSource | Sequence[ImageSource]) -> Sight:
        """Images, one or several, as the transformer sees them when it answers, to be asked about any number of times.

        Raises:
            InputError: when an image cannot be read, or there is nothing to see it by.
        """
        if self.model.config.w_clip_vit:
            return see_features(self.model, require_vision_tower(self.vision_tower), as_list(images))
        return Sight(self.model, self.encode_each_once(as_list(images)))

    def code_rows(self, codes: Tensor) -> Tensor:
        """Codes as a user gives them, see `check_codes`, as the model reads them: long (batch, tokens).

        Raises:
            InputError: when they are no codes of this model, or it answers by CLIP features.
        """
        if self.model.config.w_clip_vit:
            raise InputError("this checkpoint answers by CLIP features and cannot be asked about codes: give the image")
        return self.check_codes(codes).reshape(len(codes) if codes.ndim > 1 else 1, -1)
