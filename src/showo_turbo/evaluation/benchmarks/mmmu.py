"""MMMU: college-level questions of 30 subjects (arXiv 2311.16502).

Decisions:
- Questions are laid out as by the official script for LLaVA, and of several images the first one is shown: the model
  reads one. The official script guesses where options are images; so do questions without a parsed letter here.
- A guess is seeded by the question, so that it does not depend on the others.
"""

import ast
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showo_turbo.errors import InputError, one_line
from showo_turbo.evaluation.benchmarks.answer_rules import ANSWER_BRIEFLY, ANSWER_WITH_LETTER
from showo_turbo.evaluation.benchmarks.definition import DataPaths, QuestionBenchmark, Score
from showo_turbo.evaluation.benchmarks.mmmu_answers import is_open_answer_right, letter_of
from showo_turbo.evaluation.items import BenchmarkData, Item, get, get_choice
from showo_turbo.extras import require_module
from showo_turbo.files import write_json

_COLUMNS = ("id", "question", "options", "answer", "question_type")
_HIDDEN = "?"


@dataclass(frozen=True)
class ParquetImage:
    """Locate an image in a Parquet file.

    Attributes:
        file: the file.
        row: its row.
        column: its column, of structs with the content as `bytes`.
    """

    file: Path
    row: int
    column: str

    def read(self) -> bytes:
        """Return the content of the image file."""
        parquet = require_module("pyarrow.parquet", "MMMU", extra="evaluate")
        row = parquet.read_table(self.file, columns=[self.column]).slice(self.row, 1)
        return row.column(0)[0].as_py()["bytes"]


def _read(paths: DataPaths) -> BenchmarkData:
    parquet = require_module("pyarrow.parquet", "MMMU", extra="evaluate")
    split = paths.split or "validation"
    files = sorted(paths.data.glob(f"**/{split}-*.parquet"))
    if not files:
        raise InputError(
            f"data folder {str(paths.data)!r} has no file {split}-*.parquet: give a clone of MMMU/MMMU as --data, and "
            "one of its splits as --split"
        )
    items = []
    for file in files:
        try:
            rows = parquet.read_table(file, columns=list(_COLUMNS)).to_pylist()
        except Exception as error:  # a damaged file raises exceptions of several types
            reason = one_line(error)
            raise InputError(f"data file {str(file)!r} cannot be read ({reason}): expected MMMU's Parquet") from error
        items += [_item(row, file, number) for number, row in enumerate(rows)]
    return BenchmarkData(items, files)


def _item(row: dict[str, Any], file: Path, number: int) -> Item:
    where = f"{str(file)!r}, row {number}"
    name, question = get(row, "id", str, where), get(row, "question", str, where)
    kind = get_choice(row, "question_type", ("multiple-choice", "open"), where)
    try:
        options = [str(option) for option in ast.literal_eval(get(row, "options", str, where))]
        answer = row["answer"]
        answers = ast.literal_eval(answer) if str(answer).startswith("[") else answer
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise InputError(f"{where}: options and answer are no lists as MMMU writes them ({error})") from error
    letters = {chr(ord("A") + index): option for index, option in enumerate(options)}
    if kind == "multiple-choice":
        listed = "".join(f"({letter}) {option}\n" for letter, option in letters.items())
        text = f"{question}\n\n{listed}\n\n{ANSWER_WITH_LETTER}"
    else:
        text = f"{question}\n\n{ANSWER_BRIEFLY}"
    record = {"kind": kind, "options": letters, "answer": answers, "guess": _shows_options(options)}
    return Item(name, text, where, record, ParquetImage(file, number, "image_1"))


def _shows_options(options: Sequence[str]) -> bool:
    """Return whether more than one option is an image."""
    return sum(len(re.findall(r"<img='.*?'>", option)) for option in options) > 1


def prediction(item: Item, answer: str) -> str:
    """Return what the official file holds for an answer: a letter, or the text of an open question."""
    if item.record["kind"] == "open":
        return answer
    options = item.record["options"]
    letter = None if item.record["guess"] else letter_of(answer, options)
    return letter or random.Random(item.id).choice(list(options))


def _export(folder: Path, items: Sequence[Item], answers: Sequence[str]) -> None:
    write_json(
        folder / "total_val_output.json",
        {item.id: prediction(item, answer) for item, answer in zip(items, answers, strict=True)},
    )


def _score(items: Sequence[Item], answers: Sequence[str]) -> dict[str, Score]:
    """Score all questions, and each subject; the official script gives fractions of the same values.

    Raises:
        InputError: if the answers are not public.
    """
    subjects: dict[str, list[list[float]]] = {}
    by_item: dict[str, float] = {}
    for item, answer in zip(items, answers, strict=True):
        expected = item.record["answer"]
        if expected == _HIDDEN:
            raise InputError(f"{item.where}: the answer is not public: submit total_val_output.json to MMMU's server")
        given = prediction(item, answer)
        is_open = item.record["kind"] == "open"
        right = is_open_answer_right(given, expected) if is_open else given in expected
        by_item[item.id] = float(right)
        subjects.setdefault("_".join(item.id.split("_")[1:-1]), []).append([float(right)])
    accuracy = Score.of_groups([case for cases in subjects.values() for case in cases], 100, by_item)
    return {"accuracy": accuracy} | {name: Score.of_groups(cases, 100) for name, cases in subjects.items()}


MMMU = QuestionBenchmark(
    name="mmmu",
    title="MMMU",
    measures="College-level questions of 30 subjects, multiple choice and open: right answers in percent.",
    data="clone of huggingface.co/datasets/MMMU/MMMU, a folder for each subject with validation-*.parquet",
    licence="Apache-2.0",
    judge="computed here: the official rules; also written for main_eval_only.py of github.com/MMMU-Benchmark/MMMU",
    cost="900 questions of the validation split",
    read=_read,
    max_new_tokens=16,
    export=_export,
    score=_score,
)
