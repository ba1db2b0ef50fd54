"""The vocabulary that text and images share: the layout of token ids.

    0 ........ llm_vocab_size - 1     text tokenizer (its end-of-text token is bos and eos at once)
    ......... + num_new_special_tokens   [PAD] <|soi|> <|eoi|> ... in the order of SPECIAL_TOKENS
    ......... + codebook_size            image codes, `image_offset` + code
    vocab_size - 1                       the mask token of image denoising

All other code takes ids from this class; no id is written down anywhere else (Show-o, arXiv 2408.12528, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from showo_turbo.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

SPECIAL_TOKENS = (
    "[PAD]",
    "<|soi|>",
    "<|eoi|>",
    "<|sov|>",
    "<|eov|>",
    "<|t2i|>",
    "<|mmu|>",
    "<|t2v|>",
    "<|v2v|>",
    "<|lvg|>",
)
OPENING_TOKENS = ("<|soi|>", "<|sov|>", "<|eov|>", "<|t2v|>", "<|v2v|>", "<|lvg|>")


@dataclass(frozen=True)
class Vocabulary:
    """Compute the token ids of a Show-o model.

    Attributes:
        llm_vocab_size: number of ids of the plain text tokenizer.
        codebook_size: number of image codes.
        end_of_text_id: the text tokenizer's bos and eos (`<|sot|>` and `<|eot|>` are names for it).
    """

    llm_vocab_size: int
    codebook_size: int
    end_of_text_id: int

    def __post_init__(self) -> None:
        if not 0 <= self.end_of_text_id < self.llm_vocab_size:
            raise InputError(
                f"end-of-text id {self.end_of_text_id} is outside the text tokenizer's ids 0..{self.llm_vocab_size - 1}"
            )

    def _special(self, token: str) -> int:
        return self.llm_vocab_size + SPECIAL_TOKENS.index(token)

    @cached_property
    def pad_id(self) -> int:
        """Id of `[PAD]`."""
        return self._special("[PAD]")

    @cached_property
    def soi_id(self) -> int:
        """Id of `<|soi|>`, which opens an image."""
        return self._special("<|soi|>")

    @cached_property
    def opening_ids(self) -> tuple[int, ...]:
        """Ids that may open an image that is drawn: `<|soi|>`, and the tokens of videos, which no image needs.

        A model with `num_latents` draws an image behind one of the first of them, see `distillation.latents`.
        """
        return tuple(map(self._special, OPENING_TOKENS))

    @cached_property
    def eoi_id(self) -> int:
        """Id of `<|eoi|>`, which closes an image."""
        return self._special("<|eoi|>")

    @cached_property
    def t2i_id(self) -> int:
        """Id of `<|t2i|>`, the text-to-image task."""
        return self._special("<|t2i|>")

    @cached_property
    def mmu_id(self) -> int:
        """Id of `<|mmu|>`, the multimodal-understanding task."""
        return self._special("<|mmu|>")

    @cached_property
    def image_offset(self) -> int:
        """Id of image code 0; also the length of the extended text tokenizer."""
        return self.llm_vocab_size + len(SPECIAL_TOKENS)

    @cached_property
    def mask_id(self) -> int:
        """Id of the mask token, the last of all."""
        return self.image_offset + self.codebook_size

    @cached_property
    def size(self) -> int:
        """Number of ids in all."""
        return self.mask_id + 1

    def codes_to_ids(self, codes: Tensor) -> Tensor:
        """Convert codebook indices 0..codebook_size-1, any shape, to token ids of the same shape."""
        return codes + self.image_offset

    def ids_to_codes(self, ids: Tensor) -> Tensor:
        """Convert token ids of image codes, any shape, to codebook indices of the same shape."""
        return ids - self.image_offset
