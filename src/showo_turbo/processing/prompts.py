"""Build the prompts of Show-o's tasks as token ids, and decode ids to text (arXiv 2408.12528, section 3.1).

    text to image    [t2i] [sot] text [eot]                           then [soi] codes [eoi]
    editing          [t2i] [soi] codes [eoi] [sot] instruction [eot]  then [soi] codes [eoi]
    no condition     [t2i] [sot] [eot]                                then [soi] codes [eoi]
    understanding    [mmu] [soi] codes [eoi] [sot] USER: ... ASSISTANT:   then answer [eot]
    language         [sot] text [eot]

Decisions:
- A prompt is a plain list of ids without padding; `left_pad` makes a batch of lists when one is needed.
- `<|sot|>` and `<|eot|>` are the text tokenizer's end-of-text token. It is not repeated if a text starts with it.
- Building does not check: `PromptBuilder` encodes any text, literal `<|soi|>` included, as the published code does.
  A user's text is passed to `check_prompt` or `check_question` first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from showo_turbo.configuration import ShowoConfig
from showo_turbo.errors import InputError, one_line
from showo_turbo.processing.plain_tokenizer import PlainTokenizer, open_plain_tokenizer
from showo_turbo.processing.tokenizer_files import check_tokenizer_files
from showo_turbo.validation import shown
from showo_turbo.vocabulary import SPECIAL_TOKENS, Vocabulary

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

TextTokenizer: TypeAlias = "PreTrainedTokenizerBase | PlainTokenizer"

FIRST_TURN = "USER: \n{} ASSISTANT:"
"""Template of the first question of a dialogue; as published, it starts a new line."""

TURN = "USER: {} ASSISTANT:"
"""Template of every later question of a dialogue."""

MAX_QUESTION_CHARACTERS = 1024
"""Length of the longest question in the data that Show-o Turbo (arXiv 2502.05415) was distilled on."""

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")

MAX_PROMPT_CHARACTERS = 1 << 16
"""Length of the longest text that is tokenized to see whether it fits as a prompt."""

MAX_TEXT_CHARACTERS = 1 << 20
"""Part of a training text that is tokenized; far more than any model's positions."""


@dataclass(frozen=True)
class PaddedBatch:
    """Hold rows of unequal length as a batch, padded on the left.

    Attributes:
        ids: long (batch, length), pads on the left.
        is_pad: bool (batch, length), True at the pads.
    """

    ids: Tensor
    is_pad: Tensor


def left_pad(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str | None = None) -> PaddedBatch:
    """Pad rows on the left to the length of the longest. `is_pad` is exact even if a row contains `pad_id`."""
    import torch

    length = max(len(row) for row in rows)
    ids = torch.tensor([[pad_id] * (length - len(row)) + list(row) for row in rows], device=device)
    pads = torch.tensor([length - len(row) for row in rows], device=device)
    return PaddedBatch(ids, torch.arange(length, device=device) < pads[:, None])


def load_plain_tokenizer(folder: str | Path) -> PlainTokenizer | None:
    """Load the text tokenizer of a folder without transformers, or return None if it needs transformers' rules.

    Raises:
        InputError: if there is no tokenizer, or its files are damaged or hostile.
    """
    if not any((Path(folder) / name).is_file() for name in _TOKENIZER_FILES):
        raise InputError(
            f"text tokenizer: none could be loaded from {str(folder)!r}: expected tokenizer.json, or vocab.json and "
            "merges.txt in it"
        )
    check_tokenizer_files(Path(folder))
    with _errors_of_loading(folder):
        return open_plain_tokenizer(Path(folder), lambda: _load_by_transformers(folder))


def load_text_tokenizer(folder: str | Path) -> TextTokenizer:
    """Load the text tokenizer of a folder and add Show-o's special tokens.

    As published, `[PAD]` is added as the padding token and the others as plain tokens. Python files of the folder are
    never executed: a tokenizer with code of its own is read from its `tokenizer.json`.

    Raises:
        InputError: as `load_plain_tokenizer`, or if bos and eos are not one and the same token.
    """
    tokenizer: TextTokenizer | None = load_plain_tokenizer(folder)
    if tokenizer is None:
        with _errors_of_loading(folder):
            tokenizer = _load_by_transformers(folder)
    if tokenizer.eos_token_id is None or tokenizer.bos_token_id != tokenizer.eos_token_id:
        raise InputError(
            f"text tokenizer {str(folder)!r}: bos is id {tokenizer.bos_token_id} and eos is id "
            f"{tokenizer.eos_token_id}; Show-o needs one end-of-text token that is both"
        )
    return tokenizer


@contextmanager
def _errors_of_loading(folder: str | Path) -> Iterator[None]:
    """Raise `InputError` for exceptions of any type, which damaged files cause."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise InputError(f"text tokenizer: none could be loaded from {str(folder)!r} ({reason})") from error


def _load_by_transformers(folder: str | Path) -> PreTrainedTokenizerBase:
    from transformers import AddedToken, AutoTokenizer, PhiConfig

    # The config is a plain one, so that the folder's own cannot name code either.
    tokenizer = AutoTokenizer.from_pretrained(folder, config=PhiConfig(), trust_remote_code=False)
    tokenizer.add_special_tokens({"pad_token": SPECIAL_TOKENS[0]})
    # Otherwise a normalizer that lowercases would make a special token of <|SOI|>, which no check refuses.
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS[1:]])
    return tokenizer


def build_vocabulary(tokenizer: TextTokenizer, config: ShowoConfig) -> Vocabulary:
    """Return the id layout of a checkpoint's config and an extended text tokenizer.

    Raises:
        InputError: if they differ in the number of ids or in the id of a special token.
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
    return Vocabulary(config.llm_vocab_size, config.codebook_size, cast(int, tokenizer.eos_token_id))


def plain_line_ends(text: str) -> str:
    """Return a text without byte order marks and carriage returns; line ends are `\\n`, as when a file is read."""
    return text.replace("\ufeff", "").replace("\r\n", "\n").rstrip("\r").replace("\r", "\n")


def clean_question(question: str) -> str:
    """Return a question in the form that models are trained on: one line, without "<image>".

    Raises:
        InputError: if it is empty or longer than 1,024 characters.
    """
    cleaned = plain_line_ends(question).replace("<image>", "").replace("\n", " ").strip()
    if not cleaned:
        raise InputError("question is empty: ask something about the image")
    if len(cleaned) > MAX_QUESTION_CHARACTERS:
        raise InputError(
            f"question has {len(cleaned)} characters, at most {MAX_QUESTION_CHARACTERS} are understood: shorten it"
        )
    return cleaned


class PromptBuilder:
    """Build the id lists of every task, and decode ids to text."""

    def __init__(self, tokenizer: TextTokenizer, vocabulary: Vocabulary, max_text_length: int = 128) -> None:
        """Create a builder for one checkpoint.

        Args:
            tokenizer: an extended text tokenizer, see `load_text_tokenizer`.
            vocabulary: the id layout, see `build_vocabulary`.
            max_text_length: longest `[sot] text [eot]` of text to image, in tokens.

        Attributes:
            truncates_prompts: if set, `check_prompt` lets longer prompts pass, which `text_to_image` truncates.
        """
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary
        self.max_text_length = max_text_length
        self.truncates_prompts = False

    @classmethod
    def from_pretrained(cls, folder: str | Path, config: ShowoConfig) -> PromptBuilder:
        """Load the text tokenizer of a folder for the checkpoint described by `config`.

        Raises:
            InputError: if there is none, or it does not fit the checkpoint.
        """
        tokenizer = load_text_tokenizer(folder)
        return cls(tokenizer, build_vocabulary(tokenizer, config), config.max_text_length)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens."""
        try:
            return self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # the only base class of these is BaseException
                raise
            raise InputError(f"text {shown(text)} cannot be tokenized ({one_line(error)})") from error

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Return the text of ids up to the first `[eot]`; special tokens, image codes and masks are skipped."""
        text_ids = []
        for token in map(int, ids):
            if token == self.vocabulary.end_of_text_id:
                break
            if token < self.vocabulary.llm_vocab_size:
                text_ids.append(token)
        return self._decode(text_ids)

    def _decode(self, ids: list[int]) -> str:
        text = self.tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False)
        return self.tokenizer.clean_up_tokenization(text) if self.cleans_up_spaces else text

    @property
    def cleans_up_spaces(self) -> bool:
        """Whether decoded texts lose spaces before punctuation: the tokenizer config's `clean_up_tokenization_spaces`.

        transformers ignores it for byte-level BPE since version 5; the published answers follow it.
        """
        return bool(self.tokenizer.clean_up_tokenization_spaces)

    def text_to_image(self, prompt: str) -> list[int]:
        """Return `[t2i] [sot] text [eot]`, truncated before `[eot]` to at most 1 + max_text_length ids."""
        text = self._start_with_sot(prompt)[: self.max_text_length - 1]
        return [self.vocabulary.t2i_id, *text, self.vocabulary.end_of_text_id]

    def editing(self, codes: Iterable[int] | Tensor, instruction: str) -> list[int]:
        """Return `[t2i] [soi] codes [eoi] [sot] instruction [eot]`, which the edited image follows.

        Args:
            codes: codebook indices of the image to edit, row-major.
            instruction: truncated as the text of `text_to_image`.
        """
        task, *text = self.text_to_image(instruction)
        return [task, *self.image_prefix(codes)[1:], *text]

    def unconditional(self) -> list[int]:
        """Return `[t2i] [sot] [eot]`, the unconditional prompt of classifier-free guidance and condition dropout."""
        return self.text_to_image("")

    def truncated_end(self, prompt: str) -> str:
        """Return the end of a prompt that `text_to_image` truncates; empty if the prompt fits."""
        ids = self._start_with_sot(prompt)[self.max_text_length - 1 :]
        return self._decode(ids)

    def understanding(self, codes: Iterable[int] | Tensor, question: str) -> list[int]:
        """Return `[mmu] [soi] codes [eoi] [sot] USER: question ASSISTANT:`, which the answer follows.

        Args:
            codes: codebook indices of one image, row-major.
            question: the result of `check_question`.
        """
        return [
            *self.image_prefix(codes),
            self.vocabulary.end_of_text_id,
            *self.encode(FIRST_TURN.format(question)),
        ]

    def next_turn(self, question: str) -> list[int]:
        """Return `[eot] USER: question ASSISTANT:`, which follows an answer in a dialogue.

        Args:
            question: the result of `check_question`.
        """
        return [self.vocabulary.end_of_text_id, *self.encode(TURN.format(question))]

    def image_prefix(self, codes: Iterable[int] | Tensor) -> list[int]:
        """Return `[mmu] [soi] codes [eoi]`, the start of every understanding sequence."""
        ids = (int(code) + self.vocabulary.image_offset for code in codes)
        return [self.vocabulary.mmu_id, self.vocabulary.soi_id, *ids, self.vocabulary.eoi_id]

    def language_modelling(self, text: str) -> list[int]:
        """Return `[sot] text [eot]`; of a text longer than `MAX_TEXT_CHARACTERS`, only the start is used."""
        return [*self._start_with_sot(text[:MAX_TEXT_CHARACTERS]), self.vocabulary.end_of_text_id]

    def _start_with_sot(self, text: str) -> list[int]:
        """Return `[sot] text`; a `[sot]` at the start of the text is not repeated."""
        ids = self.encode(text)
        return ids if ids[:1] == [self.vocabulary.end_of_text_id] else [self.vocabulary.end_of_text_id, *ids]

    def check_prompt(self, prompt: object) -> str:
        """Check a text-to-image prompt.

        Returns:
            The prompt in the form of `plain_line_ends`.

        Raises:
            InputError: if it is not a text, is empty, cannot be encoded as UTF-8, contains a reserved token, or is
                longer than the model takes (see `truncates_prompts`).
        """
        if not isinstance(prompt, str):
            raise InputError(f"prompt is {prompt!r}: expected a text")
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise InputError(
                f"prompt is too long: it has {len(prompt):,} characters, and the model takes {self.max_text_length} "
                "tokens: shorten it"
            )
        prompt = plain_line_ends(prompt)
        if not prompt.strip():
            raise InputError("prompt is empty: say what the image should show")
        self._check_characters("prompt", prompt)
        if not self.truncates_prompts and (end := self.truncated_end(prompt)):
            raise InputError(
                f"prompt is too long: the model takes {self.max_text_length} tokens, and its end, "
                f"{shown(end.strip())}, would be cut: shorten it (it has "
                f"{len(self._start_with_sot(prompt)) + 1} tokens)"
            )
        return prompt

    def check_question(self, question: object) -> str:
        """Check a question about an image.

        Returns:
            The question in the form of `clean_question`.

        Raises:
            InputError: if it is not a text, is empty or longer than 1,024 characters, cannot be encoded as UTF-8, or
                contains a reserved token.
        """
        if not isinstance(question, str):
            raise InputError(f"question is {question!r}: expected a text")
        cleaned = clean_question(question)
        self._check_characters("question", cleaned)
        return cleaned

    def check_answer(self, answer: object) -> None:
        """Check an earlier answer of a dialogue that a user gives.

        Raises:
            InputError: if it is not a text, is too long, cannot be encoded as UTF-8, or contains a reserved token.
        """
        if not isinstance(answer, str):
            raise InputError(f"answer is {answer!r}: expected a text")
        if len(answer) > MAX_PROMPT_CHARACTERS:
            raise InputError(f"answer has {len(answer):,} characters: give at most {MAX_PROMPT_CHARACTERS:,}")
        self._check_characters("answer", answer)

    def _check_characters(self, name: str, text: str) -> None:
        """Raise `InputError` if a text cannot be encoded as UTF-8 or contains a reserved token."""
        if not text.isascii() and text.encode(errors="replace").decode() != text:
            raise InputError(
                f"{name} {shown(text)} is in another encoding than the terminal's or file's: give it in UTF-8"
            )
        for token in (*SPECIAL_TOKENS, self.tokenizer.eos_token):
            if token in text:
                raise InputError(f"{name} holds {token!r}, which is a reserved token of the model: take it out")
