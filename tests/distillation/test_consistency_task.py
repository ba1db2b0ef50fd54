"""Sampled states and iterates."""

import random

import pytest
import torch

from showo_turbo.distillation.consistency_task import sample_iterate, sample_states
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.loss_terms import ImageTerm
from showo_turbo.distillation.text_trajectories import JacobiTrajectory
from showo_turbo.errors import InputError


def sampled(term: ImageTerm) -> tuple[set[int], set[tuple[int, int]]]:
    codes = torch.zeros(400, 2, dtype=torch.long)
    trajectories = ImageTrajectories([[0]] * 400, codes, codes, {})
    samples = sample_states(trajectories, term, random.Random(0), random.Random(1))
    steps, ends = samples.steps.tolist(), samples.ends.tolist()
    return set(steps), set(zip(steps, ends, strict=True))


def test_all_states_but_the_last_are_sampled_with_the_end_of_their_segment() -> None:
    steps, pairs = sampled(ImageTerm(num_inference_steps=8, segments=2))
    assert steps == set(range(8))
    assert pairs == {(step, 4 if step < 4 else 8) for step in range(8)}


def test_a_stride_samples_the_states_that_a_sampler_of_fewer_steps_reaches() -> None:
    assert sampled(ImageTerm(num_inference_steps=16, stride=4))[0] == {0, 4, 8, 12}


def test_first_states_leave_out_the_later_ones() -> None:
    assert sampled(ImageTerm(num_inference_steps=16, first_states=4))[0] == {0, 1, 2, 3}
    assert sampled(ImageTerm(num_inference_steps=16, first_states=8, stride=4))[0] == {0, 4}
    with pytest.raises(InputError, match="first_states is 17: choose a whole number from 1 to 16"):
        ImageTerm(num_inference_steps=16, first_states=17)


def test_all_iterates_but_the_last_are_sampled_and_the_only_one_of_a_block_without_steps() -> None:
    block = JacobiTrajectory((1,), torch.arange(12).view(6, 2))
    samples = [sample_iterate(block, 2, random.Random(seed)) for seed in range(60)]
    assert {(one.step, one.end) for one in samples} == {(0, 2), (1, 2), (2, 5), (3, 5), (4, 5)}
    converged = JacobiTrajectory((1,), torch.zeros(1, 2, dtype=torch.long))
    sample = sample_iterate(converged, 4, random.Random(0))
    assert (sample.step, sample.end) == (0, 0)
