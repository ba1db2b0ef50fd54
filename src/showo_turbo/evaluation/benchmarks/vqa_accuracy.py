"""Compute the accuracy of VQA (arXiv 1505.00468): an answer that three annotators gave is right.

Decisions:
- Every oddity of the official script is kept, since published numbers have it: texts are normalized only where the
  annotators disagree, at most 32 periods are removed, and some contractions are mapped in odd ways.
"""

import re
from collections.abc import Sequence

_ENOUGH = 3
"""Number of annotators that make an answer right."""

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = {"a", "an", "the"}
_DIGITS = "zero one two three four five six seven eight nine ten"

_CONTRACTIONS = """
ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't
it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't shouldn't should've
somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's they'd
they'll they're they've wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd
who'll who's who've why'll why're why's won't wouldn't would've y'all you'd you'll you're you've
"""
_DOUBLE_CONTRACTIONS = """
couldn't've hadn't've he'd've I'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've
something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll y'all'd've you'd've
"""
_ODD_CONTRACTIONS = {"somebody'd": "somebodyd", "twas": "'twas"} | dict.fromkeys(
    ("ow's'at", "'ows'at", "'ow'sat"), "'ow's'at"
)


def _contractions() -> dict[str, str]:
    """Return words without one of their apostrophes, by the official table."""
    table = {word.replace("'", ""): word for word in _CONTRACTIONS.split()}
    for word in _DOUBLE_CONTRACTIONS.split():
        for place in (match.start() for match in re.finditer("'", word)):
            table[word[:place] + word[place + 1 :]] = word
    return table | _ODD_CONTRACTIONS


_TABLE = _contractions()
_NUMBERS = {word: str(number) for number, word in enumerate(_DIGITS.split())} | {"none": "0"}


def vqa_accuracy(answer: str, annotations: Sequence[str]) -> float:
    """Return the accuracy of an answer: the mean over annotators of min(1, others that gave it / 3).

    Args:
        answer: the answer.
        annotations: answers of the annotators, ten in VQAv2.
    """
    expected = [_plain(text) for text in annotations]
    given = _plain(answer)
    if len(set(expected)) > 1:
        expected, given = [normalize(text) for text in expected], normalize(given)
    matches = sum(text == given for text in expected)
    return sum(min(1.0, (matches - (text == given)) / _ENOUGH) for text in expected) / len(expected)


def _plain(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def normalize(text: str) -> str:
    """Return a text in lower case, without punctuation and articles, with digits and apostrophes."""
    has_number_comma = re.search(r"\d,\d", text) is not None
    cleaned = text
    for mark in _PUNCTUATION:
        is_removed = f"{mark} " in text or f" {mark}" in text or has_number_comma
        cleaned = cleaned.replace(mark, "" if is_removed else " ")
    cleaned = re.sub(r"\.(?!\d)", "", cleaned, count=32)
    words = [_NUMBERS.get(word, word) for word in cleaned.lower().split()]
    return " ".join(_TABLE.get(word, word) for word in words if word not in _ARTICLES)
