"""The teacher's recorded roll-outs and targets are the published ones, and the student's loss on them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from showo_turbo.distillation.image_trajectories import ImageTrajectories, Leaps, record_images
from showo_turbo.distillation.objectives import ImagePicks, image_consistency
from showo_turbo.distillation.segments import segment_end, segment_ends
from showo_turbo.distillation.soft_labels import SoftLabels
from showo_turbo.generation.image_denoiser import ImageDenoiser, blank_state, partly_known_state
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.vocabulary import Vocabulary

PROMPT = "two dogs in the snow"
CASES = ("t2i_train256_a", "t2i_train256_b", "t2i_train512_a", "t2i_train512_b")


def roll_out(
    teacher: Showo, prompts: PromptBuilder, steps: int, guidance: float, ends: list[int], label_size: int | None = None
) -> ImageTrajectories:
    options = SamplingOptions(steps, guidance, top_k=1, temperature=0.0)
    scheduler = options.scheduler(prompts.vocabulary.codebook_size, 64)
    rows = [prompts.text_to_image(PROMPT)]
    denoiser = ImageDenoiser(teacher, prompts.vocabulary, scheduler, rows, 64, prompts.unconditional(), guidance)
    return record_images(denoiser, rows, blank_state(1, 64, prompts.vocabulary), ends, label_size)


def case_of(recorded: dict[str, np.ndarray], name: str) -> tuple[int, int, int, float]:
    steps, segments, step = recorded[f"{name}/meta_steps_ref_step"].tolist()
    return steps, segments, step, float(recorded[f"{name}/guidance"])


@pytest.mark.parametrize("name", CASES)
def test_roll_outs(recorded: dict[str, np.ndarray], tiny_model: Showo, tiny_prompts: PromptBuilder, name: str) -> None:
    steps, segments, step, guidance = case_of(recorded, name)
    trajectories = roll_out(tiny_model, tiny_prompts, steps, guidance, segment_ends(steps, segments))
    assert trajectories.codes[0].tolist() == recorded[f"{name}/teacher_final_ids"].tolist()
    is_open = ~trajectories.known(torch.tensor([step]))[0]
    assert is_open.tolist() == recorded[f"{name}/unknown_t"].tolist()
    assert trajectories.known(torch.tensor([steps])).all()
    if f"{name}/teacher_states" in recorded:
        mask_code = tiny_prompts.vocabulary.codebook_size
        for number, state in enumerate(recorded[f"{name}/teacher_states"][:, 0].astype(int)):
            known = trajectories.known(torch.tensor([number]))
            codes = torch.where(known, trajectories.codes, mask_code)[0]
            expected = np.where(state == tiny_prompts.vocabulary.mask_id, mask_code, state)
            assert codes.tolist() == expected.tolist()


@pytest.mark.parametrize("name", CASES[:2])
def test_targets_and_losses_of_one_segment(
    recorded: dict[str, np.ndarray],
    tiny_model: Showo,
    tiny_student: Showo,
    tiny_prompts: PromptBuilder,
    name: str,
) -> None:
    """With several segments the published snapshots come a step late, so only these are to be met."""
    steps, segments, step, guidance = case_of(recorded, name)
    trajectories = roll_out(tiny_model, tiny_prompts, steps, guidance, segment_ends(steps, segments))
    labels = trajectories.labels_at(torch.tensor([steps])).dense(512)[0]
    torch.testing.assert_close(labels, torch.from_numpy(recorded[f"{name}/teacher_target"]), atol=1e-4, rtol=0)

    ends = torch.tensor([segment_end(step, steps, segments)])
    picks = ImagePicks(trajectories, torch.tensor([step]), ends)
    with torch.no_grad():
        plain, with_own = (
            image_consistency(tiny_student, tiny_student, picks, tiny_prompts.vocabulary, weight).item()
            for weight in (0.0, 0.05)
        )
    assert plain == pytest.approx(float(recorded[f"{name}/loss2"]), abs=1e-4)
    assert with_own == pytest.approx(float(recorded[f"{name}/loss3"]), abs=1e-4)


@pytest.mark.parametrize("segments", [1, 3, 16])
def test_labels_are_frozen_at_the_step_that_decides_and_never_come_from_beyond_the_segment(
    tiny_model: Showo, tiny_prompts: PromptBuilder, segments: int
) -> None:
    steps, ends = 16, segment_ends(16, segments)
    every = roll_out(tiny_model, tiny_prompts, steps, 1.75, list(range(1, steps + 1)))
    some = roll_out(tiny_model, tiny_prompts, steps, 1.75, ends)
    assert list(some.labels) == ends
    for end in ends:
        for place, decided in enumerate(some.decided[0].tolist()):
            source = every.labels[min(decided, end - 1) + 1]
            expected = source.dense(512)[0, place]
            torch.testing.assert_close(some.labels[end].dense(512)[0, place], expected, atol=0, rtol=0)


def test_images_that_are_settled_early_have_labels_at_all_ends(tiny_model: Showo, tiny_prompts: PromptBuilder) -> None:
    rows = [tiny_prompts.text_to_image(PROMPT)]
    scheduler = SamplingOptions(4, top_k=1, early_exit=1.0).scheduler(tiny_prompts.vocabulary.codebook_size, 64)
    denoiser = ImageDenoiser(tiny_model, tiny_prompts.vocabulary, scheduler, rows, 64)
    found = record_images(denoiser, rows, blank_state(1, 64, tiny_prompts.vocabulary), [1, 2, 4])
    assert list(found.labels) == [1, 2, 4]
    assert not found.decided.any()
    for end in (2, 4):
        assert found.labels[end].dense(512).equal(found.labels[1].dense(512))


def test_few_codes_are_the_best_ones_renormalised(tiny_model: Showo, tiny_prompts: PromptBuilder) -> None:
    whole = roll_out(tiny_model, tiny_prompts, 4, 1.75, [4]).labels[4].dense(512)
    few = roll_out(tiny_model, tiny_prompts, 4, 1.75, [4], label_size=8).labels[4]
    assert few.codes.shape == (1, 64, 8)
    best = whole.topk(8)
    assert few.codes.equal(best.indices)
    torch.testing.assert_close(few.probabilities, best.values / best.values.sum(-1, keepdim=True))


def test_rows_take_the_labels_of_their_own_ends() -> None:
    codes = torch.zeros(3, 2, dtype=torch.long)
    labels = {end: SoftLabels(torch.full((3, 2, 1), end), torch.ones(3, 2, 1)) for end in (2, 4)}
    trajectories = ImageTrajectories([[0]] * 3, codes, codes, labels)
    assert trajectories.labels_at(torch.tensor([4, 2, 4])).codes[:, :, 0].tolist() == [[4, 4], [2, 2], [4, 4]]


def test_rows_of_a_batch_weigh_as_alone(
    tiny_model: Showo, tiny_student: Showo, tiny_prompts: PromptBuilder, tiny_vocabulary: Vocabulary
) -> None:
    """Two prompts of different lengths: the loss is the mean over the open places of both."""
    one = roll_out(tiny_model, tiny_prompts, 4, 1.75, [2, 4])
    other = replace(one, prompts=[tiny_prompts.text_to_image("a red car")])
    steps, ends = torch.tensor([0, 3]), torch.tensor([2, 4])
    with torch.no_grad():
        both = ImagePicks(ImageTrajectories.joined([one, other]), steps, ends)
        together = image_consistency(tiny_student, tiny_student, both, tiny_vocabulary)
        alone = [
            image_consistency(
                tiny_student, tiny_student, ImagePicks(picked, steps[[row]], ends[[row]]), tiny_vocabulary
            )
            for row, picked in enumerate((one, other))
        ]
    counts = [(~one.known(steps[[row]])).sum() for row in range(2)]
    expected = (alone[0] * counts[0] + alone[1] * counts[1]) / sum(counts)
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("order", ["confidence", "halton"])
def test_a_student_walks_as_its_sampler_of_few_steps_and_the_teacher_labels_its_way(
    tiny_model: Showo, tiny_student: Showo, tiny_prompts: PromptBuilder, stride: int, order: str
) -> None:
    steps, guidance, vocabulary = 8, 1.75, tiny_prompts.vocabulary
    rows, empty = [tiny_prompts.text_to_image(PROMPT)], tiny_prompts.unconditional()

    def scheduler(count: int) -> UnmaskingScheduler:
        return SamplingOptions(count, 0.0, 1, temperature=0.0, order=order).scheduler(vocabulary.codebook_size, 64)

    teacher = ImageDenoiser(tiny_model, vocabulary, scheduler(steps), rows, 64, empty, guidance)
    student = ImageDenoiser(tiny_student, vocabulary, scheduler(steps), rows, 64)
    blank = blank_state(1, 64, vocabulary)
    walked = record_images(teacher, rows, blank, [steps], walker=Leaps(student, stride))

    sampler = ImageDenoiser(tiny_student, vocabulary, scheduler(steps // stride), rows, 64)
    *_, drawn = sampler.run(blank)
    assert walked.codes.tolist() == vocabulary.ids_to_codes(drawn.ids).tolist()

    for step in range(steps):
        state = partly_known_state(walked.codes, walked.known(torch.tensor([step])), vocabulary)
        said = teacher.logits(state).softmax(-1)[0]
        decided_here = walked.decided[0] == step
        labels = walked.labels[steps].dense(512)[0]
        torch.testing.assert_close(labels[decided_here], said[decided_here], atol=1e-5, rtol=0)


def test_a_teacher_as_walker_is_the_plain_roll_out(tiny_model: Showo, tiny_prompts: PromptBuilder) -> None:
    plain = roll_out(tiny_model, tiny_prompts, 4, 1.75, [4])
    scheduler = SamplingOptions(4, 1.75, top_k=1, temperature=0.0).scheduler(512, 64)
    rows = [tiny_prompts.text_to_image(PROMPT)]
    both = [
        ImageDenoiser(tiny_model, tiny_prompts.vocabulary, scheduler, rows, 64, tiny_prompts.unconditional(), 1.75)
        for _ in range(2)
    ]
    blank = blank_state(1, 64, tiny_prompts.vocabulary)
    walked = record_images(both[0], rows, blank, [4], walker=Leaps(both[1], 1))
    assert walked.codes.equal(plain.codes)
    assert walked.decided.equal(plain.decided)
    torch.testing.assert_close(walked.labels[4].probabilities, plain.labels[4].probabilities)
