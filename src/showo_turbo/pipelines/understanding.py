"""Answer questions about images.

images ------encode_images--> codes or CLIP features --+
                                                       +--prepare_decoder--> TextDecoder --decode--> text_output
questions ---check_questions--> prompts ---------------+
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from showo_turbo.components import Components, as_list, broadcast, choose_generator, distinct
from showo_turbo.errors import InputError
from showo_turbo.generation.options import DecodingOptions, takes_options
from showo_turbo.generation.text_decoder import Streamer, TextDecoder, answer_ids, ended_on_error, visible_ids
from showo_turbo.generation.trajectory import State
from showo_turbo.models.showo import Showo
from showo_turbo.models.showo_features import FeatureShowo
from showo_turbo.outputs import AnswerFrame, TextOutput
from showo_turbo.pipelines.chat import Chat
from showo_turbo.processing.image_files import ImageSource
from showo_turbo.validation import check_positions


@dataclass(frozen=True)
class EncodedImages:
    """Hold images as the transformer reads them in questions.

    Attributes:
        model: the transformer that reads them.
        rows: long (images, n), codes, or indices of CLIP features, as `PromptBuilder.understanding` takes them.
    """

    model: Showo
    rows: Tensor


@dataclass(frozen=True)
class QuestionPairs:
    """Hold images and questions in equal numbers.

    Attributes:
        images: image sources, or rows of `EncodedImages`.
        questions: as given.
        model: the model of the `EncodedImages`; None if the images are not encoded yet.
    """

    images: list
    questions: list[str]
    model: Showo | None


class Understanding(Components):
    """Answer questions about images."""

    @takes_options(DecodingOptions)
    def image_to_text(
        self,
        image: ImageSource | Sequence[ImageSource] | EncodedImages | None = None,
        prompt: str | Sequence[str] = "Describe the image.",
        *,
        codes: Tensor | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        streamer: Streamer | None = None,
        return_trajectory: bool = False,
        **options: Any,
    ) -> TextOutput:
        """Answer questions. One image may be paired with several questions, and one question with several images.

        Args:
            image: a path, an open file, a PIL image, an array (output types "np" and "pt"), a list of these, or what
                `encode_images` has returned for such a list, so that it is not encoded again in every call.
            prompt: one question or several.
            codes: the image as codes, in place of `image`: long (tokens,), (batch, tokens) or (batch, height, width).
            generator: source of random numbers: of sampled ids, and of the first guesses of Jacobi decoding, which
                change the number of forward passes but not the answer.
            seed: seed of a generator, if none is given.
            streamer: receives the prompt's ids and then those of the answer (one only) as they settle, through
                transformers' `put` and `end`; `end` is called on errors too.
            return_trajectory: store the first guesses and the tokens after every forward pass in the output's
                `trajectory`; see `plot_trajectory`.
            **options: fields of `DecodingOptions`, such as `max_new_tokens`.

        Raises:
            InputError: if an image cannot be read, a question is empty or too long, or an option is out of its range;
                before any forward pass.
        """
        with ended_on_error(streamer):
            decoding = DecodingOptions(**options)
            pairs = self.pair_questions(image, prompt, codes)
            if streamer is not None and len(pairs.questions) > 1:
                raise InputError(f"streamer takes one answer at a time, but there are {len(pairs.questions)} questions")
            decoder, guesses = self.prepare_answers(pairs, decoding, choose_generator(generator, seed))
            states: list[State] = []
            output = self.text_output(decoder.generate(guesses, streamer, states.append if return_trajectory else None))
        if return_trajectory:
            frames = [self._answer_frames(states, row, decoder.block_length) for row in range(len(output.texts))]
            output = replace(output, trajectory=frames)
        return output

    def chat(self, image: ImageSource | None = None, *, codes: Tensor | None = None) -> Chat:
        """Start a chat about one image: `pipe.chat(image).ask("What is it?")`, and so on.

        Args:
            image: a path, an open file, a PIL image or an array.
            codes: the image as codes, in place of `image`: long (tokens,), (1, tokens) or (1, height, width).

        Raises:
            InputError: if the image cannot be read, or there is more than one.
        """
        if (image is None) == (codes is None):
            raise InputError("give either image or codes to chat, and not both")
        encoded = self.encode_images(as_list(image)) if codes is None else self._encoded_codes(codes)
        if len(encoded.rows) != 1:
            raise InputError(f"a dialogue is about one image, but there are {len(encoded.rows)}: start one for each")
        return Chat(self, encoded)

    @torch.no_grad()
    def encode_images(self, images: ImageSource | Sequence[ImageSource]) -> EncodedImages:
        """Encode one image or several for any number of questions: as codes, or with `w_clip_vit` as CLIP features.

        An image that occurs several times is encoded once.

        Raises:
            InputError: if an image cannot be read, or there is no image tokenizer or vision tower to encode it.
        """
        images = as_list(images)
        if not self.model.config.w_clip_vit:
            return EncodedImages(self.model, self.encode_image(images))
        tower = self.require_vision_tower()
        different, numbers = distinct(images)
        model = FeatureShowo(self.model, tower(tower.preprocess(different)))
        return EncodedImages(model, model.feature_indices(numbers))

    def pair_questions(
        self,
        image: ImageSource | Sequence[ImageSource] | EncodedImages | None,
        prompt: str | Sequence[str],
        codes: Tensor | None = None,
    ) -> QuestionPairs:
        """Pair images with questions as `image_to_text` does; no image is read yet.

        Raises:
            InputError: if there is no image or two kinds, codes are not those of this model, or the numbers differ.
        """
        if (image is None) == (codes is None):
            raise InputError("give either image or codes to image_to_text, and not both")
        if codes is not None:
            image = self._encoded_codes(codes)
        model, sources = (image.model, list(image.rows)) if isinstance(image, EncodedImages) else (None, as_list(image))
        return QuestionPairs(*broadcast(sources, as_list(prompt), ("images", "questions")), model)

    def prepare_answers(
        self, pairs: QuestionPairs, options: DecodingOptions, generator: torch.Generator | None = None
    ) -> tuple[TextDecoder, Tensor]:
        """Check questions, encode images, and build a decoder with its first guesses, long (batch, max_new_tokens).

        Raises:
            InputError: if an image cannot be read, or a question is empty or too long.
        """
        if pairs.model is None:
            questions = self.check_questions(pairs.questions, options)
            images = self.encode_images(pairs.images)
        else:
            questions = self.check_questions(pairs.questions, options, len(pairs.images[0]))
            images = EncodedImages(pairs.model, torch.stack(pairs.images))
        rows = [self.prompts.understanding(row, one) for row, one in zip(images.rows.tolist(), questions, strict=True)]
        return TextDecoder.from_options(images.model, self.prompts.vocabulary, rows, options, generator)

    def check_questions(
        self, questions: Sequence[str], options: DecodingOptions, image_length: int | None = None
    ) -> list[str]:
        """Return the questions as the model reads them, after checking that they and their answers fit its positions.

        Args:
            questions: as given by a user.
            options: limit of the answers.
            image_length: tokens of an image; those of this model's images if left out.

        Raises:
            InputError: if one is not a text, empty or too long, holds a reserved token, or the checkpoint needs a CLIP
                vision tower and has none.
        """
        config = self.model.config
        if image_length is None:
            image_length = self.require_vision_tower().num_features if config.w_clip_vit else config.num_vq_tokens
        cleaned = [self.prompts.check_question(question) for question in questions]
        self.warn_unknown_words(cleaned, "questions")
        for question in cleaned:
            length = len(self.prompts.understanding([0] * image_length, question))
            check_positions(length, options.max_new_tokens, self.model.max_positions, "image and question")
        return cleaned

    def text_output(self, state: State) -> TextOutput:
        """Return the ids and texts of a state."""
        end_id = self.prompts.vocabulary.end_of_text_id
        token_ids = [answer_ids(state, row, end_id) for row in range(len(state.ids))]
        return TextOutput([self.prompts.decode(ids).strip() for ids in token_ids], token_ids, state.forward_passes)

    def _answer_frames(self, states: Sequence[State], row: int, num_guesses: int) -> list[AnswerFrame]:
        """Return the states of an answer as texts, up to the one in which it has ended."""
        frames: list[AnswerFrame] = []
        for state in states:
            ids, num_settled, ended = visible_ids(state, row, self.prompts.vocabulary.end_of_text_id, num_guesses)
            texts = [self.prompts.decode([token]) for token in ids]
            frames.append(AnswerFrame(texts, min(num_settled, len(texts)), state.forward_passes))
            if ended:
                break
        return frames

    def _encoded_codes(self, codes: Tensor) -> EncodedImages:
        """Return codes that a user gives as rows, long (batch, tokens)."""
        if self.model.config.w_clip_vit:
            raise InputError("this checkpoint answers by CLIP features and cannot be asked about codes: give the image")
        self.check_codes(codes)
        return EncodedImages(self.model, codes.reshape(len(codes) if codes.ndim > 1 else 1, -1))
