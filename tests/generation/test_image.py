"""The image loop: KV cache, batches and known codes change no result, on random models."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from denoising import NUM_CODES, make_denoiser, seeded, uncached_logits
from hypothesis import given, settings
from hypothesis import strategies as st

from showo_turbo.errors import InputError
from showo_turbo.generation.image_denoiser import ImageDenoiser, masked_state, partly_known_state
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.generation.trajectory import State, last_state
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary

MakeModel = Callable[[int], Showo]
few = settings(max_examples=15, deadline=None, derandomize=True)
seeds = st.integers(0, 1000)
texts = st.lists(st.integers(0, 18), min_size=0, max_size=8)


def random_state(batch: int, seed: int, vocabulary: Vocabulary) -> State:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(vocabulary.codebook_size, (batch, NUM_CODES), generator=generator)
    return partly_known_state(codes, torch.rand(codes.shape, generator=generator) < 0.5, vocabulary)


@few
@given(seed=seeds, rows=st.lists(texts, min_size=1, max_size=3), guidance=st.sampled_from([0.0, 1.75, 5.0]))
def test_cached_logits_equal_uncached_ones(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, seed: int, rows: list[list[int]], guidance: float
) -> None:
    model = make_random_model(seed % 3)
    denoiser = make_denoiser(model, random_vocabulary, rows, guidance_scale=guidance)
    for offset in range(3):
        state = random_state(len(rows), seed + offset, random_vocabulary)
        seen = state.mask_unsettled(random_vocabulary.mask_id)
        conditional = uncached_logits(model, random_vocabulary, rows, seen)
        unconditional = uncached_logits(model, random_vocabulary, [[]] * len(rows), seen)
        expected = (1 + guidance) * conditional - guidance * unconditional
        torch.testing.assert_close(denoiser.logits(state), expected, rtol=1e-4, atol=1e-3)


@few
@given(seed=seeds, rows=st.lists(texts, min_size=1, max_size=2), guidance=st.sampled_from([0.0, 1.75]))
def test_logits_of_equal_images_and_masked_positions_equal_those_of_all(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, seed: int, rows: list[list[int]], guidance: float
) -> None:
    """With no known codes and with some; several images per prompt; all positions, and masked ones only."""
    model, vocabulary = make_random_model(seed % 3), random_vocabulary
    rows = [row for row in rows for _ in range(2)]
    denoiser = make_denoiser(model, vocabulary, rows, guidance_scale=guidance)
    some = random_state(len(rows), seed, vocabulary)
    equal_pairs = State(*(part[::2].repeat_interleave(2, 0) for part in (some.ids, some.settled)))
    for state in (masked_state(len(rows), NUM_CODES, vocabulary), equal_pairs, some):
        seen = state.mask_unsettled(vocabulary.mask_id)
        conditional = uncached_logits(model, vocabulary, rows, seen)
        unconditional = uncached_logits(model, vocabulary, [[]] * len(rows), seen)
        expected = (1 + guidance) * conditional - guidance * unconditional
        torch.testing.assert_close(denoiser.logits(state), expected, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(denoiser.masked_logits(state), expected[~state.settled], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("guidance", [0.0, 1.75])
def test_no_row_is_computed_twice(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, guidance: float
) -> None:
    """Prompts are read once, the first step runs once per prompt, the unconditional prompt once per model."""
    model, image, halves = make_random_model(0), NUM_CODES + 2, 2 if guidance else 1
    rows: list[int] = []
    embed = model.embed
    monkeypatch.setattr(model, "embed", lambda ids: (rows.append(ids.numel()), embed(ids))[1])
    texts = [[1, 2], [3], [3], [1, 2]]
    for round_number in range(2):
        denoiser = make_denoiser(model, random_vocabulary, texts, guidance_scale=guidance, generator=seeded(0))
        last_state(denoiser.run(masked_state(4, NUM_CODES, random_vocabulary)))
        constant = [3 + image] if guidance and round_number == 0 else []
        assert rows == [*constant, 5 + 4 + 2 * image, *[4 * halves * image] * 3]
        rows.clear()
    last_state(denoiser.run(random_state(4, 0, random_vocabulary)))
    assert rows == [4 * halves * image] * 4


def test_a_first_step_reads_each_prompt_once_when_its_images_differ(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_random_model(0)
    rows: list[int] = []
    embed = model.embed
    monkeypatch.setattr(model, "embed", lambda ids: (rows.append(ids.numel()), embed(ids))[1])
    make_denoiser(model, random_vocabulary, [[1, 2]] * 3).masked_logits(random_state(3, 0, random_vocabulary))
    assert rows == [5 + 3 * (NUM_CODES + 2)]


@pytest.mark.parametrize("quietly", [False, True])
def test_derived_tensors_are_computed_anew_when_the_weights_change(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, quietly: bool
) -> None:
    model, state = make_random_model(0), masked_state(1, NUM_CODES, random_vocabulary)
    make_denoiser(model, random_vocabulary, [[1]], guidance_scale=2.0).logits(state)
    with torch.no_grad():
        for parameter in model.parameters():
            (parameter.data if quietly else parameter).mul_(0.9)
    changed = make_denoiser(model, random_vocabulary, [[1]], guidance_scale=2.0).logits(state)
    seen = state.ids
    expected = 3 * uncached_logits(model, random_vocabulary, [[1]], seen)
    expected -= 2 * uncached_logits(model, random_vocabulary, [[]], seen)
    torch.testing.assert_close(changed, expected, rtol=1e-4, atol=1e-3)


@few
@given(
    seed=seeds,
    rows=st.lists(texts, min_size=2, max_size=3),
    guidance=st.sampled_from([0.0, 1.75]),
    early_exit=st.sampled_from([None, 1e-4, 1e-3]),
)
def test_an_image_is_the_same_by_itself_and_in_a_batch(
    make_random_model: MakeModel,
    random_vocabulary: Vocabulary,
    seed: int,
    rows: list[list[int]],
    guidance: float,
    early_exit: float | None,
) -> None:
    model, vocabulary = make_random_model(seed % 3), random_vocabulary
    numbers = [seed + row for row in range(len(rows))]
    options = {"guidance_scale": guidance, "steps": 8, "early_exit": early_exit}
    together = make_denoiser(model, vocabulary, rows, generator=seeded(*numbers), **options)
    batch = last_state(together.run(masked_state(len(rows), NUM_CODES, vocabulary)))
    for row, text in enumerate(rows):
        alone = make_denoiser(model, vocabulary, [text], generator=seeded(numbers[row]), **options)
        assert batch.ids[row].equal(last_state(alone.run(masked_state(1, NUM_CODES, vocabulary))).ids[0])


@pytest.mark.parametrize("guidance", [0.0, 1.75])
def test_an_image_that_finished_early_is_not_computed_any_more(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, guidance: float
) -> None:
    model, image, halves = make_random_model(0), NUM_CODES + 2, 2 if guidance else 1
    rows: list[int] = []
    embed = model.embed
    options = {"steps": 8, "early_exit": 1e-4, "guidance_scale": guidance, "generator": seeded(*range(4))}
    denoiser = make_denoiser(model, random_vocabulary, [[1], [2], [3], [4]], **options)
    denoiser.masked_logits(masked_state(4, NUM_CODES, random_vocabulary))
    monkeypatch.setattr(model, "embed", lambda ids: (rows.append(ids.numel()), embed(ids))[1])
    states = list(denoiser.run(masked_state(4, NUM_CODES, random_vocabulary)))
    running = [int((~state.settled).any(1).sum()) for state in states]
    assert running[0] == 4 > running[-2] > running[-1] == 0
    assert rows[1:] == [halves * image * count for count in running[1:-1]]


def test_early_exit_may_come_after_one_step_or_never(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    model, start = make_random_model(0), masked_state(2, NUM_CODES, random_vocabulary)
    plain, never, at_once = (
        last_state(
            make_denoiser(model, random_vocabulary, [[1], [2]], early_exit=early_exit, generator=seeded(1)).run(start)
        )
        for early_exit in (None, 0.0, 1.0)
    )
    assert never.ids.equal(plain.ids)
    assert (plain.forward_passes, never.forward_passes, at_once.forward_passes) == (4, 4, 1)


@few
@given(seed=seeds, steps=st.integers(1, NUM_CODES))
def test_states_settle_step_by_step_and_known_codes_stay(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, seed: int, steps: int
) -> None:
    denoiser = make_denoiser(make_random_model(0), random_vocabulary, [[1], [2, 3]], steps, generator=seeded(seed))
    start = random_state(2, seed, random_vocabulary)
    states = list(denoiser.run(start))
    assert len(states) == steps + 1
    assert states[-1].forward_passes == steps
    assert states[-1].done
    for before, after in pairwise(states):
        assert (after.settled >= before.settled).all()
        assert after.ids[before.settled].equal(before.ids[before.settled])
    codes = random_vocabulary.ids_to_codes(states[-1].ids)
    assert ((codes >= 0) & (codes < random_vocabulary.codebook_size)).all()


def test_a_step_that_failed_can_be_repeated(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, start = make_random_model(0), random_state(1, 0, random_vocabulary)
    expected = make_denoiser(model, random_vocabulary, [[1, 2]]).logits(start)
    denoiser = make_denoiser(model, random_vocabulary, [[1, 2]])
    with monkeypatch.context() as patch:
        patch.setattr(model.showo.model.layers[0].input_layernorm, "forward", None)
        with pytest.raises(TypeError):
            denoiser.logits(start)
    assert denoiser.logits(start).equal(expected)


def test_a_trajectory_can_be_resumed_from_any_of_its_states(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    generator = seeded(0)[0]
    first = make_denoiser(make_random_model(0), random_vocabulary, [[1, 2]], generator=generator)
    middle = first.advance(first.advance(masked_state(1, NUM_CODES, random_vocabulary)))
    noise = generator.get_state()
    end = last_state(first.run(middle))
    generator.set_state(noise)
    second = make_denoiser(make_random_model(0), random_vocabulary, [[1, 2]], generator=generator)
    assert last_state(second.run(middle)).ids.equal(end.ids)


def test_half_precision_models_draw_too(make_random_model: MakeModel, random_vocabulary: Vocabulary) -> None:
    denoiser = make_denoiser(
        make_random_model(0).bfloat16(), random_vocabulary, [[1], [2, 3]], guidance_scale=2.0, generator=seeded(0)
    )
    state = last_state(denoiser.run(masked_state(2, NUM_CODES, random_vocabulary)))
    assert ((state.ids >= random_vocabulary.image_offset) & (state.ids < random_vocabulary.mask_id)).all()


def test_invalid_arguments_raise(make_random_model: MakeModel, random_vocabulary: Vocabulary) -> None:
    model = make_random_model(0)
    with pytest.raises(InputError, match="guidance_scale is -1"):
        make_denoiser(model, random_vocabulary, [[1]], guidance_scale=-1.0)
    with pytest.raises(InputError, match="list of 2 for 3 images"):
        make_denoiser(model, random_vocabulary, [[1]] * 3, generator=seeded(0, 1))
    with pytest.raises(InputError, match="prompt of 93 and image of 18 tokens exceed the model's 96 positions"):
        make_denoiser(model, random_vocabulary, [[1] * 90])
    scheduler = UnmaskingScheduler(random_vocabulary.codebook_size)
    with pytest.raises(InputError, match="no unconditional prompt"):
        ImageDenoiser(model, random_vocabulary, scheduler, [[1]], NUM_CODES, guidance_scale=1.0)
