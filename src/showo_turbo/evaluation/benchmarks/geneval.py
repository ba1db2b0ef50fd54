"""GenEval: whether an image has the objects, counts, colors and positions of its prompt (arXiv 2310.11513).

FOLDER/00000/metadata.jsonl, FOLDER/00000/samples/0000.png ..    read by the official evaluate_images.py
FOLDER/results.jsonl                                             written by it
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from PIL import Image

from showo_turbo.evaluation.benchmarks.definition import DataPaths, DrawingBenchmark, Judging, Score, ratio_of_sums
from showo_turbo.evaluation.benchmarks.drawn_images import check_covered, write_images
from showo_turbo.evaluation.items import BenchmarkData, Item, get, get_all, get_choice, read_records
from showo_turbo.evaluation.statistics import bootstrap, mean_of_estimates, mean_of_groups
from showo_turbo.files import atomic_files
from showo_turbo.scenes.benchmark import TAGS


def _read(paths: DataPaths) -> BenchmarkData:
    items = []
    for number, (where, record) in enumerate(read_records(paths.data)):
        get_choice(record, "tag", TAGS, where)
        for key in ("include", "exclude")[: 1 + ("exclude" in record)]:
            for one in get_all(record, key, dict, where):
                get(one, "class", str, where)
                get(one, "count", int, where)
        items.append(Item(f"{number:05}", get(record, "prompt", str, where), where, record))
    return BenchmarkData(items, [paths.data])


def _write(folder: Path, item: Item, images: Sequence[Image.Image]) -> list[Path]:
    samples = folder / item.id / "samples"
    files = write_images({samples / f"{number:04}.png": image for number, image in enumerate(images)})
    metadata = folder / item.id / "metadata.jsonl"
    atomic_files({metadata: json.dumps(item.record).encode()})
    return [*files, metadata]


def _score(judging: Judging) -> dict[str, Score]:
    """Read the official results: the overall score is the mean of the six accuracies over images."""
    path = judging.result_file("results.jsonl", "geneval")
    by_tag: dict[str, dict[str, list[float]]] = {}
    count = 0
    for where, record in read_records(path):
        tag = get_choice(record, "tag", TAGS, where)
        folder = Path(get(record, "filename", str, where)).parent.parent.name
        correct = float(get(record, "correct", bool, where))
        by_tag.setdefault(tag, {}).setdefault(folder, []).append(correct)
        count += 1
    check_covered(count, len(judging.items) * judging.images_per_prompt, path)
    groups = {tag: [by_tag[tag][name] for name in sorted(by_tag[tag])] for tag in TAGS if tag in by_tag}
    by_item = {name: fmean(cases) for of_tag in by_tag.values() for name, cases in of_tag.items()}
    return {"overall": _overall(groups, by_item)} | {tag: Score.of_groups(cases) for tag, cases in groups.items()}


def _overall(groups: dict[str, list[list[float]]], by_item: dict[str, float]) -> Score:
    """Return the mean of the accuracies of the tags; its resamples draw prompts within each tag."""
    overall = mean_of_estimates([mean_of_groups(cases) for cases in groups.values()])
    counts = [np.array([[sum(case), len(case)] for case in cases]) for cases in groups.values()]
    resamples = bootstrap(counts, lambda sums: fmean(ratio_of_sums([one]) for one in sums))
    return Score(overall.value, overall.interval, resamples, sum(map(len, counts)), by_item)


GENEVAL = DrawingBenchmark(
    name="geneval",
    title="GenEval",
    measures="Whether images have the objects, counts, colors and positions of their prompts: mean of six tags.",
    data="evaluation_metadata.jsonl (github.com/djghosh13/geneval, prompts)",
    licence="MIT",
    judge="external: Mask2Former and CLIP by the official scripts, see judges/geneval",
    cost="553 prompts x 4 images",
    read=_read,
    images_per_prompt=4,
    write=_write,
    result_name="results.jsonl",
    score=_score,
)
