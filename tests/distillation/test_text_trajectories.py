"""Jacobi trajectories and their losses equal the published ones, and do not depend on the batch."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from showo_turbo.distillation.objectives import SampledIterate, text_consistency
from showo_turbo.distillation.text_trajectories import JacobiTrajectory, is_degenerate, record_texts
from showo_turbo.generation.text_decoder import TextDecoder
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary

CASES = ("c0_pick3_seg1", "c3_pick0_seg1", "c3_pick5_seg4")


def trajectory_of(recorded: dict[str, np.ndarray], case: str) -> JacobiTrajectory:
    ids = torch.from_numpy(recorded[f"mmu_{case}/trajectory"]).long()
    length = int(recorded[f"mmu_{case}/prompt_len"])
    return JacobiTrajectory(tuple(ids[0, :length].tolist()), ids[:, length:])


@pytest.mark.parametrize("case", CASES)
def test_a_trajectory_equals_the_published_one(
    recorded: dict[str, np.ndarray], tiny_model: Showo, tiny_vocabulary: Vocabulary, case: str
) -> None:
    expected = trajectory_of(recorded, case)
    decoder = TextDecoder(tiny_model, tiny_vocabulary, [expected.prompt], 16, 16)
    (got,) = record_texts(decoder, expected.iterates[:1])
    assert got.prompt == expected.prompt
    assert got.iterates.equal(expected.iterates)


@pytest.mark.parametrize("case", CASES)
def test_losses_equal_the_published_ones(
    recorded: dict[str, np.ndarray], tiny_student: Showo, tiny_vocabulary: Vocabulary, case: str
) -> None:
    """The published autoregressive term includes the question, so only its part on the answer is compared."""
    step, end = int(recorded[f"mmu_{case}/pick"]), int(recorded[f"mmu_{case}/end_index"])
    trajectory = trajectory_of(recorded, case)
    with torch.no_grad():
        consistency, autoregressive = text_consistency(
            tiny_student, tiny_student, [SampledIterate(trajectory, step, end)], tiny_vocabulary
        )
    assert consistency.item() == pytest.approx(float(recorded[f"mmu_{case}/loss_consistency"]), abs=1e-4)

    labels = torch.from_numpy(recorded[f"mmu_{case}/labels"]).long()
    decoder = TextDecoder(tiny_student, tiny_vocabulary, [trajectory.prompt], 16, 16)
    logits = decoder.logits(decoder.start(trajectory.iterates[-1:]))
    expected = torch.nn.functional.cross_entropy(logits[0], labels[0, -16:])
    torch.testing.assert_close(autoregressive, expected, atol=1e-4, rtol=1e-5)


def test_degenerate_answers_are_those_of_the_published_code(
    golden: Path, recorded: dict[str, np.ndarray], tiny_vocabulary: Vocabulary
) -> None:
    cases = json.loads((golden / "losses_repeat_cases.json").read_text())
    found = [is_degenerate(ids, tiny_vocabulary.end_of_text_id) for ids in cases]
    assert found == recorded["repeat/expected"].tolist()


@given(seed=st.integers(0, 20), lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3))
@settings(max_examples=15, deadline=None)
def test_batched_blocks_equal_those_of_single_rows(
    make_random_model, random_vocabulary: Vocabulary, seed: int, lengths: list[int]
) -> None:
    model, generator = make_random_model(seed), torch.Generator().manual_seed(seed)
    rows = [torch.randint(0, 19, (length,), generator=generator).tolist() for length in lengths]
    guesses = torch.randint(0, 19, (len(rows), 12), generator=generator)
    batched = record_texts(TextDecoder(model, random_vocabulary, rows, 12, 4), guesses)
    single = [
        record_texts(TextDecoder(model, random_vocabulary, [row], 12, 4), guesses[[number]])
        for number, row in enumerate(rows)
    ]
    expected = [
        one
        for block in range(3)
        for row, blocks in zip(rows, single, strict=True)
        for one in blocks
        if len(one.prompt) - len(row) == 4 * block
    ]
    assert [one.prompt for one in batched] == [one.prompt for one in expected]
    for actual, wanted in zip(batched, expected, strict=True):
        assert actual.iterates.equal(wanted.iterates)


@given(seed=st.integers(0, 30))
@settings(max_examples=15, deadline=None)
def test_a_trajectory_leads_from_the_guesses_to_the_greedy_answer(
    make_random_model, random_vocabulary: Vocabulary, seed: int
) -> None:
    model, generator = make_random_model(seed), torch.Generator().manual_seed(seed)
    prompt = torch.randint(0, 19, (4,), generator=generator).tolist()
    guesses = torch.randint(0, 19, (1, 8), generator=generator)
    *_, answer = TextDecoder(model, random_vocabulary, [prompt], 8, 1).run(guesses)
    blocks = record_texts(TextDecoder(model, random_vocabulary, [prompt], 8, 4), guesses)
    for block in blocks:
        first = len(block.prompt) - len(prompt)
        assert block.prompt == (*prompt, *answer.ids[0, :first].tolist())
        assert block.iterates[0].equal(guesses[0, first : first + 4])
        assert block.iterates[-1].equal(answer.ids[0, first : first + 4])
        assert all(not before.equal(after) for before, after in zip(block.iterates, block.iterates[1:], strict=False))
        assert block.steps <= 4


def test_correct_guesses_give_a_trajectory_without_steps_and_an_autoregressive_term_only(
    make_random_model, random_vocabulary: Vocabulary
) -> None:
    model, prompt = make_random_model(3), [1, 2, 3]
    guesses = torch.zeros(1, 4, dtype=torch.long)
    *_, answer = TextDecoder(model, random_vocabulary, [prompt], 4, 1).run(guesses)
    (block,) = record_texts(TextDecoder(model, random_vocabulary, [prompt], 4, 4), answer.ids)
    assert block.steps == 0
    consistency, autoregressive = text_consistency(model, model, [SampledIterate(block, 0, 0)], random_vocabulary)
    assert consistency == 0
    assert autoregressive > 0


def test_only_the_ids_of_the_answer_are_scored(make_random_model, random_vocabulary: Vocabulary) -> None:
    """Text losses compute no logits at image positions."""
    model = make_random_model(1)
    vocabulary = random_vocabulary
    image = [
        vocabulary.mmu_id,
        vocabulary.soi_id,
        *vocabulary.codes_to_ids(torch.arange(8)).tolist(),
        vocabulary.eoi_id,
    ]
    iterates = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    long = JacobiTrajectory((*image, 19, 1), iterates)
    hidden_counts = []
    original = model.logits

    def counting(hidden: torch.Tensor, *span: int) -> torch.Tensor:
        hidden_counts.append(len(hidden))
        return original(hidden, *span)

    model.logits = counting
    text_consistency(model, model, [SampledIterate(long, 0, 1)], vocabulary)
    assert hidden_counts == [4, 4, 4]


@given(seed=st.integers(0, 20), lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3))
@settings(max_examples=15, deadline=None)
def test_batched_losses_equal_those_of_single_blocks_and_of_plain_causal_sequences(
    make_random_model, random_vocabulary: Vocabulary, seed: int, lengths: list[int]
) -> None:
    student, generator = make_random_model(seed), torch.Generator().manual_seed(seed)
    samples = [
        SampledIterate(
            JacobiTrajectory(
                tuple(torch.randint(0, 19, (length,), generator=generator).tolist()),
                torch.randint(1, 19, (3, 4), generator=generator),  # 0 is the end of text
            ),
            0,
            2,
        )
        for length in lengths
    ]
    with torch.no_grad():
        batched = text_consistency(student, student, samples, random_vocabulary)
        other_target = text_consistency(student, make_random_model(seed), samples, random_vocabulary)
        single = [text_consistency(student, student, [one], random_vocabulary) for one in samples]
        expected = [sum_of_terms(student, one.trajectory) for one in samples]
    torch.testing.assert_close(torch.stack(batched), torch.stack(other_target), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(batched[1], torch.stack([term for _, term in single]).mean(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        torch.stack([sum(terms) for terms in single]), torch.stack(expected), atol=1e-4, rtol=1e-4
    )


def sum_of_terms(student: Showo, trajectory: JacobiTrajectory) -> torch.Tensor:
    """Compute both terms of a trajectory's first iterate, with each block in a causal sequence of its own."""
    start, (first, _, final) = len(trajectory.prompt) - 1, trajectory.iterates
    student_logits, final_logits = (
        student.logits(student(torch.cat([torch.tensor(trajectory.prompt), block])[None])[0, start:-1])
        for block in (first, final)
    )
    difference = int((first != final).nonzero()[0])
    consistency = -(final_logits.softmax(-1) * student_logits.log_softmax(-1)).sum(-1)[difference:].mean()
    return consistency + torch.nn.functional.cross_entropy(final_logits, final)
