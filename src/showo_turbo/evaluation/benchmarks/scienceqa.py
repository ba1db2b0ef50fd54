"""ScienceQA: multiple choice from school science, the questions with an image (arXiv 2209.09513)."""

from collections.abc import Sequence
from pathlib import Path

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.answer_rules import ANSWER_WITH_LETTER, option_letter, write_lines
from showo_turbo.evaluation.benchmarks.definition import DataPaths, QuestionBenchmark, Score
from showo_turbo.evaluation.items import BenchmarkData, Item, get, image_in, read_json_data
from showo_turbo.validation import shown

_LARGEST_NUMBER_OF_CHOICES = 5


def _read(paths: DataPaths) -> BenchmarkData:
    files = [paths.data / "problems.json", paths.data / "pid_splits.json"]
    problems, splits = map(read_json_data, files)
    split = paths.split or "test"
    if not isinstance(splits, dict) or not isinstance(splits.get(split), list):
        known = list(splits) if isinstance(splits, dict) else []
        raise InputError(f"split is {split!r}: {str(files[1])!r} has {shown(known)}")
    items = []
    for number, key in enumerate(splits[split]):
        if not isinstance(problems, dict) or not isinstance(problems.get(str(key)), dict):
            raise InputError(f"{str(files[1])!r}, {split}[{number}]: {str(files[0])!r} has no problem {shown(key)}")
        problem, where = problems[str(key)], f"{str(files[0])!r}, problem {shown(key)}"
        if problem.get("image") is None:
            continue
        image = image_in(paths.images, f"{split}/{key}/{get(problem, 'image', str, where)}", where)
        choices, answer = get(problem, "choices", list, where), get(problem, "answer", int, where)
        if not 0 <= answer < len(choices) <= _LARGEST_NUMBER_OF_CHOICES:
            raise InputError(f"{where}: answer is {answer}: expected the index of one of at most 5 choices")
        record = {"choices": len(choices), "answer": "ABCDE"[answer]}
        items.append(Item(str(key), _question(problem, choices, where), where, record, image))
    return BenchmarkData(items, files)


def _question(problem: dict, choices: Sequence[object], where: str) -> str:
    hint = problem.get("hint")
    lines = [f"Context: {hint}"] if hint else []
    options = [f"{letter}. {choice}" for letter, choice in zip("ABCDE", choices, strict=False)]
    return "\n".join([*lines, get(problem, "question", str, where), *options])


def _export(folder: Path, items: Sequence[Item], answers: Sequence[str]) -> None:
    write_lines(
        folder / "answers.jsonl",
        [
            {"question_id": item.id, "prompt": f"<image>\n{item.text}", "text": answer.strip()}
            for item, answer in zip(items, answers, strict=True)
        ],
    )


def _score(items: Sequence[Item], answers: Sequence[str]) -> dict[str, Score]:
    letters = [
        option_letter(answer.strip(), item.record["choices"]) for item, answer in zip(items, answers, strict=True)
    ]
    right = [[float(letter == item.record["answer"])] for letter, item in zip(letters, items, strict=True)]
    parsed = [[float(letter is not None)] for letter in letters]
    return {
        "accuracy": Score.of_groups(right, 100, {item.id: one for item, (one,) in zip(items, right, strict=True)}),
        "answers with a letter": Score.of_groups(parsed, 100),
    }


SCIENCEQA = QuestionBenchmark(
    name="scienceqa",
    title="ScienceQA (image)",
    measures="Multiple-choice questions of school science that come with an image: right letters in percent.",
    data="folder with problems.json and pid_splits.json (github.com/lupantech/ScienceQA, data/scienceqa); --images: "
    "its images, SPLIT/ID/image.png",
    licence="CC BY-NC-SA 4.0",
    judge="computed here: LLaVA's rule for the letter",
    cost="2,017 questions of the test split",
    read=_read,
    max_new_tokens=16,
    suffix=ANSWER_WITH_LETTER,
    export=_export,
    score=_score,
)
