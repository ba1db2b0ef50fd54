"""The terms of the loss, from trajectories or texts to scalars (Show-o Turbo, arXiv 2502.05415, section 3.3).

    image   student input u^k      target: the teacher's soft labels at the segment's end, where u^k is masked
                                   + self_weight * the target model's distribution at the segment's last step
    text    student input v^j      target: the target model's distribution on v^e, from their first difference on
            student input v^J      target: v^J itself, autoregressively
    LM      student input a text   target: the text

The target model is the student itself, or the EMA of its weights. No gradient flows through a target, and no text loss
includes an image position.
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
class SampledStates:
    """Hold image rollouts with a sampled state of each and the end of its segment.

    Attributes:
        trajectories: one per row.
        steps: long (batch,), k of the sampled states u^k.
        ends: long (batch,), the ends of their segments.
        uniforms: float32 (batch,), in [0, 1): numbers that choose the latents of a student that has some.
    """

    trajectories: ImageTrajectories
    steps: Tensor
    ends: Tensor
    uniforms: Tensor


def image_consistency(
    student: Showo, target: Showo, samples: SampledStates, vocabulary: Vocabulary, self_weight: float = 0.0
) -> Tensor:
    """Compute the cross entropy against the teacher's soft labels, plus `self_weight` times the target model's."""
    trajectories = samples.trajectories
    masked = ~trajectories.settled(samples.steps)
    labels = trajectories.labels_at(samples.ends).dense(vocabulary.codebook_size)
    openings = posterior_openings(student, samples, vocabulary)
    image = trajectories.image_ids(samples.steps, vocabulary)
    logits = code_logits(student, trajectories.prompts, image, masked, vocabulary, openings)
    loss = soft_cross_entropy(logits, labels[masked], torch.ones_like(logits[:, 0], dtype=torch.bool))
    if self_weight == 0:
        return loss
    still_masked = ~trajectories.settled(samples.ends - 1)
    image = trajectories.image_ids(samples.ends - 1, vocabulary)
    with torch.no_grad():
        targets = code_logits(target, trajectories.prompts, image, masked, vocabulary, openings).softmax(-1)
    return loss + self_weight * soft_cross_entropy(logits, targets, still_masked[masked])


@torch.no_grad()
def posterior_openings(student: Showo, samples: SampledStates, vocabulary: Vocabulary) -> Tensor:
    """Sample a latent for each rollout, in proportion to the probability of all its codes at its first state.

    A latent is chosen with the codes in view, so that the student learns what images behind it have in common; before
    the first pass all are equally probable (Di4C, arXiv 2410.08709, for a mixture with hard assignments).

    Returns:
        long (batch, 1), the token ids that open the images.
    """
    trajectories, openings = samples.trajectories, vocabulary.opening_ids[: student.config.num_latents]
    choices = torch.tensor(openings, device=student.device).expand(len(trajectories.codes), -1)
    if len(openings) == 1:
        return choices
    start = torch.zeros_like(samples.steps)
    image, masked, likelihoods = trajectories.image_ids(start, vocabulary), ~trajectories.settled(start), []
    for opening in choices.split(1, 1):
        logits = code_logits(student, trajectories.prompts, image, masked, vocabulary, opening)
        chosen = logits.log_softmax(-1).gather(1, trajectories.codes[masked][:, None])[:, 0]
        likelihoods.append(chosen.new_zeros(masked.shape).masked_scatter(masked, chosen).sum(1))
    shares = torch.stack(likelihoods, 1).softmax(1).cumsum(1)
    numbers = (shares < samples.uniforms[:, None]).sum(1, keepdim=True).clamp(max=len(openings) - 1)
    return choices.gather(1, numbers)


def code_logits(
    model: Showo,
    prompts: Sequence[Sequence[int]],
    image: Tensor,
    scored: Tensor,
    vocabulary: Vocabulary,
    openings: Tensor | None = None,
) -> Tensor:
    """Compute the logits of every code at the scored positions of partly masked images.

    Args:
        model: the transformer.
        prompts: id lists, one per image.
        image: long (batch, n), token ids, of which some are the mask token.
        scored: bool (batch, n).
        vocabulary: the ids.
        openings: long (batch, 1), the token ids that open the images; the published one if left out.

    Returns:
        float32 (count, codebook_size), image after image.
    """
    prefix = left_pad(prompts, vocabulary.pad_id, model.device).ids
    ids = image_sequences(prefix, image, vocabulary)
    mask = text_to_image_mask(ids, vocabulary)
    if openings is not None:
        ids[:, prefix.shape[1], None] = openings
    hidden = model(ids, mask)[:, -image.shape[1] - 1 : -1]
    return model.logits(hidden[scored], vocabulary.image_offset, vocabulary.mask_id)


@dataclass(frozen=True)
class SampledIterate:
    """Hold a block's trajectory with a sampled iterate v^`step`, and v^`end` at the end of its segment."""

    trajectory: JacobiTrajectory
    step: int
    end: int


def text_consistency(
    student: Showo,
    target: Showo,
    samples: Sequence[SampledIterate],
    vocabulary: Vocabulary,
    equal_passes: bool = False,
) -> tuple[Tensor, Tensor]:
    """Compute the consistency term and the autoregressive term, each a mean over the positions of all blocks.

    All blocks have one length. Blocks whose guesses were correct at once count in the autoregressive term only. Without
    any block, both terms are a zero loss that touches every parameter, so that DDP finds all gradients.

    Args:
        student: is trained.
        target: model of the targets, which may be the student.
        samples: the blocks.
        vocabulary: the ids.
        equal_passes: make the same number of forward passes whatever the samples, as processes need that gather sharded
            layers together.
    """
    if not samples and equal_passes:
        block = SampledIterate(JacobiTrajectory((vocabulary.end_of_text_id,), torch.zeros(1, 2).long()), 0, 0)
        consistency, autoregressive = text_consistency(student, target, [block], vocabulary, equal_passes)
        return consistency * 0.0, autoregressive * 0.0
    if not samples:
        entries = (parameter.flatten()[0] for parameter in student.parameters() if parameter.requires_grad)
        zero = sum(entries, torch.zeros((), device=student.device)) * 0.0
        return zero, zero
    sampled = torch.stack([one.trajectory.iterates[one.step] for one in samples]).to(student.device)
    end = torch.stack([one.trajectory.iterates[one.end] for one in samples]).to(student.device)
    final = torch.stack([one.trajectory.iterates[-1] for one in samples]).to(student.device)
    prompts = left_pad([one.trajectory.prompt for one in samples], vocabulary.pad_id, student.device).ids
    sampled_hidden, final_hidden = _block_hidden(student, prompts, [sampled, final], vocabulary)
    mask = after_first_difference(sampled, end) & up_to_end(end, vocabulary.end_of_text_id)
    with torch.no_grad():
        computed = target is student and end.equal(final) and not equal_passes
        end_hidden = final_hidden if computed else _block_hidden(target, prompts, [end], vocabulary)[0]
        targets = target.logits(end_hidden[mask]).softmax(-1)
    logits = student.logits(sampled_hidden[mask])
    consistency = soft_cross_entropy(logits, targets, torch.ones_like(logits[:, 0], dtype=torch.bool))
    answer = up_to_end(final, vocabulary.end_of_text_id)
    return consistency, cross_entropy(student.logits(final_hidden[answer]), final[answer])


def _block_hidden(model: Showo, prompts: Tensor, blocks: Sequence[Tensor], vocabulary: Vocabulary) -> list[Tensor]:
    """Return the hidden states that predict each block, long (batch, n), after the same left-padded prompts.

        prompt  x             One sequence holds all blocks, each at its own position ids, so the prompt is computed
        block   x x           once. No block attends to another.
        block   x . x

    Returns:
        For each block (batch, n, hidden).
    """
    length, inputs = prompts.shape[1], [block[:, :-1] for block in blocks]
    ids = torch.cat([prompts, *inputs], 1)
    mask, ends = understanding_mask(ids, vocabulary), list(accumulate((one.shape[1] for one in inputs), initial=length))
    for start, end in pairwise(ends):
        mask[:, :, end:, start:end] = False
    positions = [torch.arange(length), *(length + torch.arange(one.shape[1]) for one in inputs)]
    hidden = model(ids, mask, torch.cat(positions)[None].to(ids.device))
    return [torch.cat([hidden[:, length - 1 : length], hidden[:, start:end]], 1) for start, end in pairwise(ends)]


def language_modelling(student: Showo, rows: Sequence[Sequence[int]], vocabulary: Vocabulary) -> Tensor:
    """Compute the mean next-token cross entropy of texts, id lists as `PromptBuilder.language_modelling` builds."""
    padded = left_pad(rows, vocabulary.pad_id, student.device)
    hidden = student(padded.ids, understanding_mask(padded.ids, vocabulary))
    inputs = ~padded.is_pad[:, :-1]
    return cross_entropy(student.logits(hidden[:, :-1][inputs]), padded.ids[:, 1:][inputs])
