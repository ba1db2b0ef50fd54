"""The three terms of the loss, each from trajectories, or texts, to one number (arXiv 2502.05415, section 3.3).

    image   student sees u^k      target: the teacher's soft labels at the segment's end, where u^k is open
                                  + self_weight * what the target model says of the segment's last step
    text    student sees v^j      target: what the target model says of v^e, from their first difference on
            student sees v^J      target: v^J itself, one id after the other (the autoregressive term)
    LM      student sees a text   target: the text

The target model is the student itself, or the running average of its weights. No gradient flows through a target, and
no image position is ever part of a text loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.losses import after_first_difference, cross_entropy, soft_cross_entropy, up_to_end
from showo_turbo.distillation.text_trajectories import JacobiTrajectory
from showo_turbo.models.omni_attention import text_to_image_mask, understanding_mask
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import left_pad
from showo_turbo.processing.sequences import image_sequences
from showo_turbo.vocabulary import Vocabulary


@dataclass(frozen=True)
class ImagePicks:
    """Roll-outs with the state that the student sees of each, and where it is to get.

    Attributes:
        trajectories: one a row.
        steps: long (batch,), k.
        ends: long (batch,), the end of k's segment.
    """

    trajectories: ImageTrajectories
    steps: Tensor
    ends: Tensor


def image_consistency(
    student: Showo, target: Showo, picks: ImagePicks, vocabulary: Vocabulary, self_weight: float = 0.0
) -> Tensor:
    """Cross entropy against the teacher's soft labels, and `self_weight` times that against the target model's."""
    trajectories = picks.trajectories
    is_open = ~trajectories.known(picks.steps)
    labels = trajectories.labels_at(picks.ends).dense(vocabulary.codebook_size)
    logits = _code_logits(student, picks, picks.steps, is_open, vocabulary)
    loss = soft_cross_entropy(logits, labels[is_open], torch.ones_like(logits[:, 0], dtype=torch.bool))
    if self_weight == 0:
        return loss
    last_open = ~trajectories.known(picks.ends - 1)
    with torch.no_grad():
        own = _code_logits(target, picks, picks.ends - 1, is_open, vocabulary).softmax(-1)
    return loss + self_weight * soft_cross_entropy(logits, own, last_open[is_open])


def _code_logits(model: Showo, picks: ImagePicks, steps: Tensor, chosen: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Scores of all codes at the chosen places of the states `steps`: float32 (count, codebook_size)."""
    prefix = left_pad(picks.trajectories.prompts, vocabulary.pad_id, model.device).ids
    codes, known = picks.trajectories.codes, picks.trajectories.known(steps)
    image = torch.where(known, vocabulary.codes_to_ids(codes), vocabulary.mask_id)
    ids = image_sequences(prefix, image, vocabulary)
    hidden = model(ids, text_to_image_mask(ids, vocabulary))[:, -codes.shape[1] - 1 : -1]
    return model.logits(hidden[chosen], vocabulary.image_offset, vocabulary.mask_id)


@dataclass(frozen=True)
class TextPick:
    """A block with the state that the student sees, and where it is to get: v^`step` and v^`end` of a trajectory."""

    trajectory: JacobiTrajectory
    step: int
    end: int


def text_consistency(
    student: Showo, target: Showo, picks: Sequence[TextPick], vocabulary: Vocabulary
) -> tuple[Tensor, Tensor]:
    """The consistency term and the autoregressive one, each a mean over the positions of all picks.

    The blocks of all picks are of one length. Those whose guesses were right at once count in the second term only.
    Without any, both terms are zeros that every parameter has a part in, as processes that train together expect.
    """
    if not picks:
        nothing = sum(one.flatten()[0] for one in student.parameters() if one.requires_grad) * 0.0
        return nothing, nothing
    first, last, final = (
        torch.stack([pick.trajectory.iterates[number(pick)] for pick in picks]).to(student.device)
        for number in (lambda pick: pick.step, lambda pick: pick.end, lambda pick: -1)
    )
    prompts = left_pad([pick.trajectory.prompt for pick in picks], vocabulary.pad_id, student.device).ids
    guessed, answered = _block_hidden(student, prompts, [first, final], vocabulary)
    kept = after_first_difference(first, last) & up_to_end(last, vocabulary.end_of_text_id)
    with torch.no_grad():
        known = target is student and last.equal(final)
        aim = answered if known else _block_hidden(target, prompts, [last], vocabulary)[0]
        own = target.logits(aim[kept]).softmax(-1)
    logits = student.logits(guessed[kept])
    consistency = soft_cross_entropy(logits, own, torch.ones_like(logits[:, 0], dtype=torch.bool))
    read = up_to_end(final, vocabulary.end_of_text_id)
    return consistency, cross_entropy(student.logits(answered[read]), final[read])


def _block_hidden(model: Showo, prompts: Tensor, blocks: Sequence[Tensor], vocabulary: Vocabulary) -> list[Tensor]:
    """Hidden states that predict blocks, each long (batch, n), which follow the same left-padded prompts.

        prompt  x             One sequence holds all blocks, each where it would stand alone, so the prompt is read
        block   x x           once. No block sees another.
        block   x . x

    Returns:
        Of each block (batch, n, hidden).
    """
    length, shown = prompts.shape[1], [block[:, :-1] for block in blocks]
    ids = torch.cat([prompts, *shown], 1)
    mask, ends = understanding_mask(ids, vocabulary), list(accumulate((one.shape[1] for one in shown), initial=length))
    for start, end in pairwise(ends):
        mask[:, :, end:, start:end] = False
    places = [torch.arange(length), *(length + torch.arange(one.shape[1]) for one in shown)]
    hidden = model(ids, mask, torch.cat(places)[None].to(ids.device))
    return [torch.cat([hidden[:, length - 1 : length], hidden[:, start:end]], 1) for start, end in pairwise(ends)]


def language_modelling(student: Showo, rows: Sequence[Sequence[int]], vocabulary: Vocabulary) -> Tensor:
    """Mean next-token cross entropy of texts, id lists as `PromptBuilder.language_modelling` builds them."""
    padded = left_pad(rows, vocabulary.pad_id, student.device)
    hidden = student(padded.ids, understanding_mask(padded.ids, vocabulary))
    read = ~padded.is_pad[:, :-1]
    return cross_entropy(student.logits(hidden[:, :-1][read]), padded.ids[:, 1:][read])
