"""Yes-or-no questions judged as POPE judges them (arXiv 2305.10355; RUCAIBox/POPE's own evaluation rule)."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PopeScores:
    """How yes-or-no questions about the existence of objects were answered; "yes" is the positive class.

    Attributes:
        accuracy, precision, recall, f1: shares; 0 where nothing was there to share.
        yes_ratio: share of the answers that are "yes".
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_ratio: float


def says_yes(answer: str) -> bool:
    """POPE's reading of an answer: its first sentence without commas means no if it has a no, and yes otherwise."""
    words = answer.split(".")[0].replace(",", "").split()
    return not {"No", "not", "no"} & set(words)


def score_pope(answers: Sequence[str], labels: Sequence[bool]) -> PopeScores:
    """Judge answers against what is true."""
    said = [says_yes(answer) for answer in answers]
    hits = sum(yes and true for yes, true in zip(said, labels, strict=True))
    right = sum(yes == true for yes, true in zip(said, labels, strict=True))
    precision, recall = _share(hits, sum(said)), _share(hits, sum(labels))
    f1 = _share(2 * precision * recall, precision + recall)
    return PopeScores(_share(right, len(said)), precision, recall, f1, _share(sum(said), len(said)))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
