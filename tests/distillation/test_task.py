"""Which states a student is shown."""

import random

import torch

from showo_turbo.distillation.consistency_task import pick_iterates, pick_states
from showo_turbo.distillation.curriculum import Stage
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.terms import ImageTerm
from showo_turbo.distillation.text_trajectories import JacobiTrajectory


def picked(term: ImageTerm) -> tuple[set[int], set[tuple[int, int]]]:
    codes = torch.zeros(400, 2, dtype=torch.long)
    trajectories = ImageTrajectories([[0]] * 400, codes, codes, {})
    picks = pick_states(trajectories, Stage("a", image=term), random.Random(0), torch.device("cpu"))
    steps, ends = picks.steps.tolist(), picks.ends.tolist()
    return set(steps), set(zip(steps, ends, strict=True))


def test_all_states_but_the_last_with_the_end_of_their_segment() -> None:
    steps, pairs = picked(ImageTerm(num_inference_steps=8, segments=2))
    assert steps == set(range(8))
    assert pairs == {(step, 4 if step < 4 else 8) for step in range(8)}


def test_a_stride_shows_what_a_sampler_of_fewer_steps_comes_through() -> None:
    assert picked(ImageTerm(num_inference_steps=16, stride=4))[0] == {0, 4, 8, 12}


def test_iterates_before_the_last_and_nothing_where_there_is_no_step() -> None:
    block = JacobiTrajectory((1,), torch.arange(12).view(6, 2))
    picks = [pick_iterates(block, 2, random.Random(seed)) for seed in range(60)]
    assert {(pick.step, pick.end) for pick in picks} == {(0, 2), (1, 2), (2, 5), (3, 5), (4, 5)}
    settled = JacobiTrajectory((1,), torch.zeros(1, 2, dtype=torch.long))
    pick = pick_iterates(settled, 4, random.Random(0))
    assert (pick.step, pick.end) == (0, 0)
