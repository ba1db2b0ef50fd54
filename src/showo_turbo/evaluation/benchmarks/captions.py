"""Captions by CIDEr (arXiv 1411.5726): Flickr30k, NoCaps and TextCaps, in the format of each.

{"images": [{"filename", "split", "sentences": [{"raw"}], "imgid"}]}                Flickr30k (Karpathy's split)
{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}         NoCaps, COCO
{"data": [{"image_id", "reference_strs"}]}                                          TextCaps
"""

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.answer_rules import one_line_answer, write_array
from showo_turbo.evaluation.benchmarks.definition import DataPaths, QuestionBenchmark, Score, ratio_of_sums
from showo_turbo.evaluation.items import BenchmarkData, Item, get, get_all, image_in, numbered, read_json_data
from showo_turbo.extras import require_module
from showo_turbo.validation import shown

_QUESTION = "Provide a one-sentence caption for the provided image."


def _read(paths: DataPaths) -> BenchmarkData:
    values = read_json_data(paths.data)
    if isinstance(values, dict) and "data" in values:
        found = _read_textcaps(values, paths)
    elif isinstance(values, dict) and "annotations" in values:
        found = _read_coco(values, paths)
    else:
        found = _read_karpathy(values, paths)
    return BenchmarkData(list(found), [paths.data])


def _item(
    dataset: str, image_id: int | str, name: str, references: Sequence[str], where: str, paths: DataPaths
) -> Item:
    if not references:
        raise InputError(f"{where}: the image has no reference caption")
    record = {"dataset": dataset, "image_id": image_id, "references": list(references)}
    return Item(str(image_id), _QUESTION, where, record, image_in(paths.images, name, where))


def _read_karpathy(values: Any, paths: DataPaths) -> Iterator[Item]:
    split, known = paths.split or "test", set()
    for where, record in numbered(values, paths.data, "images"):
        known.add(get(record, "split", str, where))
        if record["split"] == split:
            sentences = [get(one, "raw", str, where) for one in get_all(record, "sentences", dict, where)]
            number, name = get(record, "imgid", int, where), get(record, "filename", str, where)
            yield _item("Flickr30k", number, name, sentences, where, paths)
    if split not in known:
        raise InputError(f"split is {split!r}: {str(paths.data)!r} has {shown(sorted(known))}")


def _read_coco(values: Any, paths: DataPaths) -> Iterator[Item]:
    references: dict[int, list[str]] = {}
    for where, record in numbered(values, paths.data, "annotations"):
        references.setdefault(get(record, "image_id", int, where), []).append(get(record, "caption", str, where))
    for where, record in numbered(values, paths.data, "images"):
        number = get(record, "id", int, where)
        dataset = "NoCaps" if "open_images_id" in record else "COCO"
        yield _item(dataset, number, get(record, "file_name", str, where), references.get(number, []), where, paths)


def _read_textcaps(values: Any, paths: DataPaths) -> Iterator[Item]:
    """Read images once, though each caption has an entry."""
    seen = set()
    for where, record in numbered(values, paths.data, "data"):
        name = get(record, "image_id", str, where)
        if name not in seen:
            seen.add(name)
            references = get_all(record, "reference_strs", str, where)
            yield _item("TextCaps", name, f"{name}.jpg", references, where, paths)


def _export(folder: Path, items: Sequence[Item], answers: Sequence[str]) -> None:
    pairs = zip(items, answers, strict=True)
    write_array(
        folder / "captions.json",
        [{"image_id": item.record["image_id"], "caption": one_line_answer(answer)} for item, answer in pairs],
    )


def cider(references: Sequence[Sequence[str]], captions: Sequence[str]) -> np.ndarray:
    """Return CIDEr of each caption, times 100, after PTB tokenization; float (captions,).

    Raises:
        InputError: if pycocoevalcap or Java is missing.
    """
    tokenizers = require_module("pycocoevalcap.tokenizer.ptbtokenizer", "captions", extra="evaluate")
    ciders = require_module("pycocoevalcap.cider.cider", "captions", extra="evaluate")
    if shutil.which("java") is None:
        raise InputError("captions need Java for the PTB tokenizer, and java is not on PATH: install a Java runtime")
    with contextlib.redirect_stdout(sys.stderr):
        tokenizer = tokenizers.PTBTokenizer()
        expected = tokenizer.tokenize({i: [{"caption": one} for one in some] for i, some in enumerate(references)})
        given = tokenizer.tokenize({i: [{"caption": one}] for i, one in enumerate(captions)})
        _, scores = ciders.Cider().compute_score(expected, given)
    return 100 * np.asarray(scores)


def _score(items: Sequence[Item], answers: Sequence[str]) -> dict[str, Score]:
    """Score captions; the bootstrap keeps the document frequencies of the full data."""
    captions = [one_line_answer(answer) for answer in answers]
    scores = cider([item.record["references"] for item in items], captions)
    counts = np.stack([scores, np.ones_like(scores)], axis=1)
    by_item = {item.id: float(score) for item, score in zip(items, scores, strict=True)}
    return {f"CIDEr, {items[0].record['dataset']}": Score.of_counts([counts], ratio_of_sums, by_item)}


CAPTIONS = QuestionBenchmark(
    name="captions",
    title="Captions",
    measures="Agreement of captions with those of people, CIDEr x 100: Flickr30k, NoCaps or TextCaps.",
    data="dataset_flickr30k.json (Karpathy's splits), nocaps_val_4500_captions.json (nocaps.org) or "
    "TextCaps_0.1_val.json (textvqa.org/textcaps); --images: their images",
    licence="Flickr30k: for non-commercial research; NoCaps and TextCaps: CC BY 4.0 (captions)",
    judge="computed here: pycocoevalcap (needs Java)",
    cost="Flickr30k test 1,000, NoCaps val 4,500, TextCaps val 3,166 captions",
    read=_read,
    max_new_tokens=64,
    export=_export,
    score=_score,
)
