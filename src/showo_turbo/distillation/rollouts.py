"""The teacher at work: prompts and dialogues to recorded trajectories."""

import random
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from showo_turbo.data import DialogueSample, Turn
from showo_turbo.distillation.image_trajectories import ImageTrajectories, Leaps, record_images
from showo_turbo.distillation.segments import segment_ends
from showo_turbo.distillation.terms import ImageTerm, TextTerm
from showo_turbo.distillation.text_trajectories import JacobiTrajectory, record_texts
from showo_turbo.generation.image_denoiser import ImageDenoiser, blank_state
from showo_turbo.generation.text_decoder import TextDecoder, draw_guesses
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.prompts import PromptBuilder


def draw(
    pipe: ShowoPipeline,
    prompts: Sequence[str],
    term: ImageTerm,
    student: Showo | None = None,
    generator: torch.Generator | None = None,
) -> ImageTrajectories:
    """Draw prompts; the trajectories with the teacher's guided labels at all segment ends.

    The teacher walks, greedily, or else a student, which has no guidance, takes `term.stride` steps at a time and draws
    from its most probable candidates by the generator.
    """
    vocabulary, num_codes = pipe.prompts.vocabulary, pipe.model.config.num_vq_tokens
    rows = [pipe.prompts.text_to_image(prompt) for prompt in prompts]
    scheduler = term.sampling.scheduler(vocabulary.codebook_size, num_codes)
    empty = pipe.prompts.unconditional()
    denoiser = ImageDenoiser(pipe.model, vocabulary, scheduler, rows, num_codes, empty, term.guidance_scale)
    walker = None
    if student is not None:
        own = term.own_sampling.scheduler(vocabulary.codebook_size, num_codes)
        walker = Leaps(ImageDenoiser(student, vocabulary, own, rows, num_codes, generator=generator), term.stride)
    start = blank_state(len(rows), num_codes, vocabulary, pipe.device)
    ends = segment_ends(term.num_inference_steps, term.segments)
    return record_images(denoiser, rows, start, ends, term.label_size, walker)


def answer(
    pipe: ShowoPipeline, dialogues: Sequence[DialogueSample], term: TextTerm, rng: random.Random
) -> list[JacobiTrajectory]:
    """Answer a random turn of each dialogue, after all turns before it; the blocks of all answers.

    Of a dialogue's own answer that is longer than `term.given_ids`, the teacher may be given the first ids, so that
    blocks begin anywhere in it.
    """
    vocabulary = pipe.prompts.vocabulary
    rows = []
    for dialogue in dialogues:
        image = dialogue.image
        codes = image if isinstance(image, Tensor) else pipe.encode_image(image)[0]
        turns = dialogue.turns[: 1 + rng.randrange(len(dialogue.turns))]
        own = pipe.prompts.encode(f" {turns[-1].answer}") if term.given_ids else []
        given = rng.randint(0, term.given_ids) if len(own) > term.given_ids else 0
        rows.append(dialogue_ids(pipe.prompts, codes.tolist(), turns) + own[:given])
    decoder = TextDecoder(pipe.model, vocabulary, rows, term.max_new_tokens, term.block_length)
    source = torch.Generator().manual_seed(rng.getrandbits(48))
    return record_texts(decoder, draw_guesses(rows, term.max_new_tokens, vocabulary, source))


def dialogue_ids(prompts: PromptBuilder, codes: Sequence[int], turns: Sequence[Turn]) -> list[int]:
    """The ids of a dialogue up to where the answer of its last turn begins."""
    ids = prompts.understanding(codes, turns[0].question)
    for said, asked in pairwise(turns):
        ids += [*prompts.encode(f" {said.answer}"), *prompts.next_turn(asked.question)]
    return ids
