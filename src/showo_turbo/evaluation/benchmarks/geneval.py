"""GenEval: whether an image has the objects, counts, colors and positions of its prompt (arXiv 2310.11513).

FOLDER/00000/metadata.jsonl, FOLDER/00000/samples/0000.png ..    read by the official evaluate_images.py
FOLDER/results.jsonl                                             written by it
"""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from showo_turbo.evaluation.benchmarks.definition import DataPaths, DrawingBenchmark, Judging, Score
from showo_turbo.evaluation.benchmarks.drawn_images import check_covered, write_images
from showo_turbo.evaluation.items import BenchmarkData, Item, get, get_all, get_choice, read_records
from showo_turbo.evaluation.statistics import mean_of_estimates, mean_of_groups
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
    estimates = {tag: mean_of_groups(list(by_tag[tag].values())) for tag in TAGS if tag in by_tag}
    overall = mean_of_estimates(list(estimates.values()))
    return {"overall": Score.of(overall)} | {tag: Score.of(estimate) for tag, estimate in estimates.items()}


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
