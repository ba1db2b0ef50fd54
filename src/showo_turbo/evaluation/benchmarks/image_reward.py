"""ImageReward: a reward model of human preference (arXiv 2304.05977).

FOLDER/generations/model/ID_0.png ..    read by the official test-benchmark.py
FOLDER/results/ImageReward-v1.0/..      written by it
"""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from PIL import Image

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.definition import DataPaths, DrawingBenchmark, Judging, Score
from showo_turbo.evaluation.benchmarks.drawn_images import check_covered, mean_score, write_images
from showo_turbo.evaluation.items import BenchmarkData, Item, get, get_all, numbered, read_json_data

_RESULT = "results/ImageReward-v1.0/ImageReward-v1.0-benchmark-model-result.json"


def _read(paths: DataPaths) -> BenchmarkData:
    values = {"prompts": read_json_data(paths.data)}
    items = [
        Item(get(record, "id", str, where), get(record, "prompt", str, where), where)
        for where, record in numbered(values, paths.data, "prompts")
    ]
    return BenchmarkData(items, [paths.data])


def _write(folder: Path, item: Item, images: Sequence[Image.Image]) -> list[Path]:
    files = {folder / "generations" / "model" / f"{item.id}_{number}.png": image for number, image in enumerate(images)}
    return write_images(files)


def _score(judging: Judging) -> dict[str, Score]:
    path = judging.result_file(_RESULT, "image-reward")
    values = {"results": read_json_data(path)}
    rewards = [get_all(record, "rewards", (int, float), where) for where, record in numbered(values, path, "results")]
    if not all(isfinite(reward) for group in rewards for reward in group):
        raise InputError(
            f"the judge's result {str(path)!r} has rewards that are no finite numbers: judge the images again"
        )
    check_covered(sum(map(len, rewards)), len(judging.items) * judging.images_per_prompt, path)
    ids = [item.id for item in judging.items]  # the judge keeps their order
    return {"ImageReward": mean_score(rewards, ids=ids if len(ids) == len(rewards) else None)}


IMAGE_REWARD = DrawingBenchmark(
    name="image-reward",
    title="ImageReward",
    measures="How people would like images for their prompts, as a reward model predicts it: mean reward.",
    data="benchmark-prompts.json (github.com/THUDM/ImageReward, benchmark)",
    licence="Apache-2.0",
    judge="external: ImageReward-v1.0 by the official script, see judges/image-reward",
    cost="100 prompts x 10 images",
    read=_read,
    images_per_prompt=10,
    write=_write,
    result_name=_RESULT,
    score=_score,
)
