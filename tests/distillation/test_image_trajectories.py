"""Recorded rollouts of the teacher, their soft labels, and the student's loss on them equal the published ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from showo_turbo.distillation.image_trajectories import FewStepPolicy, ImageTrajectories, record_images
from showo_turbo.distillation.objectives import SampledStates, image_consistency
from showo_turbo.distillation.segments import segment_end, segment_ends
from showo_turbo.distillation.soft_labels import SoftLabels
from showo_turbo.generation.image_denoiser import ImageDenoiser, masked_state, partly_known_state
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.vocabulary import Vocabulary

PROMPT = "two dogs in the snow"
CASES = ("t2i_train256_a", "t2i_train256_b", "t2i_train512_a", "t2i_train512_b")


def record_rollout(
    teacher: Showo, prompts: PromptBuilder, steps: int, guidance: float, ends: list[int], label_size: int | None = None
) -> ImageTrajectories:
    options = SamplingOptions(steps, guidance, top_k=1, temperature=0.0)
    scheduler = UnmaskingScheduler.from_options(options, prompts.vocabulary.codebook_size, 64)
    rows = [prompts.text_to_image(PROMPT)]
    denoiser = ImageDenoiser(teacher, prompts.vocabulary, scheduler, rows, 64, prompts.unconditional(), guidance)
    return record_images(denoiser, rows, masked_state(1, 64, prompts.vocabulary), ends, label_size)


def case_of(recorded: dict[str, np.ndarray], name: str) -> tuple[int, int, int, float]:
    steps, segments, step = recorded[f"{name}/meta_steps_ref_step"].tolist()
    return steps, segments, step, float(recorded[f"{name}/guidance"])


@pytest.mark.parametrize("name", CASES)
def test_rollouts_equal_the_published_ones(
    recorded: dict[str, np.ndarray], tiny_model: Showo, tiny_prompts: PromptBuilder, name: str
) -> None:
    steps, segments, step, guidance = case_of(recorded, name)
    trajectories = record_rollout(tiny_model, tiny_prompts, steps, guidance, segment_ends(steps, segments))
    assert trajectories.codes[0].tolist() == recorded[f"{name}/teacher_final_ids"].tolist()
    masked = ~trajectories.settled(torch.tensor([step]))[0]
    assert masked.tolist() == recorded[f"{name}/unknown_t"].tolist()
    assert trajectories.settled(torch.tensor([steps])).all()
    if f"{name}/teacher_states" in recorded:
        mask_code = tiny_prompts.vocabulary.codebook_size
        for number, state in enumerate(recorded[f"{name}/teacher_states"][:, 0].astype(int)):
            settled = trajectories.settled(torch.tensor([number]))
            codes = torch.where(settled, trajectories.codes, mask_code)[0]
            expected = np.where(state == tiny_prompts.vocabulary.mask_id, mask_code, state)
            assert codes.tolist() == expected.tolist()


@pytest.mark.parametrize("name", CASES[:2])
def test_labels_and_losses_of_one_segment_equal_the_published_ones(
    recorded: dict[str, np.ndarray],
    tiny_model: Showo,
    tiny_student: Showo,
    tiny_prompts: PromptBuilder,
    name: str,
) -> None:
    """With several segments, the published snapshots are one step late, so only one segment is compared."""
    steps, segments, step, guidance = case_of(recorded, name)
    trajectories = record_rollout(tiny_model, tiny_prompts, steps, guidance, segment_ends(steps, segments))
    labels = trajectories.labels_at(torch.tensor([steps])).dense(512)[0]
    torch.testing.assert_close(labels, torch.from_numpy(recorded[f"{name}/teacher_target"]), atol=1e-4, rtol=0)

    ends = torch.tensor([segment_end(step, steps, segments)])
    samples = SampledStates(trajectories, torch.tensor([step]), ends, torch.zeros(1))
    with torch.no_grad():
        without_self, with_self = (
            image_consistency(tiny_student, tiny_student, samples, tiny_prompts.vocabulary, weight).item()
            for weight in (0.0, 0.05)
        )
    assert without_self == pytest.approx(float(recorded[f"{name}/loss2"]), abs=1e-4)
    assert with_self == pytest.approx(float(recorded[f"{name}/loss3"]), abs=1e-4)


@pytest.mark.parametrize("segments", [1, 3, 16])
def test_labels_are_frozen_at_the_step_that_unmasks_and_never_come_from_after_the_segment(
    tiny_model: Showo, tiny_prompts: PromptBuilder, segments: int
) -> None:
    steps, ends = 16, segment_ends(16, segments)
    every = record_rollout(tiny_model, tiny_prompts, steps, 1.75, list(range(1, steps + 1)))
    some = record_rollout(tiny_model, tiny_prompts, steps, 1.75, ends)
    assert list(some.labels) == ends
    for end in ends:
        for position, step in enumerate(some.unmask_steps[0].tolist()):
            source = every.labels[min(step, end - 1) + 1]
            expected = source.dense(512)[0, position]
            torch.testing.assert_close(some.labels[end].dense(512)[0, position], expected, atol=0, rtol=0)


def test_rollouts_that_exit_early_have_labels_at_all_ends(tiny_model: Showo, tiny_prompts: PromptBuilder) -> None:
    rows = [tiny_prompts.text_to_image(PROMPT)]
    options = SamplingOptions(4, top_k=1, early_exit=1.0)
    scheduler = UnmaskingScheduler.from_options(options, tiny_prompts.vocabulary.codebook_size, 64)
    denoiser = ImageDenoiser(tiny_model, tiny_prompts.vocabulary, scheduler, rows, 64)
    found = record_images(denoiser, rows, masked_state(1, 64, tiny_prompts.vocabulary), [1, 2, 4])
    assert list(found.labels) == [1, 2, 4]
    assert not found.unmask_steps.any()
    for end in (2, 4):
        assert found.labels[end].dense(512).equal(found.labels[1].dense(512))


def test_truncated_labels_are_the_most_probable_codes_renormalised(
    tiny_model: Showo, tiny_prompts: PromptBuilder
) -> None:
    whole = record_rollout(tiny_model, tiny_prompts, 4, 1.75, [4]).labels[4].dense(512)
    few = record_rollout(tiny_model, tiny_prompts, 4, 1.75, [4], label_size=8).labels[4]
    assert few.codes.shape == (1, 64, 8)
    best = whole.topk(8)
    assert few.codes.equal(best.indices)
    torch.testing.assert_close(few.probabilities, best.values / best.values.sum(-1, keepdim=True))


def test_each_row_has_the_labels_of_its_own_segment_end() -> None:
    codes = torch.zeros(3, 2, dtype=torch.long)
    labels = {end: SoftLabels(torch.full((3, 2, 1), end), torch.ones(3, 2, 1)) for end in (2, 4)}
    trajectories = ImageTrajectories([[0]] * 3, codes, codes, labels)
    assert trajectories.labels_at(torch.tensor([4, 2, 4])).codes[:, :, 0].tolist() == [[4, 4], [2, 2], [4, 4]]


def test_the_loss_of_a_batch_is_the_mean_over_the_masked_positions_of_all_rows(
    tiny_model: Showo, tiny_student: Showo, tiny_prompts: PromptBuilder, tiny_vocabulary: Vocabulary
) -> None:
    """The two prompts have different lengths."""
    one = record_rollout(tiny_model, tiny_prompts, 4, 1.75, [2, 4])
    other = replace(one, prompts=[tiny_prompts.text_to_image("a red car")])
    steps, ends = torch.tensor([0, 3]), torch.tensor([2, 4])
    with torch.no_grad():
        both = SampledStates(ImageTrajectories.concat([one, other]), steps, ends, torch.zeros(2))
        batched = image_consistency(tiny_student, tiny_student, both, tiny_vocabulary)
        single = [
            image_consistency(tiny_student, tiny_student, samples, tiny_vocabulary)
            for row, trajectories in enumerate((one, other))
            for samples in [SampledStates(trajectories, steps[[row]], ends[[row]], torch.zeros(1))]
        ]
    counts = [(~one.settled(steps[[row]])).sum() for row in range(2)]
    expected = (single[0] * counts[0] + single[1] * counts[1]) / sum(counts)
    torch.testing.assert_close(batched, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("order", ["confidence", "halton", "bayer"])
def test_an_on_policy_rollout_is_the_students_few_step_sampler_with_the_teachers_labels(
    tiny_model: Showo, tiny_student: Showo, tiny_prompts: PromptBuilder, stride: int, order: str
) -> None:
    steps, guidance, vocabulary = 8, 1.75, tiny_prompts.vocabulary
    rows, unconditional = [tiny_prompts.text_to_image(PROMPT)], tiny_prompts.unconditional()

    def scheduler(count: int) -> UnmaskingScheduler:
        options = SamplingOptions(count, 0.0, 1, temperature=0.0, order=order)
        return UnmaskingScheduler.from_options(options, vocabulary.codebook_size, 64)

    teacher = ImageDenoiser(tiny_model, vocabulary, scheduler(steps), rows, 64, unconditional, guidance)
    student = ImageDenoiser(tiny_student, vocabulary, scheduler(steps), rows, 64)
    start = masked_state(1, 64, vocabulary)
    rollout = record_images(teacher, rows, start, [steps], policy=FewStepPolicy(student, stride))

    sampler = ImageDenoiser(tiny_student, vocabulary, scheduler(steps // stride), rows, 64)
    *_, sampled = sampler.run(start)
    assert rollout.codes.tolist() == vocabulary.ids_to_codes(sampled.ids).tolist()

    for step in range(steps):
        state = partly_known_state(rollout.codes, rollout.settled(torch.tensor([step])), vocabulary)
        expected = teacher.logits(state).softmax(-1)[0]
        unmasked = rollout.unmask_steps[0] == step
        labels = rollout.labels[steps].dense(512)[0]
        torch.testing.assert_close(labels[unmasked], expected[unmasked], atol=1e-5, rtol=0)


def test_the_teacher_as_rollout_policy_gives_the_plain_rollout(tiny_model: Showo, tiny_prompts: PromptBuilder) -> None:
    plain = record_rollout(tiny_model, tiny_prompts, 4, 1.75, [4])
    options = SamplingOptions(4, 1.75, top_k=1, temperature=0.0)
    scheduler = UnmaskingScheduler.from_options(options, 512, 64)
    rows = [tiny_prompts.text_to_image(PROMPT)]
    both = [
        ImageDenoiser(tiny_model, tiny_prompts.vocabulary, scheduler, rows, 64, tiny_prompts.unconditional(), 1.75)
        for _ in range(2)
    ]
    start = masked_state(1, 64, tiny_prompts.vocabulary)
    rollout = record_images(both[0], rows, start, [4], policy=FewStepPolicy(both[1], 1))
    assert rollout.codes.equal(plain.codes)
    assert rollout.unmask_steps.equal(plain.unmask_steps)
    torch.testing.assert_close(rollout.labels[4].probabilities, plain.labels[4].probabilities)
