"""VQAv2 (arXiv 1612.00837) by soft accuracy and GQA (arXiv 1902.09506) by exact match.

Decisions:
- The VQA rule is that of the official script (GT-Vision-Lab/VQA), which normalizes texts only where the ten annotators
  disagree. lmms-eval normalizes always.
- GQA's answers are compared as LLaVA does: lower case, without a final period.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.answer_rules import ANSWER_BRIEFLY, write_array
from showo_turbo.evaluation.benchmarks.definition import DataPaths, QuestionBenchmark, Score
from showo_turbo.evaluation.benchmarks.vqa_accuracy import vqa_accuracy
from showo_turbo.evaluation.items import BenchmarkData, Item, get, get_all, image_in, numbered, read_json_data
from showo_turbo.validation import shown


def _read(paths: DataPaths) -> BenchmarkData:
    values = read_json_data(paths.data)
    if isinstance(values, dict) and "questions" in values:
        references = paths.require_references("VQAv2's file of annotations")
        return BenchmarkData(list(_read_vqa(values, references, paths)), [paths.data, references])
    return BenchmarkData(list(_read_gqa(values, paths)), [paths.data])


def _read_vqa(values: Any, references: Path, paths: DataPaths) -> Iterator[Item]:
    annotations = {}
    for where, record in numbered(read_json_data(references), references, "annotations"):
        answers = [get(one, "answer", str, where) for one in get_all(record, "answers", dict, where)]
        kind = get(record, "answer_type", str, where)
        annotations[get(record, "question_id", int, where)] = {"answers": answers, "answer_type": kind}
    prefix = f"COCO_{values['data_subtype']}_" if isinstance(values.get("data_subtype"), str) else ""
    for where, record in numbered(values, paths.data, "questions"):
        number = get(record, "question_id", int, where)
        if number not in annotations:
            raise InputError(f"{where}: {str(references)!r} has no annotation of question {number}")
        image = image_in(paths.images, f"{prefix}{get(record, 'image_id', int, where):012}.jpg", where)
        text = get(record, "question", str, where)
        yield Item(str(number), text, where, {"question_id": number, **annotations[number]}, image)


def _read_gqa(values: Any, paths: DataPaths) -> Iterator[Item]:
    if not isinstance(values, dict):
        raise InputError(f"data file {str(paths.data)!r} is neither VQAv2's nor GQA's file of questions")
    for number, record in values.items():
        where = f"{str(paths.data)!r}, question {shown(number)}"
        if not isinstance(record, dict):
            raise InputError(f"{where} is no object: give VQAv2's or GQA's file of questions")
        image = image_in(paths.images, f"{get(record, 'imageId', str, where)}.jpg", where)
        answer = get(record, "answer", str, where)
        yield Item(number, get(record, "question", str, where), where, {"gqa_answer": answer}, image)


def _export(folder: Path, items: Sequence[Item], answers: Sequence[str]) -> None:
    pairs = list(zip(items, answers, strict=True))
    if "gqa_answer" in items[0].record:
        records = [{"questionId": item.id, "prediction": _gqa_form(answer)} for item, answer in pairs]
        write_array(folder / "testdev_balanced_predictions.json", records)
    else:
        records = [{"question_id": item.record["question_id"], "answer": answer} for item, answer in pairs]
        write_array(folder / "vqa_results.json", records)


def _gqa_form(answer: str) -> str:
    return answer.strip().rstrip(".").lower()


def _score(items: Sequence[Item], answers: Sequence[str]) -> dict[str, Score]:
    """Score answers; questions about one image are one group."""
    groups: dict[str, dict[object, list[float]]] = {}
    by_item: dict[str, float] = {}
    for item, answer in zip(items, answers, strict=True):
        if "gqa_answer" in item.record:
            kinds, value = ["accuracy"], float(_gqa_form(answer) == item.record["gqa_answer"])
        else:
            kinds = ["accuracy", f"accuracy, {item.record['answer_type']}"]
            value = vqa_accuracy(answer, item.record["answers"])
        by_item[item.id] = value
        for kind in kinds:
            groups.setdefault(kind, {}).setdefault(item.image, []).append(value)
    return {
        kind: Score.of_groups(list(images.values()), 100, by_item if kind == "accuracy" else None)
        for kind, images in groups.items()
    }


VQA = QuestionBenchmark(
    name="vqa",
    title="VQAv2 and GQA",
    measures="Short answers: agreement with ten annotators (VQAv2), or the exact word (GQA), in percent.",
    data="v2_OpenEnded_mscoco_val2014_questions.json with --references v2_mscoco_val2014_annotations.json "
    "(visualqa.org), or testdev_balanced_questions.json (cs.stanford.edu/people/dorarad/gqa); --images: their images",
    licence="CC BY 4.0",
    judge="computed here: the official rules",
    cost="VQAv2 val 214,354 questions, GQA testdev 12,578",
    read=_read,
    max_new_tokens=16,
    suffix=ANSWER_BRIEFLY,
    export=_export,
    score=_score,
)
