"""Rollouts of the student's policy and of the teacher's answers."""

import random
from typing import Any

import pytest
import torch

from showo_turbo.data import CaptionSample, DialogueSample, Turn
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.loss_terms import ImageTerm, OnPolicy, SampledRollouts, TextTerm
from showo_turbo.distillation.rollouts import dialogue_ids, roll_out_answers, roll_out_images
from showo_turbo.distillation.trajectory_sources import FreshTrajectories
from showo_turbo.errors import InputError
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.pipelines.pipeline import ShowoPipeline

PROMPTS = ["a red circle"] * 4


def on_policy_codes(pipe: ShowoPipeline, top_k: int, seed: int, sampled_steps: int | None = None) -> torch.Tensor:
    """Return the codes of four rollouts of one prompt; the student is the pipeline's own model."""
    on_policy = OnPolicy(prompts=8, top_k=top_k, sampled_steps=sampled_steps)
    term = ImageTerm(num_inference_steps=8, stride=4, guidance_scale=0.0, on_policy=on_policy)
    return roll_out_images(pipe, PROMPTS, term, pipe.model, torch.Generator().manual_seed(seed)).codes


def test_a_greedy_policy_has_one_rollout_per_prompt(random_pipe: ShowoPipeline) -> None:
    codes = on_policy_codes(random_pipe, 1, 0)
    assert codes.equal(codes[:1].expand_as(codes))
    assert codes.equal(on_policy_codes(random_pipe, 1, 1))


def test_a_sampling_policy_has_different_rollouts_of_one_prompt(random_pipe: ShowoPipeline) -> None:
    codes = on_policy_codes(random_pipe, 4, 0)
    assert len(codes.unique(dim=0)) == len(PROMPTS)
    assert codes.equal(on_policy_codes(random_pipe, 4, 0))
    assert not codes.equal(on_policy_codes(random_pipe, 4, 1))


def test_sampled_steps_count_steps_of_the_few_step_policy(
    random_pipe: ShowoPipeline,
) -> None:
    greedy = on_policy_codes(random_pipe, 4, 0, sampled_steps=0)
    assert greedy.equal(on_policy_codes(random_pipe, 1, 0))
    assert len(on_policy_codes(random_pipe, 4, 0, sampled_steps=1).unique(dim=0)) > 1


def test_the_teacher_samples_in_its_first_steps(random_pipe: ShowoPipeline) -> None:
    term = ImageTerm(num_inference_steps=8, order="halton", sampled=SampledRollouts(steps=2, top_k=4))

    def rollouts(seed: int, sampling: SamplingOptions) -> ImageTrajectories:
        generator = torch.Generator().manual_seed(seed)
        return roll_out_images(random_pipe, PROMPTS, term, generator=generator, sampling=sampling)

    sampled = rollouts(0, term.sampled_teacher_sampling)
    assert len(sampled.codes.unique(dim=0)) > 1
    assert sampled.codes.equal(rollouts(0, term.sampled_teacher_sampling).codes)
    assert not sampled.codes.equal(rollouts(1, term.sampled_teacher_sampling).codes)
    greedy = rollouts(0, term.teacher_sampling)
    assert len(greedy.codes.unique(dim=0)) == 1
    assert greedy.codes.equal(rollouts(1, term.teacher_sampling).codes)


def test_a_share_of_the_batches_is_sampled(random_pipe: ShowoPipeline) -> None:
    class Captions:
        def batch(self, number: int) -> list[CaptionSample]:
            return [CaptionSample(str(number), "a red circle", torch.zeros(16, dtype=torch.long))] * 4

    def num_sampled(share: float) -> int:
        term = ImageTerm(num_inference_steps=4, order="bayer", sampled=SampledRollouts(share, steps=2, top_k=4))
        captions: Any = Captions()
        fresh = FreshTrajectories(random_pipe, random_pipe, captions, None, term, TextTerm(), 0)
        return sum(len(fresh.images(batch).codes.unique(dim=0)) > 1 for batch in range(12))

    assert num_sampled(0.0) == 0 < num_sampled(0.5) < num_sampled(1.0) == 12


def test_given_ids_make_blocks_begin_anywhere_in_long_answers(
    random_pipe: ShowoPipeline,
) -> None:
    codes = torch.zeros(random_pipe.model.config.num_vq_tokens, dtype=torch.long)
    long, short = (
        DialogueSample(answer, codes, (Turn("What is there?", answer),)) for answer in ("a red circle", "it")
    )
    term = TextTerm(block_length=4, max_new_tokens=4, given_ids=3)
    question = dialogue_ids(random_pipe.prompts, codes.tolist(), long.turns)
    answer = random_pipe.prompts.encode(f" {long.turns[0].answer}")

    rows = [block.prompt for block in roll_out_answers(random_pipe, [long] * 16, term, random.Random(0))]
    assert {len(row) - len(question) for row in rows} == {0, 1, 2, 3}
    assert all(list(row) == question + answer[: len(row) - len(question)] for row in rows)
    assert {block.prompt for block in roll_out_answers(random_pipe, [short] * 8, term, random.Random(0))} == {
        tuple(question)
    }
    with pytest.raises(InputError, match=r"text.given_ids is 4: choose 0 or more, and less than block_length, 4"):
        TextTerm(block_length=4, max_new_tokens=4, given_ids=4)
