"""Properties of a stream: determined by seed and position, partitioned by ranks, complete epochs, exact fractions."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showo_turbo.data.bad_samples import BadSamples
from showo_turbo.data.mixture import SLOTS_PER_CYCLE, Mixture
from showo_turbo.data.samples import BadSampleError, Sample, TextSample
from showo_turbo.data.stream import MixedStream, WeightedSource
from showo_turbo.errors import InputError


@dataclass
class Numbers:
    """Give `length` samples with their numbers as texts, some of them bad; count how often each is read."""

    length: int
    bad: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.times_read = Counter()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> TextSample:
        self.times_read[index] += 1
        if index in self.bad:
            raise BadSampleError(f"number {index}", "it is bad")
        return TextSample(str(index), str(index))


def numbers_stream(*lengths: int, seed: int = 0, weights: tuple[float, ...] = (), **options: object) -> MixedStream:
    all_weights = weights or (1.0,) * len(lengths)
    named = zip("abcdef", lengths, all_weights, strict=False)
    return MixedStream([WeightedSource(name, Numbers(n), weight) for name, n, weight in named], seed, **options)


def bad_stream(length: int, bad: set[int], **options: object) -> tuple[MixedStream, Numbers]:
    source = Numbers(length, frozenset(bad))
    return MixedStream([WeightedSource("a", source)], 5, **options), source


few = settings(max_examples=40, deadline=None, derandomize=True)
lengths = st.lists(st.integers(1, 9), min_size=1, max_size=3)
seeds = st.integers(0, 2**32)


@few
@given(lengths=lengths, seed=seeds, before=st.integers(0, 40), sizes=st.lists(st.integers(0, 7), max_size=5))
def test_a_resumed_stream_equals_the_uninterrupted_one(
    lengths: list[int], seed: int, before: int, sizes: list[int]
) -> None:
    whole = numbers_stream(*lengths, seed=seed).take(before + sum(sizes))
    first = numbers_stream(*lengths, seed=seed)
    taken = first.take(before)
    state = json.loads(json.dumps(first.state_dict()))
    second = numbers_stream(*lengths, seed=seed)
    second.load_state_dict(state)
    for size in sizes:
        taken += second.take(size)
    assert taken == whole


@few
@given(lengths=lengths, seed=seeds, world_size=st.integers(1, 5), count=st.integers(0, 12))
def test_ranks_partition_the_stream(lengths: list[int], seed: int, world_size: int, count: int) -> None:
    whole = numbers_stream(*lengths, seed=seed).take(count * world_size)
    ranks = [numbers_stream(*lengths, seed=seed, rank=rank, world_size=world_size) for rank in range(world_size)]
    parts = [stream.take(count) for stream in ranks]
    assert [sample for row in zip(*parts, strict=True) for sample in row] == whole
    assert {stream.position for stream in ranks} == {count * world_size}


def test_a_run_resumes_with_another_number_of_processes() -> None:
    whole = numbers_stream(50).take(18)
    ranks = [numbers_stream(50, rank=rank, world_size=3) for rank in range(3)]
    taken = [sample for stream in ranks for sample in stream.take(4)]
    for rank in range(2):
        stream = numbers_stream(50, rank=rank, world_size=2)
        stream.load_state_dict(ranks[0].state_dict())
        taken += stream.take(3)
    assert sorted(sample.key for sample in taken) == sorted(sample.key for sample in whole)


@few
@given(length=st.integers(1, 30), seed=seeds)
def test_every_sample_comes_once_an_epoch(length: int, seed: int) -> None:
    stream = numbers_stream(length, seed=seed)
    for _ in range(3):
        assert sorted(int(sample.text) for sample in stream.take(length)) == list(range(length))


def test_epochs_and_seeds_differ_in_order() -> None:
    stream = numbers_stream(100)
    orders = [stream.take(100), stream.take(100), numbers_stream(100, seed=1).take(100)]
    assert all(one != other for one, other in zip(orders, orders[1:] + orders[:1], strict=True))


def test_every_sample_comes_once_an_epoch_in_a_mixture() -> None:
    mixed = numbers_stream(700, 900, weights=(7.0, 9.0))
    read = Counter(mixed._mixture.locate(position)[0] for position in range(3 * SLOTS_PER_CYCLE))
    mixed.take(3 * SLOTS_PER_CYCLE)
    for number, one in enumerate(mixed.sources):
        times = set(one.source.times_read.values())
        assert len(one.source.times_read) == len(one.source)
        assert times <= {read[number] // len(one.source), -(-read[number] // len(one.source))}


@few
@given(weights=st.lists(st.floats(0.1, 100), min_size=1, max_size=6), seed=seeds, cycle=st.integers(0, 1000))
def test_fractions_hold_in_every_cycle(weights: list[float], seed: int, cycle: int) -> None:
    mixture = Mixture(weights, seed)
    located = [mixture.locate(cycle * SLOTS_PER_CYCLE + slot) for slot in range(SLOTS_PER_CYCLE)]
    for source, weight in enumerate(weights):
        draws = [draw for number, draw in located if number == source]
        assert abs(len(draws) - weight / sum(weights) * SLOTS_PER_CYCLE) < 1
        assert draws == list(range(cycle * len(draws), (cycle + 1) * len(draws)))


@pytest.mark.parametrize("weights", [(1.0, 0.0), (1.0, -1.0), (1.0, float("nan")), (1.0, float("inf")), (1.0, 1e-9)])
def test_invalid_weights_raise_errors(weights: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="weight"):
        numbers_stream(3, 3, weights=weights)


@few
@given(bad=st.sets(st.integers(0, 19), max_size=19), before=st.integers(0, 50))
def test_bad_samples_are_replaced_counted_and_read_once(bad: set[int], before: int) -> None:
    stream, source = bad_stream(20, bad)
    for _ in range(3):
        taken = {int(sample.text) for sample in stream.take(20)}
        assert taken == set(range(20)) - bad
    assert {index: source.times_read[index] for index in bad} == dict.fromkeys(bad, 1)
    assert len(stream.bad_samples) == len(bad)

    again, _ = bad_stream(20, bad)
    resumed, _ = bad_stream(20, bad)
    first, second = again.take(before), again.take(20)
    resumed.load_state_dict({**again.state_dict(), "position": before})
    assert len(first) == before
    assert resumed.take(20) == second


def test_a_source_with_bad_samples_keeps_its_fraction() -> None:
    bad, good = Numbers(100, frozenset(range(80))), Numbers(100)
    stream = MixedStream([WeightedSource("bad", bad), WeightedSource("good", good)], 0)
    stream.take(SLOTS_PER_CYCLE)
    assert sum(count for index, count in bad.times_read.items() if index >= 80) == SLOTS_PER_CYCLE // 2


def test_logged_bad_samples_are_not_read_again(tmp_path: Path) -> None:
    log = tmp_path / "run" / "bad_samples.jsonl"
    stream, _ = bad_stream(10, {3, 4}, bad_samples=BadSamples(log))
    first = stream.take(5)
    state = stream.state_dict()
    rest = stream.take(15)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(lines, key=lambda line: line["index"]) == [
        {"source": "a", "index": index, "key": f"number {index}", "reason": "it is bad"} for index in (3, 4)
    ]
    assert stream.bad_samples.counts() == {"a": 2}

    resumed, source = bad_stream(10, {3, 4}, bad_samples=BadSamples(log))
    resumed.load_state_dict(state)
    assert resumed.take(15) == rest
    assert not {3, 4} & set(source.times_read)
    assert len(log.read_text().splitlines()) == 2
    assert len(first) == 5


def test_a_truncated_log_line_is_ignored(tmp_path: Path) -> None:
    log = tmp_path / "bad_samples.jsonl"
    log.write_text('{"source": "a", "index": 3, "key": "number 3", "reason": "it is bad"}\n{"source": "a", "ind')
    stream, source = bad_stream(10, {3, 4}, bad_samples=BadSamples(log))
    stream.take(10)
    assert source.times_read[3] == 0
    assert json.loads(log.read_text().splitlines()[-1])["index"] == 4
    assert {("a", 3), ("a", 4)} == {sample for sample in [("a", 3), ("a", 4)] if sample in BadSamples(log)}


def test_a_log_that_cannot_be_written_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="log of bad samples"):
        BadSamples(tmp_path)


def test_a_source_of_bad_samples_only_ends_the_stream() -> None:
    stream, _ = bad_stream(6, set(range(6)))
    with pytest.raises(InputError, match=r"source 'a': 6 samples, all, are bad; number \d: it is bad"):
        stream.take(1)
    assert stream.position == 0


def test_a_thousand_bad_samples_in_a_row_end_the_stream() -> None:
    stream, source = bad_stream(5000, set(range(5000)))
    with pytest.raises(InputError, match="1000 samples, in a row, are bad"):
        stream.take(1)
    assert source.times_read.total() == 1000


def check_that_refuses(word: str) -> Callable[[Sample], None]:
    def check(sample: Sample) -> None:
        if sample.text == word:
            raise InputError(f"{word} is no good")

    return check


def test_samples_that_fail_the_check_are_bad() -> None:
    stream = numbers_stream(4, check=check_that_refuses("2"))
    assert {sample.text for sample in stream.take(8)} == {"0", "1", "3"}
    assert stream.bad_samples.counts() == {"a": 1}
    index = next(index for index in range(4) if ("a", index) in stream.bad_samples)
    assert stream.bad_samples.reason("a", index) == "2: 2 is no good"


def test_a_state_of_another_stream_raises_an_error() -> None:
    state = numbers_stream(4, 5).state_dict()
    same = numbers_stream(4, 5)
    others = [numbers_stream(4, 5, seed=1), numbers_stream(4, 6), numbers_stream(4, 5, weights=(1.0, 2.0))]
    for other in [*others, MixedStream(same.sources[::-1], 0)]:
        with pytest.raises(InputError, match=r"stream cannot be resumed: its (seed|sources)"):
            other.load_state_dict(state)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"rank": 2, "world_size": 2}, "rank is 2 of 2"), ({"rank": -1}, "rank is -1"), ({"seed": -1}, "seed is -1")],
)
def test_invalid_numbers_raise_errors(wrong: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        numbers_stream(4, **wrong)


def test_empty_sources_and_equal_names_raise_errors() -> None:
    with pytest.raises(InputError, match="source 'b' holds no samples"):
        numbers_stream(3, 0)
    with pytest.raises(InputError, match="two sources are named 'a'"):
        MixedStream([WeightedSource("a", Numbers(1)), WeightedSource("a", Numbers(2))], 0)
    with pytest.raises(InputError, match="at least one source"):
        MixedStream([], 0)
