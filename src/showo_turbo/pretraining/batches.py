"""Scenes to training rows: ids, the mask of who sees whom, and which hidden states predict what.

Text to image, left padded, some codes replaced by the mask token, which are to be guessed at their own positions:

    [PAD] .. [t2i] [sot] caption [eot] [soi] c ? c ? ? c [eoi]

Understanding, right padded. Several turns about one picture share its prefix; each sees the prefix and itself only, and
its positions count on from the prefix as if it were alone:

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
class Batch:
    """Rows for one forward pass, with targets.

    Attributes:
        ids: long (batch, length).
        attention_mask: bool (batch, 1, length, length).
        position_ids: long (batch, length).
        labels: long (batch, length), what the hidden state *at this position* should predict; -100 for nothing.
            Image codes without offset for text to image, token ids for understanding.
    """

    ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    labels: Tensor

    @property
    def labelled(self) -> Tensor:
        """bool (batch, length), where there is something to predict."""
        return self.labels != _NO_LABEL

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(*(getattr(self, one.name).to(device) for one in fields(self)))


def random_masking(count: int, tokens: int, generator: torch.Generator) -> Tensor:
    """Mask a share cos(pi/2 * u) of each row, u uniform, but at least one position (arXiv 2202.04200, section 3.2).

    Returns:
        bool (count, tokens), True where masked.
    """
    shares = torch.cos(torch.rand(count, generator=generator) * math.pi / 2)
    counts = (shares * tokens).round().clamp(min=1)
    ranks = torch.rand(count, tokens, generator=generator).argsort(1).argsort(1)
    return ranks < counts[:, None]


def text_to_image_batch(prompts: PromptBuilder, texts: Sequence[str], codes: Tensor, masked: Tensor) -> Batch:
    """Rows of captions (an empty one drops the condition) with codes (batch, tokens), of which `masked` are hidden."""
    vocabulary = prompts.vocabulary
    text = left_pad([prompts.text_to_image(one) for one in texts], vocabulary.pad_id).ids
    image = torch.where(masked, vocabulary.mask_id, vocabulary.codes_to_ids(codes))
    ids = image_sequences(text, image, vocabulary)
    labels = torch.full_like(ids, _NO_LABEL)
    labels[:, text.shape[1] + 1 : -1] = torch.where(masked, codes, _NO_LABEL)
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    return Batch(ids, text_to_image_mask(ids, vocabulary), positions, labels)


def understanding_batch(prompts: PromptBuilder, turns: Sequence[Sequence[QuestionAnswer]], codes: Tensor) -> Batch:
    """Rows of codes (batch, tokens), each with its own turns packed behind it; the loss is on the answers."""
    prefixes = [prompts.image_prefix(row) for row in codes.tolist()]
    packed = [_pack(prompts, prefix, row) for prefix, row in zip(prefixes, turns, strict=True)]
    length = max(len(row) for row in packed)
    pad = (prompts.vocabulary.pad_id, _NO_LABEL, -1, 0)
    table = torch.tensor([row + [pad] * (length - len(row)) for row in packed])
    ids, labels, segment, positions = table.unbind(-1)
    same = segment[:, :, None] == segment[:, None, :]
    in_prefix = (segment == 0)[:, None, :]
    return Batch(ids, ((same & causal_mask(length)[0]) | in_prefix)[:, None], positions, labels)


def _pack(prompts: PromptBuilder, prefix: list[int], turns: Sequence[QuestionAnswer]) -> list[tuple[int, ...]]:
    """One (id, label, segment, position) a token; segment 0 is the prefix."""
    row = [(token, _NO_LABEL, 0, position) for position, token in enumerate(prefix)]
    end = prompts.vocabulary.end_of_text_id
    for segment, turn in enumerate(turns, start=1):
        asked = [end, *prompts.encode(FIRST_TURN.format(turn.question))]
        answer = [*prompts.encode(f" {turn.answer}"), end]
        ids = [*asked, *answer]
        labels = [_NO_LABEL] * (len(asked) - 1) + answer + [_NO_LABEL]
        positions = range(len(prefix), len(prefix) + len(ids))
        row += zip(ids, labels, [segment] * len(ids), positions, strict=True)
    return row
