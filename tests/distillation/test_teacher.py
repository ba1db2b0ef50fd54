"""What the teacher makes of prompts."""

import random

import pytest
import torch

from showo_turbo.data import DialogueSample, Turn
from showo_turbo.distillation import rollouts as teacher
from showo_turbo.distillation.terms import ImageTerm, OnPolicy, TextTerm
from showo_turbo.errors import InputError
from showo_turbo.pipelines.pipeline import ShowoPipeline

PROMPTS = ["a red circle"] * 4


def drawn(pipe: ShowoPipeline, top_k: int, seed: int, sampled_steps: int | None = None) -> torch.Tensor:
    """Codes of the same prompt, four times, drawn by a student that is the pipe's own model."""
    own_way = OnPolicy(prompts=8, top_k=top_k, sampled_steps=sampled_steps)
    term = ImageTerm(num_inference_steps=8, stride=4, guidance_scale=0.0, on_policy=own_way)
    return teacher.draw(pipe, PROMPTS, term, pipe.model, torch.Generator().manual_seed(seed)).codes


def test_a_student_that_draws_its_one_most_probable_code_draws_a_prompt_in_one_way(random_pipe: ShowoPipeline) -> None:
    codes = drawn(random_pipe, 1, 0)
    assert codes.equal(codes[:1].expand_as(codes))
    assert codes.equal(drawn(random_pipe, 1, 1))


def test_a_student_that_draws_among_several_draws_a_prompt_in_many_ways(random_pipe: ShowoPipeline) -> None:
    codes = drawn(random_pipe, 4, 0)
    assert len(codes.unique(dim=0)) == len(PROMPTS)
    assert codes.equal(drawn(random_pipe, 4, 0))
    assert not codes.equal(drawn(random_pipe, 4, 1))


def test_a_student_that_draws_in_its_first_step_only_walks_as_its_sampler_of_few_steps(
    random_pipe: ShowoPipeline,
) -> None:
    walked = drawn(random_pipe, 4, 0, sampled_steps=0)
    assert walked.equal(drawn(random_pipe, 1, 0))
    assert len(drawn(random_pipe, 4, 0, sampled_steps=1).unique(dim=0)) > 1


def test_a_teacher_that_is_given_first_ids_of_long_answers_makes_blocks_that_begin_anywhere(
    random_pipe: ShowoPipeline,
) -> None:
    codes = torch.zeros(random_pipe.model.config.num_vq_tokens, dtype=torch.long)
    long, short = (
        DialogueSample(answer, codes, (Turn("What is there?", answer),)) for answer in ("a red circle", "it")
    )
    term = TextTerm(block_length=4, max_new_tokens=4, given_ids=3)
    question = teacher.dialogue_ids(random_pipe.prompts, codes.tolist(), long.turns)
    own = random_pipe.prompts.encode(f" {long.turns[0].answer}")

    rows = [block.prompt for block in teacher.answer(random_pipe, [long] * 16, term, random.Random(0))]
    assert {len(row) - len(question) for row in rows} == {0, 1, 2, 3}
    assert all(list(row) == question + own[: len(row) - len(question)] for row in rows)
    assert {block.prompt for block in teacher.answer(random_pipe, [short] * 8, term, random.Random(0))} == {
        tuple(question)
    }
    with pytest.raises(InputError, match=r"text.given_ids is 4: choose 0 or more, and less than block_length, 4"):
        TextTerm(block_length=4, max_new_tokens=4, given_ids=4)
