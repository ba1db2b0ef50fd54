"""POPE: yes-or-no questions about the existence of objects (arXiv 2305.10355; the evaluation of RUCAIBox/POPE).

Decisions:
- The default is the official variant: the question as it is, and yes unless the first sentence has the words no, No or
  not. lmms-eval appends a suffix and compares whole answers, which gives other numbers.
- The data is one file, or a folder with a file for each way in which negative objects are chosen (random, popular,
  adversarial); scores are then means over the files.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.answer_rules import write_lines
from showo_turbo.evaluation.benchmarks.definition import DataPaths, QuestionBenchmark, Score
from showo_turbo.evaluation.items import BenchmarkData, Item, get, get_choice, image_in, read_records


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
    words = answer.split(".")[0].replace(",", "").split(" ")
    return not {"No", "not", "no"} & set(words)


def score_pope(answers: Sequence[str], labels: Sequence[bool]) -> PopeScores:
    """Score answers against the true labels."""
    counts = [_counts(answer, label) for answer, label in zip(answers, labels, strict=True)]
    return _scores(np.sum(counts, axis=0) if counts else np.zeros(4))


def _counts(answer: str, label: bool) -> list[float]:
    """Return (true positive, false positive, false negative, true negative) of one answer."""
    said = says_yes(answer)
    return [float(said and label), float(said and not label), float(label and not said), float(not said and not label)]


def _scores(counts: np.ndarray) -> PopeScores:
    hits, false_alarms, misses, rejections = counts.tolist()
    precision, recall = _ratio(hits, hits + false_alarms), _ratio(hits, hits + misses)
    return PopeScores(
        accuracy=_ratio(hits + rejections, sum(counts.tolist())),
        precision=precision,
        recall=recall,
        f1=_ratio(2 * precision * recall, precision + recall),
        yes_ratio=_ratio(hits + false_alarms, sum(counts.tolist())),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _read(paths: DataPaths) -> BenchmarkData:
    files = [paths.data]
    if paths.data.is_dir():
        files = sorted(file for file in paths.data.iterdir() if file.suffix in (".json", ".jsonl"))
        if not files:
            raise InputError(f"data folder {str(paths.data)!r} has no .json or .jsonl file: give POPE's questions")
    items = []
    for file in files:
        for where, record in read_records(file):
            number = get(record, "question_id", int, where)
            label = get_choice(record, "label", ("yes", "no"), where)
            image = image_in(paths.images, get(record, "image", str, where), where)
            values = {"file": file.stem, "label": label}
            items.append(Item(f"{file.stem}/{number}", get(record, "text", str, where), where, values, image))
    return BenchmarkData(items, files)


def _export(folder: Path, items: Sequence[Item], answers: Sequence[str]) -> None:
    pairs = zip(items, answers, strict=True)
    for name, group in groupby(pairs, key=lambda pair: pair[0].record["file"]):
        records = [{"question": item.text, "answer": answer} for item, answer in group]
        write_lines(folder / f"{name}_answers.jsonl", records)


def _score(items: Sequence[Item], answers: Sequence[str]) -> dict[str, Score]:
    """Score each file; questions about one image are one group of the bootstrap."""
    by_file: dict[str, dict[object, np.ndarray]] = {}
    by_item: dict[str, float] = {}
    for item, answer in zip(items, answers, strict=True):
        by_item[item.id] = 100.0 * (says_yes(answer) == (item.record["label"] == "yes"))
        images = by_file.setdefault(item.record["file"], {})
        images[item.image] = images.get(item.image, 0) + np.array(_counts(answer, item.record["label"] == "yes"))
    strata = {name: np.array(list(images.values())) for name, images in by_file.items()}

    def score_of(name: str, only: Sequence[str]) -> Score:
        def statistic(sums: list[np.ndarray]) -> float:
            return 100 * float(np.mean([asdict(_scores(one))[name] for one in sums]))

        return Score.of_counts([strata[file] for file in only], statistic, by_item if name == "accuracy" else None)

    scores = {name: score_of(name, list(strata)) for name in PopeScores.__dataclass_fields__}
    if len(strata) > 1:
        scores |= {f"{name}, {file}": score_of(name, [file]) for file in strata for name in ("accuracy", "f1")}
    return scores


POPE = QuestionBenchmark(
    name="pope",
    title="POPE",
    measures="Whether the model tells objects that are in an image from those that are not, in percent.",
    data="coco_pope_random.json and the like (output/coco in github.com/RUCAIBox/POPE), or their folder; --images: "
    "COCO val2014 (cocodataset.org)",
    licence="MIT; images: COCO's terms",
    judge="computed here: the official rule for yes and no",
    cost="3 x 3,000 questions about 500 images",
    read=_read,
    max_new_tokens=16,
    export=_export,
    score=_score,
)
