"""Rules by which official scripts read answers, and official files of answers."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from showo_turbo.files import atomic_files

ANSWER_BRIEFLY = "Answer the question using a single word or phrase."
ANSWER_WITH_LETTER = "Answer with the option's letter from the given choices directly."


def one_line_answer(answer: str) -> str:
    """Return an answer without line ends and tabs, which separate the values of official files."""
    return re.sub(r"\s+", " ", answer).strip()


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSONL file, atomically."""
    atomic_files({path: "".join(json.dumps(record) + "\n" for record in records).encode()})


def write_array(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write a JSON file that holds an array, atomically."""
    atomic_files({path: (json.dumps(list(records), indent=1) + "\n").encode()})


def yes_or_no_in_prefix(answer: str) -> str:
    """Return "yes", "no" or "other" by MME's rule: the first four characters decide, and yes comes first."""
    prefix = answer.lower()[:4]
    return "yes" if "yes" in prefix else "no" if "no" in prefix else "other"


def option_letter(answer: str, count: int) -> str | None:
    """Return the letter of an option that an answer gives by LLaVA's rule for ScienceQA, or None.

    The answer is a letter, starts with a letter, a period and a space, or says "The answer is X." once, X being
    followed by any character.

    Args:
        answer: the text.
        count: number of options.
    """
    options = "ABCDE"
    if answer in tuple(options):
        letter = answer
    elif len(answer) >= 3 and answer[0] in options and answer[1:3] == ". ":
        letter = answer[0]
    else:
        found = re.findall(r"The answer is ([A-Z]).", answer)
        letter = found[0] if len(found) == 1 else ""
    return letter if letter and letter in options[:count] else None
