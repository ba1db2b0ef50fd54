"""Batches of supervised training: ids, attention masks, position ids and labels.

Text to image, left padded. Some codes are replaced by the mask token, and predicted at their own positions:

    [PAD] .. [t2i] [sot] caption [eot] [soi] c ? c ? ? c [eoi]

Editing, left padded. Rows of the source image see all of it, those of the target see everything:

    [PAD] .. [t2i] [soi] source [eoi] [sot] instruction [eot] [soi] c ? c ? ? c [eoi]

Understanding, right padded. Several turns about one image are packed behind it. Each turn attends to the image prefix
and to itself, and its position ids continue from the prefix, so the result is that of a separate row for each turn:

    [mmu] [soi] codes [eoi] | [sot] USER: .. ASSISTANT: answer [eot] | [sot] USER: .. ASSISTANT: answer [eot] | [PAD] ..

Dialogues, packed and right padded. Each turn attends to all turns before it; labels are the answers. CLIP features may
take the place of codes, as ids past the vocabulary (see `models.showo_features`):

    [mmu] [soi] codes [eoi] [sot] USER: .. ASSISTANT: answer [eot] USER: .. [eot] | [mmu] .. [eot] | [PAD] ..

Texts, packed and right padded. Every token but the first is a label:

    [sot] text [eot] | [sot] text [eot] | [PAD] ..

Packed sequences (arXiv 2107.02027) share a row as long as the longest sequence of the batch: first fit, the longest
ones first. Each attends to itself only, and its position ids start at 0, so the result is that of a row of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from showo_turbo.data import DialogueSample
from showo_turbo.models.omni_attention import causal_mask, editing_mask, text_to_image_mask
from showo_turbo.models.showo import Showo
from showo_turbo.models.showo_features import FeatureShowo
from showo_turbo.processing.prompts import FIRST_TURN, PromptBuilder, left_pad
from showo_turbo.processing.sequences import image_sequences
from showo_turbo.scenes.language import QuestionAnswer
from showo_turbo.vocabulary import Vocabulary

_NO_LABEL = -100


@dataclass(frozen=True)
class SupervisedBatch:
    """Hold the input and the labels of one forward pass.

    Attributes:
        ids: long (batch, length).
        attention_mask: bool (batch, 1, length, length).
        position_ids: long (batch, length).
        labels: long (batch, length), target of the hidden state *at this position*; -100 for none. Image codes without
            offset for text to image, token ids for understanding.
        features: CLIP features of images, float (images, n, feature_size), if ids stand for them.
    """

    ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    labels: Tensor
    features: Tensor | None = None

    @property
    def labelled(self) -> Tensor:
        """Positions with a label, bool (batch, length)."""
        return self.labels != _NO_LABEL

    def to(self, device: torch.device) -> "SupervisedBatch":
        """Move all tensors to a device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: one.to(device) for name, one in tensors.items() if one is not None})


def random_masking(redrawn: Tensor, generator: torch.Generator) -> Tensor:
    """Mask a fraction cos(pi/2 * u) of each row's redrawn positions, u uniform, at least one (arXiv 2202.04200, 3.2).

    Args:
        redrawn: bool (batch, n), the positions that may be masked, at least one in a row, see `redrawn_parts`.
        generator: source of the random numbers.

    Returns:
        bool (batch, n), True where masked.
    """
    fractions = torch.cos(torch.rand(len(redrawn), generator=generator) * math.pi / 2)
    counts = (fractions * redrawn.sum(1)).round().clamp(min=1)
    order = torch.rand(redrawn.shape, generator=generator).masked_fill(~redrawn, torch.inf)
    return order.argsort(1).argsort(1) < counts[:, None]


def text_to_image_batch(prompts: PromptBuilder, texts: Sequence[str], codes: Tensor, masked: Tensor) -> SupervisedBatch:
    """Build rows of captions (empty: unconditional) and codes (batch, num_tokens), of which some are `masked`."""
    return _image_batch([prompts.text_to_image(text) for text in texts], codes, masked, prompts.vocabulary)


def editing_batch(
    prompts: PromptBuilder, instructions: Sequence[str | None], sources: Tensor, targets: Tensor, masked: Tensor
) -> SupervisedBatch:
    """Build rows of editing pairs.

    Args:
        prompts: builds the rows.
        instructions: None drops the source as well, for an unconditional row.
        sources: codes of the images before, long (batch, num_tokens).
        targets: codes of the images after, likewise.
        masked: codes of the targets to predict, bool (batch, num_tokens).
    """
    rows = [
        prompts.unconditional() if instruction is None else prompts.editing(source, instruction)
        for instruction, source in zip(instructions, sources.tolist(), strict=True)
    ]
    batch = _image_batch(rows, targets, masked, prompts.vocabulary)
    return replace(batch, attention_mask=editing_mask(batch.ids, prompts.vocabulary))


def _image_batch(
    rows: Sequence[Sequence[int]], codes: Tensor, masked: Tensor, vocabulary: Vocabulary
) -> SupervisedBatch:
    """Build rows of prompts, followed by codes of which some are masked."""
    text = left_pad(rows, vocabulary.pad_id).ids
    image = torch.where(masked, vocabulary.mask_id, vocabulary.codes_to_ids(codes))
    ids = image_sequences(text, image, vocabulary)
    labels = torch.full_like(ids, _NO_LABEL)
    labels[:, text.shape[1] + 1 : -1] = torch.where(masked, codes, _NO_LABEL)
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    return SupervisedBatch(ids, text_to_image_mask(ids, vocabulary), positions, labels)


def open_with_latents(
    batch: SupervisedBatch, latents: Sequence[int], num_codes: int, vocabulary: Vocabulary
) -> SupervisedBatch:
    """Return a batch whose rows end in images of so many codes, with a latent for each (see `distillation.latents`)."""
    ids = batch.ids.clone()
    ids[:, -num_codes - 2] = torch.tensor([vocabulary.opening_ids[latent] for latent in latents])
    return replace(batch, ids=ids)


def understanding_batch(
    prompts: PromptBuilder, turns: Sequence[Sequence[QuestionAnswer]], codes: Tensor
) -> SupervisedBatch:
    """Build rows of codes (batch, num_tokens) with several turns packed behind each image; labels are the answers."""
    prefixes = [prompts.image_prefix(row) for row in codes.tolist()]
    packed = [_pack(prompts, prefix, row) for prefix, row in zip(prefixes, turns, strict=True)]
    length = max(len(row) for row in packed)
    pad = (prompts.vocabulary.pad_id, _NO_LABEL, -1, 0)
    table = torch.tensor([row + [pad] * (length - len(row)) for row in packed])
    ids, labels, segment, positions = table.unbind(-1)
    same_segment = segment[:, :, None] == segment[:, None, :]
    in_prefix = (segment == 0)[:, None, :]
    return SupervisedBatch(ids, ((same_segment & causal_mask(length)[0]) | in_prefix)[:, None], positions, labels)


def dialogue_row(prompts: PromptBuilder, codes: Sequence[int], dialogue: DialogueSample) -> tuple[list[int], list[int]]:
    """Return the ids of a whole dialogue and the label of each: the next token where it belongs to an answer."""
    end = prompts.vocabulary.end_of_text_id
    ids, targets = [], []  # whether an id is one of an answer
    for number, turn in enumerate(dialogue.turns):
        question = prompts.next_turn(turn.question)[1:] if number else prompts.understanding(codes, turn.question)
        answer = [*prompts.encode(f" {turn.answer}"), end]
        ids += question + answer
        targets += [False] * len(question) + [True] * len(answer)
    labels = [token if target else _NO_LABEL for token, target in zip(ids[1:], targets[1:], strict=True)]
    return ids, [*labels, _NO_LABEL]


def dialogue_batch(
    prompts: PromptBuilder,
    dialogues: Sequence[DialogueSample],
    codes: Sequence[Sequence[int]],
    features: Tensor | None = None,
) -> SupervisedBatch:
    """Build rows of dialogues about images.

    Args:
        prompts: builds the sequences.
        dialogues: questions and answers.
        codes: of each image, or the indices of its CLIP features.
        features: CLIP features of all images, see `SupervisedBatch`.
    """
    rows = [dialogue_row(prompts, row, dialogue) for row, dialogue in zip(codes, dialogues, strict=True)]
    batch = _packed_batch([ids for ids, _ in rows], [labels for _, labels in rows], prompts.vocabulary)
    return replace(batch, features=features)


def text_batch(prompts: PromptBuilder, texts: Sequence[str], max_length: int) -> SupervisedBatch:
    """Build rows of plain texts of at most `max_length` ids, of which every token is to be predicted."""
    rows = [prompts.language_modelling(text)[:max_length] for text in texts]
    return _packed_batch(rows, [[*row[1:], _NO_LABEL] for row in rows], prompts.vocabulary)


def supervised_loss(model: Showo, batch: SupervisedBatch, *id_range: int) -> Tensor:
    """Compute the mean cross entropy of the labels, over all ids or a range of ids."""
    reader = model if batch.features is None else FeatureShowo(model, batch.features)
    hidden = reader(batch.ids, batch.attention_mask, batch.position_ids)[batch.labelled]
    return F.cross_entropy(model.logits(hidden, *id_range), batch.labels[batch.labelled])


def _packed_batch(
    sequences: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], vocabulary: Vocabulary
) -> SupervisedBatch:
    """Build packed rows of sequences, each with a label for every id."""
    length = max(map(len, sequences))
    rows = pack_sequences([len(sequence) for sequence in sequences], length)
    shape = (len(rows), length)
    ids, targets = torch.full(shape, vocabulary.pad_id), torch.full(shape, _NO_LABEL)
    number, positions = torch.full(shape, -1), torch.zeros(shape, dtype=torch.long)
    in_prefix = torch.zeros(shape, dtype=torch.bool)  # what all of a sequence sees, as in `understanding_mask`
    for row, members in enumerate(rows):
        start = 0
        for member in members:
            sequence = list(sequences[member])
            end = start + len(sequence)
            ids[row, start:end], targets[row, start:end] = torch.tensor(sequence), torch.tensor(labels[member])
            number[row, start:end], positions[row, start:end] = member, torch.arange(end - start)
            if max(sequence) >= vocabulary.size:
                in_prefix[row, start:end] = ids[row, start:end] >= vocabulary.size
            elif vocabulary.eoi_id in sequence:
                in_prefix[row, start : start + sequence.index(vocabulary.eoi_id) + 1] = True
            start = end
    same = number[:, :, None] == number[:, None, :]
    visible = same & (causal_mask(length)[0] | in_prefix[:, None, :])
    return SupervisedBatch(ids, visible[:, None], positions, targets)


def pack_sequences(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Return the indices of the sequences in each row: first fit, the longest sequences first.

    Args:
        lengths: of the sequences, none above `capacity`.
        capacity: length of a row.
    """
    rows: list[list[int]] = []
    space: list[int] = []
    for member in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        row = next((row for row, left in enumerate(space) if left >= lengths[member]), len(rows))
        if row == len(rows):
            rows.append([])
            space.append(capacity)
        rows[row].append(member)
        space[row] -= lengths[member]
    return rows


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
