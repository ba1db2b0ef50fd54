"""Distribution matching: what is masked again, its gradient, and what a student learns by it."""

import random
from dataclasses import replace

import pytest
import torch

from showo_turbo.distillation.distribution_matching import (
    StudentAndScore,
    distribution_matching,
    draw_images,
    remask,
)
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.losses import cross_entropy
from showo_turbo.distillation.objectives import code_logits
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline

NUM_CODES = 16
ONE_STEP = SamplingOptions(1, top_k=2, order="halton")


def rollouts_of(pipe: ShowoPipeline, codes: torch.Tensor, known: torch.Tensor) -> ImageTrajectories:
    """Return rollouts of one prompt of which some codes are known at the start."""
    rows = [pipe.prompts.text_to_image("a dog")] * len(codes)
    return ImageTrajectories(rows, codes, torch.where(known, -1, 0), {})


def random_rollouts(pipe: ShowoPipeline, batch: int, known_codes: int) -> ImageTrajectories:
    codes = torch.randint(NUM_CODES, (batch, NUM_CODES), generator=torch.Generator().manual_seed(0))
    return rollouts_of(pipe, codes, (torch.arange(NUM_CODES) < known_codes).expand(batch, -1))


def make_student(pipe: ShowoPipeline, seed: int) -> Showo:
    """Return a model of the pipeline's sizes whose codes are almost equally probable."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Showo(pipe.model.config, pipe.model.showo.config)


def test_some_codes_of_the_last_step_are_masked_again_and_no_others() -> None:
    settled_last = torch.zeros(500, NUM_CODES, dtype=torch.bool)
    settled_last[:, 3:11] = True
    settled_last[0] = False
    remasked = remask(settled_last, torch.Generator().manual_seed(0))
    assert not (remasked & ~settled_last).any()
    counts = remasked.sum(1)
    assert counts[0] == 0
    assert set(counts[1:].tolist()) == set(range(1, 9))
    assert (remasked[1:, 3:11].float().mean(0) - 9 / 16).abs().max() < 0.1


@pytest.mark.parametrize("known_codes", [0, 5])
@pytest.mark.parametrize("steps", [1, 3])
def test_images_are_drawn_by_the_students_sampler_from_the_rollouts_first_states(
    random_pipe: ShowoPipeline, steps: int, known_codes: int
) -> None:
    rollouts, student = random_rollouts(random_pipe, 6, known_codes), make_student(random_pipe, 1)
    sampling = SamplingOptions(steps, top_k=4, order="halton")
    images = draw_images(random_pipe, student, rollouts, sampling, 0.0, random.Random(0))
    assert images.codes[:, :known_codes].equal(rollouts.codes[:, :known_codes])
    vocabulary = random_pipe.prompts.vocabulary
    masked = images.before_last_step == vocabulary.mask_id
    assert not (images.remasked & ~masked).any()
    assert images.codes[~masked].equal(images.before_last_step[~masked] - vocabulary.image_offset)
    assert masked.sum(1).eq(NUM_CODES - known_codes).all() == (steps == 1)
    again = draw_images(random_pipe, student, rollouts, sampling, 0.0, random.Random(0))
    assert images.codes.equal(again.codes)
    assert images.remasked.equal(again.remasked)


def test_the_teacher_predicts_what_is_masked_again_with_guidance(random_pipe: ShowoPipeline) -> None:
    rollouts, student = random_rollouts(random_pipe, 3, 0), make_student(random_pipe, 1)
    images = draw_images(random_pipe, student, rollouts, ONE_STEP, 0.7, random.Random(0))
    model, prompts, vocabulary = random_pipe.model, random_pipe.prompts, random_pipe.prompts.vocabulary
    ids = torch.where(images.remasked, vocabulary.mask_id, vocabulary.codes_to_ids(images.codes))
    with torch.no_grad():
        conditional = code_logits(model, images.prompts, ids, images.remasked, vocabulary)
        unconditional = code_logits(model, [prompts.unconditional()] * 3, ids, images.remasked, vocabulary)
    torch.testing.assert_close(images.teacher, (1.7 * conditional - 0.7 * unconditional).softmax(-1))


def test_the_students_gradient_is_the_difference_of_score_and_teacher(random_pipe: ShowoPipeline) -> None:
    """Of a student and a score that are one bias each: the gradients of both are known."""
    model = StudentAndScore(make_student(random_pipe, 1), make_student(random_pipe, 2))
    images = draw_images(
        random_pipe, model.student, random_rollouts(random_pipe, 4, 0), ONE_STEP, 0.0, random.Random(0)
    )
    vocabulary = random_pipe.prompts.vocabulary
    matching, score_loss, gap = distribution_matching(model, images, vocabulary)
    (matching + score_loss).backward()
    ids = torch.where(images.remasked, vocabulary.mask_id, vocabulary.codes_to_ids(images.codes))
    logits = code_logits(model.score, images.prompts, ids, images.remasked, vocabulary).detach()
    difference, codes = logits.softmax(-1) - images.teacher, images.codes[images.remasked]
    one_hot = torch.nn.functional.one_hot(codes, NUM_CODES)
    image_ids = slice(vocabulary.image_offset, vocabulary.mask_id)
    for part, expected in (
        (model.student, difference.mean(0)),
        (model.score, (logits.softmax(-1) - one_hot).mean(0)),
    ):
        gradient = part.showo.lm_head.bias.grad
        assert gradient is not None
        torch.testing.assert_close(gradient[image_ids], expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(score_loss, cross_entropy(logits, codes))
    torch.testing.assert_close(gap, difference.abs().sum(-1).mean() / 2)


def test_one_step_learns_to_draw_whole_images_where_codes_depend_on_each_other(random_pipe: ShowoPipeline) -> None:
    """The teacher knows two images, of 3s and of 5s; the mean of both, which consistency asks for, is neither."""
    torch.manual_seed(0)
    vocabulary = random_pipe.prompts.vocabulary
    codes = torch.tensor([[3] * NUM_CODES, [5] * NUM_CODES] * 8)
    rollouts = rollouts_of(random_pipe, codes, torch.zeros_like(codes, dtype=torch.bool))
    teacher = make_student(random_pipe, 0)
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
    for _ in range(150):
        masked = torch.rand(codes.shape) < torch.rand(len(codes), 1)
        ids = torch.where(masked, vocabulary.mask_id, vocabulary.codes_to_ids(codes))
        loss = cross_entropy(code_logits(teacher, rollouts.prompts, ids, masked, vocabulary), codes[masked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pipe = replace(random_pipe, model=teacher.eval())
    model = StudentAndScore(make_student(pipe, 0), make_student(pipe, 0))
    for part in (model.student, model.score):
        part.load_state_dict(teacher.state_dict())

    def equal_codes() -> float:
        """Return the mean share of an image's most frequent code."""
        images = draw_images(pipe, model.student, rollouts, ONE_STEP, 0.0, random.Random(0)).codes
        return images.eq(images.mode(1).values[:, None]).float().mean().item()

    assert equal_codes() < 0.7
    rng, optimizer = (
        random.Random(1),
        torch.optim.AdamW(
            [{"params": model.student.parameters(), "lr": 1e-3}, {"params": model.score.parameters(), "lr": 3e-3}]
        ),
    )
    for _ in range(20):
        images = draw_images(pipe, model.student, rollouts, ONE_STEP, 0.0, rng)
        matching, score, _ = distribution_matching(model, images, vocabulary)
        optimizer.zero_grad()
        (matching + score).backward()
        optimizer.step()
    assert equal_codes() > 0.9
