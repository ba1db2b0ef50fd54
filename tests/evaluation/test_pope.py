"""POPE's rule for yes-or-no answers, and its scores."""

import pytest

from showo_turbo.evaluation.benchmarks.pope import says_yes, score_pope


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        ("yes", True),
        ("no", False),
        ("No, there is none", False),
        ("There is not. Yes", False),
        ("Yes. No other", True),
        ("nothing of the kind", True),
        ("", True),
    ],
)
def test_answers_are_parsed_by_the_rule_of_pope(answer: str, yes: bool) -> None:
    assert says_yes(answer) is yes


def test_scores() -> None:
    scores = score_pope(["yes", "yes", "no", "no", "yes"], [True, False, True, False, True])
    assert scores.accuracy == pytest.approx(3 / 5)
    assert (scores.precision, scores.recall, scores.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert scores.yes_ratio == pytest.approx(3 / 5)


def test_scores_without_positive_cases_are_zero() -> None:
    assert score_pope(["no"], [False]).f1 == 0
    assert score_pope([], []).accuracy == 0
