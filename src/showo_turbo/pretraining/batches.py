"""Batches of pre-training: ids, attention masks, position ids and labels.

Text to image, left padded. Some codes are replaced by the mask token, and predicted at their own positions:

    [PAD] .. [t2i] [sot] caption [eot] [soi] c ? c ? ? c [eoi]

Understanding, right padded. Several turns about one image are packed behind it. Each turn attends to the image prefix
and to itself, and its position ids continue from the prefix, so the result is that of a separate row for each turn:

    [mmu] [soi] codes [eoi] | [sot] USER: .. ASSISTANT: answer [eot] | [sot] USER: .. ASSISTANT: answer [eot] | [PAD] ..
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from showo_turbo.models.omni_attention import causal_mask, text_to_image_mask
from showo_turbo.processing.prompts import FIRST_TURN, PromptBuilder, left_pad
from showo_turbo.processing.sequences import image_sequences
from showo_turbo.scenes.language import QuestionAnswer

_NO_LABEL = -100


@dataclass(frozen=True)
class PretrainingBatch:
    """Hold the input and the labels of one forward pass.

    Attributes:
        ids: long (batch, length).
        attention_mask: bool (batch, 1, length, length).
        position_ids: long (batch, length).
        labels: long (batch, length), target of the hidden state *at this position*; -100 for none. Image codes without
            offset for text to image, token ids for understanding.
    """

    ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    labels: Tensor

    @property
    def labelled(self) -> Tensor:
        """Positions with a label, bool (batch, length)."""
        return self.labels != _NO_LABEL

    def to(self, device: torch.device) -> "PretrainingBatch":
        """Move all tensors to a device."""
        return PretrainingBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


def random_masking(count: int, tokens: int, generator: torch.Generator) -> Tensor:
    """Mask a fraction cos(pi/2 * u) of each row, u uniform, at least one position (arXiv 2202.04200, section 3.2).

    Returns:
        bool (count, tokens), True where masked.
    """
    fractions = torch.cos(torch.rand(count, generator=generator) * math.pi / 2)
    counts = (fractions * tokens).round().clamp(min=1)
    ranks = torch.rand(count, tokens, generator=generator).argsort(1).argsort(1)
    return ranks < counts[:, None]


def text_to_image_batch(
    prompts: PromptBuilder, texts: Sequence[str], codes: Tensor, masked: Tensor
) -> PretrainingBatch:
    """Build rows of captions (empty: unconditional) and codes (batch, num_tokens), of which some are `masked`."""
    vocabulary = prompts.vocabulary
    text = left_pad([prompts.text_to_image(caption) for caption in texts], vocabulary.pad_id).ids
    image = torch.where(masked, vocabulary.mask_id, vocabulary.codes_to_ids(codes))
    ids = image_sequences(text, image, vocabulary)
    labels = torch.full_like(ids, _NO_LABEL)
    labels[:, text.shape[1] + 1 : -1] = torch.where(masked, codes, _NO_LABEL)
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    return PretrainingBatch(ids, text_to_image_mask(ids, vocabulary), positions, labels)


def understanding_batch(
    prompts: PromptBuilder, turns: Sequence[Sequence[QuestionAnswer]], codes: Tensor
) -> PretrainingBatch:
    """Build rows of codes (batch, num_tokens) with several turns packed behind each image; labels are the answers."""
    prefixes = [prompts.image_prefix(row) for row in codes.tolist()]
    packed = [_pack(prompts, prefix, row) for prefix, row in zip(prefixes, turns, strict=True)]
    length = max(len(row) for row in packed)
    pad = (prompts.vocabulary.pad_id, _NO_LABEL, -1, 0)
    table = torch.tensor([row + [pad] * (length - len(row)) for row in packed])
    ids, labels, segment, positions = table.unbind(-1)
    same_segment = segment[:, :, None] == segment[:, None, :]
    in_prefix = (segment == 0)[:, None, :]
    return PretrainingBatch(ids, ((same_segment & causal_mask(length)[0]) | in_prefix)[:, None], positions, labels)


def _pack(prompts: PromptBuilder, prefix: list[int], turns: Sequence[QuestionAnswer]) -> list[tuple[int, ...]]:
    """Return (id, label, segment, position) of each token of a row; segment 0 is the prefix."""
    row: list[tuple[int, ...]] = [(token, _NO_LABEL, 0, position) for position, token in enumerate(prefix)]
    end = prompts.vocabulary.end_of_text_id
    for segment, turn in enumerate(turns, start=1):
        question = [end, *prompts.encode(FIRST_TURN.format(turn.question))]
        answer = [*prompts.encode(f" {turn.answer}"), end]
        ids = [*question, *answer]
        labels = [_NO_LABEL] * (len(question) - 1) + answer + [_NO_LABEL]
        positions = range(len(prefix), len(prefix) + len(ids))
        row += zip(ids, labels, [segment] * len(ids), positions, strict=True)
    return row
