"""Score yes-or-no answers by POPE's rule (arXiv 2305.10355; the evaluation of RUCAIBox/POPE)."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PopeScores:
    """Hold the scores of yes-or-no questions about the existence of objects; "yes" is the positive class.

    Attributes:
        accuracy, precision, recall, f1: fractions; 0 if the denominator is 0.
        yes_ratio: fraction of the answers that are "yes".
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_ratio: float


def says_yes(answer: str) -> bool:
    """Return whether POPE counts an answer as yes: its first sentence has none of the words no, No and not."""
    words = answer.split(".")[0].replace(",", "").split()
    return not {"No", "not", "no"} & set(words)


def score_pope(answers: Sequence[str], labels: Sequence[bool]) -> PopeScores:
    """Score answers against the true labels."""
    said = [says_yes(answer) for answer in answers]
    hits = sum(yes and true for yes, true in zip(said, labels, strict=True))
    right = sum(yes == true for yes, true in zip(said, labels, strict=True))
    precision, recall = _ratio(hits, sum(said)), _ratio(hits, sum(labels))
    f1 = _ratio(2 * precision * recall, precision + recall)
    return PopeScores(_ratio(right, len(said)), precision, recall, f1, _ratio(sum(said), len(said)))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
