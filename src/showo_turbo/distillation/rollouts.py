"""Rollouts: captions and dialogues to recorded trajectories."""

import random
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from showo_turbo.data import DialogueSample, Turn
from showo_turbo.distillation.image_trajectories import FewStepPolicy, ImageTrajectories, record_images
from showo_turbo.distillation.loss_terms import ImageTerm, TextTerm
from showo_turbo.distillation.segments import segment_ends
from showo_turbo.distillation.text_trajectories import JacobiTrajectory, record_texts
from showo_turbo.generation.image_denoiser import ImageDenoiser, masked_state
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.generation.text_decoder import TextDecoder, draw_guesses
from showo_turbo.generation.trajectory import State
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.prompts import PromptBuilder


def roll_out_images(
    pipe: ShowoPipeline,
    prompts: Sequence[str],
    term: ImageTerm,
    student: Showo | None = None,
    generator: torch.Generator | None = None,
    start: State | None = None,
    sampling: SamplingOptions | None = None,
) -> ImageTrajectories:
    """Generate image trajectories of prompts with the teacher's guided labels at all segment ends.

    Args:
        pipe: the teacher.
        prompts: one per rollout.
        term: steps, segments and sampling options.
        student: the rollout policy, which has no guidance, takes `term.stride` steps at a time and samples from its
            most probable codes; the teacher if left out.
        generator: source of the samples.
        start: first states, see `start_states`; fully masked if left out.
        sampling: options of the teacher; `term.teacher_sampling` if left out.
    """
    vocabulary, num_codes = pipe.prompts.vocabulary, pipe.model.config.num_vq_tokens
    rows = [pipe.prompts.text_to_image(prompt) for prompt in prompts]
    sampling = sampling or term.teacher_sampling
    scheduler = UnmaskingScheduler.from_options(sampling, vocabulary.codebook_size, num_codes)
    unconditional = pipe.prompts.unconditional()
    teacher = ImageDenoiser(
        pipe.model, vocabulary, scheduler, rows, num_codes, unconditional, sampling.guidance_scale, generator
    )
    policy = None
    if student is not None:
        scheduler = UnmaskingScheduler.from_options(term.student_sampling, vocabulary.codebook_size, num_codes)
        policy = FewStepPolicy(
            ImageDenoiser(student, vocabulary, scheduler, rows, num_codes, generator=generator), term.stride
        )
    start = start or masked_state(len(rows), num_codes, vocabulary, pipe.device)
    ends = segment_ends(term.num_inference_steps, term.segments)
    return record_images(teacher, rows, start, ends, term.label_size, policy)


def roll_out_answers(
    pipe: ShowoPipeline, dialogues: Sequence[DialogueSample], term: TextTerm, rng: random.Random
) -> list[JacobiTrajectory]:
    """Answer a random turn of each dialogue, after all turns before it; return the blocks of all answers.

    If the dialogue's own answer is longer than `term.given_ids`, the teacher continues after a random number of its
    first ids, so that blocks begin anywhere in an answer.
    """
    vocabulary = pipe.prompts.vocabulary
    rows = []
    for dialogue in dialogues:
        image = dialogue.image
        codes = image if isinstance(image, Tensor) else pipe.encode_image(image)[0]
        turns = dialogue.turns[: 1 + rng.randrange(len(dialogue.turns))]
        answer = pipe.prompts.encode(f" {turns[-1].answer}") if term.given_ids else []
        given = rng.randint(0, term.given_ids) if len(answer) > term.given_ids else 0
        rows.append(dialogue_ids(pipe.prompts, codes.tolist(), turns) + answer[:given])
    decoder = TextDecoder(pipe.model, vocabulary, rows, term.max_new_tokens, term.block_length)
    generator = torch.Generator().manual_seed(rng.getrandbits(48))
    return record_texts(decoder, draw_guesses(rows, term.max_new_tokens, vocabulary, generator))


def dialogue_ids(prompts: PromptBuilder, codes: Sequence[int], turns: Sequence[Turn]) -> list[int]:
    """Return the ids of a dialogue up to the beginning of its last answer."""
    ids = prompts.understanding(codes, turns[0].question)
    for turn, following in pairwise(turns):
        ids += [*prompts.encode(f" {turn.answer}"), *prompts.next_turn(following.question)]
    return ids
