"""Latents of a student: which one a rollout trains, and what a mixture can learn that a product cannot."""

from collections.abc import Callable
from math import log

import pytest
import torch

from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.latents import add_latents
from showo_turbo.distillation.objectives import SampledStates, image_consistency, posterior_openings
from showo_turbo.distillation.soft_labels import SoftLabels
from showo_turbo.generation.image_denoiser import ImageDenoiser, masked_state
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary

NUM_CODES = 16


def rollouts(images: list[list[int]], vocabulary: Vocabulary) -> ImageTrajectories:
    """Return rollouts of one prompt and one step, of which the teacher was certain."""
    prompt = [vocabulary.t2i_id, vocabulary.end_of_text_id, 1, vocabulary.end_of_text_id]
    codes = torch.tensor(images)
    labels = SoftLabels(codes[:, :, None], torch.ones(*codes.shape, 1))
    return ImageTrajectories([prompt] * len(images), codes, torch.zeros_like(codes), {1: labels})


def samples_of(images: list[list[int]], uniforms: torch.Tensor, vocabulary: Vocabulary) -> SampledStates:
    steps = torch.zeros(len(images), dtype=torch.long)
    return SampledStates(rollouts(images, vocabulary), steps, steps + 1, uniforms)


def test_a_latent_is_chosen_in_proportion_to_the_probability_of_all_codes(
    make_random_model: Callable[[int], Showo], random_vocabulary: Vocabulary
) -> None:
    student = make_random_model(0)
    for parameter in student.showo.lm_head.parameters():
        parameter.data *= 0.02  # so that no latent is certain
    add_latents(student, 3, random_vocabulary, seed=0)
    openings, image = random_vocabulary.opening_ids[:3], [3] * NUM_CODES

    scheduler = UnmaskingScheduler(random_vocabulary.codebook_size)
    scheduler.set_timesteps(1, NUM_CODES)
    prompts = rollouts([image] * 3, random_vocabulary).prompts
    denoiser = ImageDenoiser(student, random_vocabulary, scheduler, prompts, NUM_CODES, openings=openings)
    logits = denoiser.logits(masked_state(3, NUM_CODES, random_vocabulary))
    expected = logits.log_softmax(-1)[:, :, 3].sum(1).softmax(0)
    assert expected.min() > 0.02

    uniforms = (torch.arange(1000) + 0.5) / 1000
    chosen = posterior_openings(student, samples_of([image] * 1000, uniforms, random_vocabulary), random_vocabulary)
    shares = torch.tensor([(chosen == opening).float().mean() for opening in openings])
    torch.testing.assert_close(shares, expected, atol=2e-3, rtol=0)


def test_without_latents_every_rollout_has_the_published_opening(
    make_random_model: Callable[[int], Showo], random_vocabulary: Vocabulary
) -> None:
    samples = samples_of([[1] * NUM_CODES] * 2, torch.tensor([0.1, 0.9]), random_vocabulary)
    chosen = posterior_openings(make_random_model(0), samples, random_vocabulary)
    assert chosen.tolist() == [[random_vocabulary.soi_id]] * 2


@pytest.mark.parametrize("num_latents", [1, 2])
def test_two_latents_learn_two_images_of_one_prompt_and_one_does_not(
    make_random_model: Callable[[int], Showo], random_vocabulary: Vocabulary, num_latents: int
) -> None:
    """A product of codes needs a cross entropy of log 2 at least where all codes are 3 or all are 7."""
    student = make_random_model(1).train()
    add_latents(student, num_latents, random_vocabulary, seed=0)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    images, generator = [[3] * NUM_CODES, [7] * NUM_CODES] * 4, torch.Generator().manual_seed(0)
    for _ in range(150):
        samples = samples_of(images, torch.rand(len(images), generator=generator), random_vocabulary)
        loss = image_consistency(student, student, samples, random_vocabulary)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (loss < 0.1) if num_latents == 2 else (loss > log(2) - 1e-3)
