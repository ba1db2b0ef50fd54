"""Text to ids and back: the prompts of Show-o's tasks (arXiv 2408.12528, section 3.1).

    text to image    [t2i] [sot] text [eot]                           then [soi] codes [eoi]
    no condition     [t2i] [sot] [eot]                                then [soi] codes [eoi]
    understanding    [mmu] [soi] codes [eoi] [sot] USER: ... ASSISTANT:   then answer [eot]
    language         [sot] text [eot]

Decisions:
- A prompt is a plain list of ids without padding; `left_pad` makes a batch of lists when one is needed.
- `<|sot|>` and `<|eot|>` are the text tokenizer's end-of-text token. A text that already starts with it gets no second.
- Building and checking are apart: `PromptBuilder` builds what it is given, literal `<|soi|>` included, as the published
  code does; `check_prompt` and `check_question` are what a user's text goes through first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from showo_turbo.configuration import ShowoConfig
from showo_turbo.errors import InputError
from showo_turbo.vocabulary import SPECIAL_TOKENS, Vocabulary

FIRST_TURN = "USER: \n{} ASSISTANT:"
"""The first question of a dialogue, which its answer follows; as published, it is on a line of its own."""

TURN = "USER: {} ASSISTANT:"
"""Any other question of a dialogue."""

MAX_QUESTION_CHARACTERS = 1024
"""Longest question in the data that Show-o Turbo (arXiv 2502.05415) was distilled on."""


@dataclass(frozen=True)
class PaddedBatch:
    """Rows of unequal length, aligned at their ends.

    Attributes:
        ids: long (batch, length), pads on the left.
        is_pad: bool (batch, length), True at the pads.
    """

    ids: Tensor
    is_pad: Tensor


def left_pad(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str | None = None) -> PaddedBatch:
    """Align rows at their ends. `is_pad` says where the pads are, whatever ids the rows hold."""
    length = max(len(row) for row in rows)
    ids = torch.tensor([[pad_id] * (length - len(row)) + list(row) for row in rows], device=device)
    pads = torch.tensor([length - len(row) for row in rows], device=device)
    return PaddedBatch(ids, torch.arange(length, device=device) < pads[:, None])


def load_text_tokenizer(folder_or_name: str | Path) -> PreTrainedTokenizerBase:
    """The text tokenizer of a folder or hub name, extended by Show-o's special tokens.

    As published, `[PAD]` is added as the padding token and the others as plain tokens.

    Raises:
        InputError: when there is no tokenizer there, or it has no end-of-text token that is bos and eos at once.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder_or_name)
    except Exception as error:  # of a damaged file, libraries raise whatever they stumble over
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"text tokenizer: none could be loaded from {str(folder_or_name)!r} ({reason})") from error
    if tokenizer.eos_token_id is None or tokenizer.bos_token_id != tokenizer.eos_token_id:
        raise InputError(
            f"text tokenizer {str(folder_or_name)!r}: bos is id {tokenizer.bos_token_id} and eos is id "
            f"{tokenizer.eos_token_id}; Show-o needs one end-of-text token that is both"
        )
    tokenizer.add_special_tokens({"pad_token": SPECIAL_TOKENS[0]})
    tokenizer.add_tokens(list(SPECIAL_TOKENS[1:]))
    return tokenizer


def build_vocabulary(tokenizer: PreTrainedTokenizerBase, config: ShowoConfig) -> Vocabulary:
    """The id layout that a checkpoint's config and an extended text tokenizer agree on.

    Raises:
        InputError: when they do not agree, with both numbers.
    """
    expected = config.llm_vocab_size + len(SPECIAL_TOKENS)
    if len(tokenizer) != expected:
        raise InputError(
            f"text tokenizer has {len(tokenizer)} ids with its special tokens, but the checkpoint's llm_vocab_size "
            f"{config.llm_vocab_size} + {len(SPECIAL_TOKENS)} special tokens = {expected}"
        )
    for position, token in enumerate(SPECIAL_TOKENS, start=config.llm_vocab_size):
        found = tokenizer.convert_tokens_to_ids(token)
        if found != position:
            raise InputError(f"text tokenizer has {token} at id {found}, the checkpoint at {position}")
    return Vocabulary(config.llm_vocab_size, config.codebook_size, tokenizer.eos_token_id)


def clean_question(question: str) -> str:
    """A question as models are trained to read it: on one line and without "<image>".

    Raises:
        InputError: when it is empty or longer than 1,024 characters.
    """
    cleaned = question.replace("<image>", "").replace("\n", " ").strip()
    if not cleaned:
        raise InputError("question is empty: ask something about the image")
    if len(cleaned) > MAX_QUESTION_CHARACTERS:
        raise InputError(
            f"question has {len(cleaned)} characters, at most {MAX_QUESTION_CHARACTERS} are understood: shorten it"
        )
    return cleaned


class PromptBuilder:
    """Builds the id lists of every task, and reads texts back from ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary, max_text_length: int = 128) -> None:
        """Keep the parts.

        Args:
            tokenizer: an extended text tokenizer, see `load_text_tokenizer`.
            vocabulary: the id layout, see `build_vocabulary`.
            max_text_length: longest `[sot] text [eot]` of text to image, in tokens.
        """
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary
        self.max_text_length = max_text_length

    @classmethod
    def from_pretrained(cls, folder_or_name: str | Path, config: ShowoConfig) -> "PromptBuilder":
        """Load the text tokenizer of a folder or hub name for the checkpoint described by `config`.

        Raises:
            InputError: when there is none, or it does not fit the checkpoint.
        """
        tokenizer = load_text_tokenizer(folder_or_name)
        return cls(tokenizer, build_vocabulary(tokenizer, config), config.max_text_length)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without anything around it."""
        return self.tokenizer.encode(text, add_special_tokens=False, verbose=False)

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Text of ids up to the first end of text; special tokens, image codes and masks leave no trace."""
        text_ids = []
        for token in map(int, ids):
            if token == self.vocabulary.end_of_text_id:
                break
            if token < self.vocabulary.llm_vocab_size:
                text_ids.append(token)
        return self.tokenizer.decode(text_ids, clean_up_tokenization_spaces=False)

    def text_to_image(self, prompt: str) -> list[int]:
        """`[t2i] [sot] text [eot]`, at most 1 + max_text_length ids; an over-long text loses its end, not `[eot]`."""
        kept = self._opened(prompt)[: self.max_text_length - 1]
        return [self.vocabulary.t2i_id, *kept, self.vocabulary.end_of_text_id]

    def unconditional(self) -> list[int]:
        """`[t2i] [sot] [eot]`: what guidance compares with, and condition dropout trains on."""
        return self.text_to_image("")

    def cut_part(self, prompt: str) -> str:
        """The end of a text-to-image prompt that `text_to_image` leaves out; empty if all of it fits."""
        return self.tokenizer.decode(
            self._opened(prompt)[self.max_text_length - 1 :], clean_up_tokenization_spaces=False
        )

    def understanding(self, codes: Iterable[int] | Tensor, question: str) -> list[int]:
        """`[mmu] [soi] codes [eoi] [sot]` and the question between "USER:" and "ASSISTANT:"; the answer follows.

        Args:
            codes: codebook indices of one image, row-major.
            question: a text that `check_question` has passed.
        """
        return [
            *self.image_prefix(codes),
            self.vocabulary.end_of_text_id,
            *self.encode(FIRST_TURN.format(question)),
        ]

    def next_turn(self, question: str) -> list[int]:
        """What follows an answer in a dialogue: `[eot]`, which ends it, and the next question.

        Args:
            question: a text that `check_question` has passed.
        """
        return [self.vocabulary.end_of_text_id, *self.encode(TURN.format(question))]

    def image_prefix(self, codes: Iterable[int] | Tensor) -> list[int]:
        """`[mmu] [soi] codes [eoi]`, what every understanding sequence starts with."""
        ids = (int(code) + self.vocabulary.image_offset for code in codes)
        return [self.vocabulary.mmu_id, self.vocabulary.soi_id, *ids, self.vocabulary.eoi_id]

    def language_modelling(self, text: str) -> list[int]:
        """`[sot] text [eot]`."""
        return [*self._opened(text), self.vocabulary.end_of_text_id]

    def _opened(self, text: str) -> list[int]:
        """`[sot] text`; a text that brings its own `[sot]` keeps that one."""
        ids = self.encode(text)
        return ids if ids[:1] == [self.vocabulary.end_of_text_id] else [self.vocabulary.end_of_text_id, *ids]

    def check_prompt(self, prompt: str) -> None:
        """Refuse a text-to-image prompt that cannot mean what it says.

        Raises:
            InputError: when it is empty or holds the spelling of a reserved token.
        """
        if not prompt.strip():
            raise InputError("prompt is empty: say what the image should show")
        self._refuse_reserved("prompt", prompt)

    def check_question(self, question: str) -> str:
        """The question, cleaned by `clean_question`.

        Raises:
            InputError: as `clean_question`, or when it holds the spelling of a reserved token.
        """
        cleaned = clean_question(question)
        self._refuse_reserved("question", cleaned)
        return cleaned

    def _refuse_reserved(self, name: str, text: str) -> None:
        if not text.isascii() and text.encode(errors="replace").decode() != text:
            raise InputError(f"{name} {text!r} is in another encoding than the terminal's or file's: give it in UTF-8")
        for token in (*SPECIAL_TOKENS, self.tokenizer.eos_token):
            if token in text:
                raise InputError(f"{name} holds {token!r}, which is a reserved token of the model: take it out")
