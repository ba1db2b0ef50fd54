"""MME: two yes-or-no questions about each image, in 14 tasks (arXiv 2306.13394)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.answer_rules import one_line_answer, yes_or_no_in_prefix
from showo_turbo.evaluation.benchmarks.definition import DataPaths, QuestionBenchmark, Score
from showo_turbo.evaluation.items import BenchmarkData, Item, read_lines
from showo_turbo.files import atomic_files

# fmt: off
PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)
# fmt: on
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")

_IMAGE_ENDINGS = (".jpg", ".png", ".jpeg")


def _read(paths: DataPaths) -> BenchmarkData:
    """Read the tasks of the release: images and texts in one folder each, or in `images` and `questions_answers_YN`."""
    items, files = [], []
    for task in (*PERCEPTION, *COGNITION):
        folder = paths.data / task
        if not folder.is_dir():
            raise InputError(f"data folder {str(paths.data)!r} has no folder {task!r}: give MME's release as --data")
        is_nested = (folder / "questions_answers_YN").is_dir()
        texts = sorted((folder / "questions_answers_YN" if is_nested else folder).glob("*.txt"))
        for text in texts:
            items += _read_image(task, text, folder / "images" if is_nested else folder)
        files += texts
    return BenchmarkData(items, files)


def _read_image(task: str, file: Path, images: Path) -> list[Item]:
    """Read the two questions about one image."""
    lines = list(read_lines(file))
    if len(lines) != 2:
        raise InputError(f"{str(file)!r} has {len(lines)} questions: expected 2, each with its answer after a tab")
    found = [path for ending in _IMAGE_ENDINGS if (path := images / f"{file.stem}{ending}").is_file()]
    if not found:
        raise InputError(f"{lines[0][0]}: image {str(images / file.stem)!r} does not exist as .jpg, .png or .jpeg")
    items = []
    for number, (where, line) in enumerate(lines):
        question, _, label = line.rpartition("\t")
        if not question or label.strip().lower() not in ("yes", "no"):
            raise InputError(f"{where}: expected a question, a tab and Yes or No")
        record = {"task": task, "label": label.strip()}
        items.append(Item(f"{task}/{file.stem}/{number}", question.strip(), where, record, found[0]))
    return items


def _export(folder: Path, items: Sequence[Item], answers: Sequence[str]) -> None:
    rows: dict[str, list[str]] = {}
    for item, answer in zip(items, answers, strict=True):
        assert isinstance(item.image, Path)
        values = (item.image.name, item.text, item.record["label"], one_line_answer(answer))
        rows.setdefault(item.record["task"], []).append("\t".join(values) + "\n")
    atomic_files({folder / f"{task}.txt": "".join(lines).encode() for task, lines in rows.items()})


def task_score(counts: np.ndarray) -> float:
    """Return 100 * accuracy + 100 * accuracy+ of (questions, right ones, images, images with all questions right)."""
    questions, right, images, all_right = counts.tolist()
    return 100 * right / questions + 100 * all_right / images


def _score(items: Sequence[Item], answers: Sequence[str]) -> dict[str, Score]:
    """Score each task, and add up the tasks of perception and cognition."""
    right: dict[str, dict[object, list[bool]]] = {}
    by_item: dict[str, float] = {}
    for item, answer in zip(items, answers, strict=True):
        is_right = yes_or_no_in_prefix(answer) == item.record["label"].lower()
        by_item[item.id] = 100.0 * is_right
        right.setdefault(item.record["task"], {}).setdefault(item.image, []).append(is_right)
    counts = {
        task: np.array([[len(one), sum(one), 1, all(one)] for one in images.values()], dtype=float)
        for task, images in right.items()
    }

    def total(tasks: Sequence[str]) -> Score:
        chosen = [counts[task] for task in tasks]

        def statistic(sums: list[np.ndarray]) -> float:
            return sum(map(task_score, sums))

        return Score.of_counts(chosen, statistic, by_item)

    groups = {"perception": PERCEPTION, "cognition": COGNITION}
    present = {name: [task for task in tasks if task in counts] for name, tasks in groups.items()}
    return {name: total(tasks) for name, tasks in present.items() if tasks} | {task: total([task]) for task in counts}


MME = QuestionBenchmark(
    name="mme",
    title="MME",
    measures="Perception and cognition by pairs of yes-or-no questions: 200 points a task.",
    data="MME_Benchmark_release_version, the folder with 14 tasks (request it as told in "
    "github.com/BradyFU/Awesome-Multimodal-Large-Language-Models, branch Evaluation)",
    licence="for academic research only",
    judge="computed here: the rules of the official eval_tool",
    cost="2,374 questions about 1,187 images",
    read=_read,
    max_new_tokens=16,
    export=_export,
    score=_score,
)
