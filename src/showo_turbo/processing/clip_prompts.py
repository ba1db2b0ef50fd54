"""Build the prompts of the `w_clip_vit` variant: understanding takes CLIP features in place of image codes.

    understanding    [mmu] system prompt [soi] features [eoi] USER: ... ASSISTANT:   then answer [eot]

There is no `[sot]` before the question, as published. All other tasks are those of `PromptBuilder`.
"""

from collections.abc import Iterable

from torch import Tensor

from showo_turbo.processing.prompts import TURN, PromptBuilder

SYSTEM_PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
"""Start of every dialogue (LLaVA, arXiv 2304.08485); 28 tokens of the Phi-1.5 tokenizer."""


class ClipPromptBuilder(PromptBuilder):
    """Build the id lists of every task for a checkpoint with `w_clip_vit`."""

    def understanding(self, codes: Iterable[int] | Tensor, question: str) -> list[int]:
        """Return `[mmu] system prompt [soi] features [eoi] USER: question ASSISTANT:`, which the answer follows.

        Args:
            codes: numbers of the features of one image, see `FeatureShowo.numbers`.
            question: the result of `check_question`.
        """
        return [*self.image_prefix(codes), *self.encode(TURN.format(question))]

    def image_prefix(self, codes: Iterable[int] | Tensor) -> list[int]:
        """Return `[mmu] system prompt [soi] features [eoi]`, the start of every understanding sequence."""
        ids = (int(number) + self.vocabulary.size for number in codes)
        system = self.encode(SYSTEM_PROMPT)
        return [self.vocabulary.mmu_id, *system, self.vocabulary.soi_id, *ids, self.vocabulary.eoi_id]
