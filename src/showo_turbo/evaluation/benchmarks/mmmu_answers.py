"""MMMU's rules for answers (arXiv 2311.16502; mmmu/utils/eval_utils.py of MMMU-Benchmark/MMMU)."""

import re
from collections.abc import Mapping, Sequence

_MARKS = ",.!?;:'"
_WORDS_OF_A_SENTENCE = 5

_KEYWORDS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
"""Texts after which an open answer has its result."""

_NUMBERS = (
    r"-?\b\d{1,3}(?:,\d{3})+\b",  # 1,234
    r"-?\d+(?:\.\d+)?[eE][+-]?\d+",  # 1.2e3
    r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",  # 1.2
)


def letter_of(answer: str, options: Mapping[str, str]) -> str | None:
    """Return the letter that an answer to a multiple-choice question gives last, or None.

    Letters in parentheses come first, then single ones, then, in a sentence, the texts of the options.

    Args:
        answer: the answer.
        options: texts by letter.
    """
    for mark in _MARKS:
        answer = answer.strip(mark)
    answer = f" {answer} "
    forms = [
        (answer, {letter: f"({letter})" for letter in options}),
        (answer, {letter: f" {letter} " for letter in options}),
    ]
    if len(answer.split()) > _WORDS_OF_A_SENTENCE:
        forms.append((answer.lower(), {letter: option.lower() for letter, option in options.items()}))
    for text, sought in forms:
        places = {letter: text.rfind(form) for letter, form in sought.items() if form in text}
        if places:
            return max(places, key=lambda letter: places[letter])
    return None


def is_open_answer_right(answer: str, expected: str | Sequence[str]) -> bool:
    """Return whether an open answer holds an expected text or number."""
    wanted = [form for one in ([expected] if isinstance(expected, str) else expected) for form in _forms(one)]
    texts = [form for form in wanted if isinstance(form, str)]
    return any(
        any(text in form for text in texts) if isinstance(form, str) else form in wanted for form in _open_forms(answer)
    )


def _open_forms(answer: str) -> list[str | float]:
    """Return the texts and numbers that an open answer may mean."""
    lines = re.split(r"\.\s(?=[A-Z])|\n", answer.strip().strip(".").lower())
    results = []
    for index, line in enumerate(lines):
        keywords = (*_KEYWORDS, "=") if index == len(lines) - 1 else _KEYWORDS
        ends = [line.split(word)[-1].strip() for word in keywords if word in line]
        # The official loop replaces an empty text by the next one, and by shorter ones after it.
        shortest = ""
        for end in ends:
            if not shortest or len(end) < len(shortest):
                shortest = end
        if shortest and shortest not in (":", ",", ".", "!", "?", ";", ":", "'"):
            results.append(shortest)
    results = results or [answer.strip().strip(".").lower()]
    numbers = [number for text in results for pattern in _NUMBERS for number in re.findall(pattern, text)]
    return [form for text in (*results, *numbers) for form in _forms(text)]


def _forms(text: str) -> list[str | float]:
    """Return a text as it is compared: a number with two decimals, a single letter beside a space, or lower case."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]
