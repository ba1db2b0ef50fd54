"""Drafts: n-grams continue earlier text, and the source with the highest acceptance is used."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from showo_turbo.generation.drafts import Drafts, NGrams


def test_the_longest_match_and_the_last_time_count() -> None:
    table = NGrams()
    table.learn([1, 2, 3, 9, 2, 4])
    assert table.continuation([1, 2], 1) == [3]
    assert table.continuation([8, 2], 1) == [4]
    table.learn([7, 8, 2, 5])
    assert table.continuation([8, 2], 1) == [5]
    assert table.continuation([6], 4) == []


def test_a_continuation_continues_itself() -> None:
    table = NGrams()
    table.learn([1, 2, 3, 4])
    assert table.continuation([1], 9) == [2, 3, 4]
    table.learn([4, 1])
    assert table.continuation([1], 6) == [2, 3, 4, 1, 2, 3]


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 3), min_size=1, max_size=20), new=st.integers(1, 20))
def test_learning_in_pieces_is_learning_at_once(ids: Sequence[int], new: int) -> None:
    whole, pieces = NGrams(), NGrams()
    whole.learn(ids)
    first = max(1, len(ids) - new)
    pieces.learn(ids[:first])
    pieces.learn(ids, len(ids) - first)
    assert all(whole.continuation(ids[:end], 5) == pieces.continuation(ids[:end], 5) for end in range(1, len(ids) + 1))


def decode(drafts: Drafts, truth: Sequence[int], own: Sequence[int]) -> list[list[int]]:
    """Settle one id per pass while the model's own choices are `own`; return the guesses after each pass."""
    drafts.begin([[0]])
    return [drafts.improve(0, [0, *truth[:settled]], 1, own[settled : settled + 3]) for settled in range(1, len(truth))]


def test_a_text_that_repeats_is_continued_from_itself() -> None:
    truth = [5, 6, 7, 8] * 3
    guesses = decode(Drafts(), truth, [1] * 15)
    assert guesses[-3:] == [[6, 7, 8], [7, 8, 5], [8, 5, 6]]


def test_right_choices_are_used_where_the_text_misleads() -> None:
    truth = [5, 1, 5, 2, 5, 3, 5, 4, 5, 6, 5, 7]
    guesses = decode(Drafts(), truth, truth)
    assert guesses[-4:] == [truth[settled : settled + 3] for settled in range(8, 12)]


def test_rows_learn_from_each_other() -> None:
    drafts = Drafts()
    drafts.begin([[0], [0]])
    drafts.improve(0, [0, 5, 6, 7], 3, [1, 1])
    assert drafts.improve(1, [0, 5], 1, [1, 1]) == [6, 7]


def test_the_source_with_the_highest_acceptance_is_used() -> None:
    drafts = Drafts()
    drafts.begin([[0, 1, 2, 9, 4, 9, 9]])
    assert drafts.improve(0, [0, 1], 1, [2, 3, 4]) == [2, 9, 4]
    assert drafts.improve(0, [0, 1, 2, 3, 4], 3, [6, 7]) == [6, 7]
