"""The unmasking step: options, counts, ties, generators."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.orders import priorities
from showo_turbo.generation.scheduler import (
    UnmaskingScheduler,
    draw_codes,
    draw_noise,
    least_confident,
    split_rows,
)

CODEBOOK, CODES = 8, 12


def make_scheduler(steps: int = 4, **options: object) -> UnmaskingScheduler:
    scheduler = UnmaskingScheduler(CODEBOOK, **options)
    scheduler.set_timesteps(steps, CODES)
    return scheduler


def scores(rows: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(rows, CODEBOOK, generator=torch.Generator().manual_seed(seed))


def nothing_known(batch: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(batch, CODES, dtype=torch.long), torch.ones(batch, CODES, dtype=torch.bool)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k is 0: choose 1 to 8"),
        ({"top_k": 9}, "top_k is 9: choose 1 to 8"),
        ({"sampled_steps": -1}, "sampled_steps is -1"),
        ({"sampled_codes": 0}, "sampled_codes is 0: choose 1 or more, or None"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"schedule": "cosin"}, "'cosin' is unknown"),
        ({"schedule": ["cosine"]}, r"schedule \['cosine'\] is unknown"),
        ({"early_exit": -0.1}, "early_exit is -0.1: choose 0"),
        ({"early_exit": float("nan")}, "early_exit is nan: choose 0"),
        ({"steps": 0}, "num_inference_steps is 0: choose 1 to 12"),
        ({"steps": 13}, "num_inference_steps is 13: choose 1 to 12"),
    ],
)
def test_invalid_options_raise(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_scheduler(**options)


def test_temperature_falls_on_its_running_value() -> None:
    assert make_scheduler(4).temperatures == [0.75, 0.375, 0.09375, 0.0]


def test_greedy_candidates_with_top_k_one_and_no_temperature() -> None:
    logits = scores(2 * CODES)
    step = make_scheduler(top_k=1, temperature=0.0).step(logits, 0, *nothing_known(2))
    assert step.candidates.flatten().equal(logits.argmax(-1))
    assert step.confidence.flatten().equal(logits.softmax(-1).amax(-1).log())


def test_top_k_samples_among_the_best_and_does_not_change_confidence() -> None:
    logits = scores(50 * CODES)
    step = make_scheduler(top_k=3, temperature=0.0).step(
        logits, 0, *nothing_known(50), torch.Generator().manual_seed(1)
    )
    best = logits.topk(3).indices
    candidates = step.candidates.flatten()[:, None]
    assert (best == candidates).any(-1).all()
    drawn = logits.log_softmax(-1).gather(-1, candidates)[:, 0]
    torch.testing.assert_close(step.confidence.flatten(), drawn)


def test_steps_after_the_sampled_ones_take_the_most_probable_codes() -> None:
    logits, sampled = scores(50 * CODES), make_scheduler(sampled_steps=1)
    steps = [sampled.step(logits, index, *nothing_known(50), torch.Generator().manual_seed(3)) for index in range(3)]
    plain = make_scheduler().step(logits, 0, *nothing_known(50), torch.Generator().manual_seed(3))
    assert steps[0].candidates.equal(plain.candidates)
    assert not steps[0].candidates.flatten().equal(logits.argmax(-1))
    for step in steps[1:]:
        assert step.candidates.flatten().equal(logits.argmax(-1))


def test_half_precision_logits_are_converted_to_float32() -> None:
    logits = scores(3 * CODES).bfloat16()
    steps = [
        make_scheduler().step(given, 1, *nothing_known(3), torch.Generator().manual_seed(0))
        for given in (logits, logits.float())
    ]
    assert steps[0].candidates.equal(steps[1].candidates)
    assert steps[0].confidence.equal(steps[1].confidence)
    assert steps[0].confidence.dtype == torch.float32


def test_a_generator_per_prompt_gives_the_draws_of_a_single_prompt() -> None:
    logits = scores(4 * CODES)
    sources = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    together = make_scheduler(top_k=5).step(logits, 0, *nothing_known(4), sources)
    for rows, seed in ((slice(0, 2), 3), (slice(2, 4), 4)):
        source = torch.Generator().manual_seed(seed)
        own = logits[rows.start * CODES : rows.stop * CODES]
        alone = make_scheduler(top_k=5).step(own, 0, *nothing_known(2), source)
        assert together.candidates[rows].equal(alone.candidates)
        assert together.confidence[rows].equal(alone.confidence)


def test_codes_are_drawn_as_multinomial_draws_them() -> None:
    probabilities = scores(40).softmax(-1)
    theirs, ours = (torch.Generator().manual_seed(5) for _ in range(2))
    expected = torch.multinomial(probabilities, 1, generator=theirs)[:, 0]
    exponential, uniform = draw_noise(torch.ones(4, 10, dtype=torch.bool), CODEBOOK, ours, torch.device("cpu"))
    drawn, probability = draw_codes(probabilities, None, exponential)
    assert drawn.equal(expected)
    assert probability.equal(probabilities.gather(1, expected[:, None])[:, 0])
    assert uniform.equal(torch.rand(4, 10, generator=theirs))


@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("known", [0, 5])
@pytest.mark.parametrize(("order", "early_exit"), [("halton", None), ("halton", 0.01), ("confidence", None)])
def test_only_the_codes_that_are_kept_first_are_sampled(
    order: str, early_exit: float | None, known: int, top_k: int | None
) -> None:
    batch, codes = 60, 16
    logits = scores(batch * codes) / 6  # so that a sample is seldom the most probable code
    masked = (torch.arange(codes) >= known).expand(batch, -1)
    before = torch.zeros(batch, codes, dtype=torch.long)

    def candidates(**options: object) -> Tensor:
        scheduler = UnmaskingScheduler(CODEBOOK, top_k=top_k, order=order, early_exit=early_exit, **options)
        scheduler.set_timesteps(4, codes)
        return scheduler.step(logits[masked.flatten()], 0, before, masked, torch.Generator().manual_seed(1)).candidates

    sampled, greedy, few = candidates(), candidates(sampled_steps=0), candidates(sampled_codes=2)
    highest = logits.softmax(-1).amax(-1).view(batch, codes)
    fixed = priorities(order, codes)
    priority = highest if fixed is None else fixed.expand(batch, -1)
    chosen = torch.zeros(batch, codes, dtype=torch.bool)
    chosen.scatter_(1, torch.where(masked, priority, -torch.inf).topk(2).indices, True)
    assert few.equal(torch.where(chosen, sampled, greedy))
    assert (few[chosen] != greedy[chosen]).float().mean() > 0.5
    assert candidates(sampled_codes=codes).equal(sampled)
    assert candidates(sampled_codes=2, sampled_steps=0).equal(greedy)


@pytest.mark.parametrize("top_k", [None, 1, 3])
def test_logits_of_equal_images_may_be_given_once(top_k: int | None) -> None:
    once, rows = scores(CODES), torch.arange(CODES).repeat(3)
    scheduler, sources = make_scheduler(top_k=top_k), [torch.Generator().manual_seed(9) for _ in range(2)]
    several = scheduler.step(once[rows], 0, *nothing_known(3), sources[0])
    shared = scheduler.step(once, 0, *nothing_known(3), sources[1], rows)
    assert shared.candidates.equal(several.candidates)
    assert shared.confidence.equal(several.confidence)
    assert shared.masked.equal(several.masked)


@pytest.mark.parametrize("top_k", [None, 3])
def test_the_noise_of_a_position_does_not_depend_on_known_codes(top_k: int | None) -> None:
    logits = scores(2 * CODES)
    masked = torch.rand(2, CODES, generator=torch.Generator().manual_seed(1)) < 0.5
    scheduler, sources = make_scheduler(top_k=top_k), [torch.Generator().manual_seed(9) for _ in range(2)]
    all_drawn = scheduler.step(logits, 0, *nothing_known(2), sources[0])
    codes = torch.zeros(2, CODES, dtype=torch.long)
    some_drawn = scheduler.step(logits[masked.flatten()], 0, codes, masked, sources[1])
    assert some_drawn.candidates[masked].equal(all_drawn.candidates[masked])
    assert some_drawn.confidence[masked].equal(all_drawn.confidence[masked])
    assert sources[0].get_state().equal(sources[1].get_state())


@pytest.mark.parametrize("count", [0, 3])
def test_generators_that_do_not_divide_the_rows_raise(count: int) -> None:
    with pytest.raises(InputError, match=f"list of {count} for 4 images"):
        split_rows(4, [torch.Generator() for _ in range(count)])


def test_known_codes_stay_and_are_never_masked() -> None:
    codes = torch.arange(CODES).remainder(CODEBOOK).expand(3, -1)
    masked = torch.arange(CODES) >= torch.tensor([[0], [6], [CODES]])
    logits = scores(int(masked.sum()))
    step = make_scheduler(temperature=5.0).step(logits, 0, codes, masked, torch.Generator().manual_seed(0))
    assert step.candidates[~masked].equal(codes[~masked])
    assert not (step.masked & ~masked).any()
    assert step.masked.sum(1).tolist() == [11, 5, 0]


def test_the_least_confident_are_masked() -> None:
    confidence = torch.tensor([[0.4, 0.1, 0.3, 0.2, 99.0]])
    masked = torch.tensor([[True, True, True, True, False]])
    assert least_confident(confidence, masked, 2).tolist() == [[False, True, False, True, False]]


def test_none_of_the_candidates_that_tie_is_masked() -> None:
    confidence = torch.tensor([[0.1, 0.2, 0.2, 0.2]])
    assert least_confident(confidence, torch.ones(1, 4, dtype=torch.bool), 2).tolist() == [[True, False, False, False]]


def test_one_position_stays_masked_and_one_is_settled() -> None:
    confidence = torch.tensor([[0.1, 0.2, 0.3], [0.1, 99.0, 98.0]])
    masked = torch.tensor([[True, True, True], [True, False, False]])
    assert least_confident(confidence, masked, 0).sum(1).tolist() == [1, 1]
    assert least_confident(confidence, masked, 3).sum(1).tolist() == [2, 1]


@given(seed=st.integers(0, 999), share=st.floats(0, 1))
def test_a_confident_image_settles_at_once_and_others_do_not(seed: int, share: float) -> None:
    logits, (codes, masked) = 4 * scores(3 * CODES, seed), nothing_known(3)
    masked[0, :7] = False
    logits = logits[masked.flatten()]
    early, plain = (
        make_scheduler(top_k=2, early_exit=share_or_none).step(
            logits, 0, codes, masked, torch.Generator().manual_seed(seed)
        )
        for share_or_none in (share, None)
    )
    assert early.candidates.equal(plain.candidates)
    drawn = logits.softmax(-1).gather(-1, early.candidates[masked][:, None])[:, 0]
    doubts = torch.zeros(masked.shape).masked_scatter(masked, 1 - drawn).sum(1)
    for doubt, settled, plain_settled in zip(doubts, ~early.masked, ~plain.masked, strict=True):
        if abs(doubt - share * CODES) > 1e-4:
            assert settled.equal(torch.ones_like(settled) if doubt < share * CODES else plain_settled)
