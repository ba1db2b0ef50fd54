"""HPSv2: a model of human preference on prompts of four styles (arXiv 2306.09341).

FOLDER/images/STYLE/00000.jpg ..      read by hpsv2.evaluate
FOLDER/hpsv2-VERSION.txt              what it prints; VERSION is v2.0 or v2.1, which are not comparable
"""

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.definition import DataPaths, DrawingBenchmark, Judging, Score
from showo_turbo.evaluation.benchmarks.drawn_images import write_images
from showo_turbo.evaluation.items import BenchmarkData, Item, read_json_data, read_lines
from showo_turbo.validation import shown

STYLES = ("anime", "concept-art", "paintings", "photo")
_VERSIONS = ("v2.0", "v2.1")


def _read(paths: DataPaths) -> BenchmarkData:
    items, files = [], [paths.data / f"{style}.json" for style in STYLES]
    for style, file in zip(STYLES, files, strict=True):
        prompts = read_json_data(file)
        if not isinstance(prompts, list):
            raise InputError(f"data file {str(file)!r} holds {shown(prompts)}: expected an array of prompts")
        for number, prompt in enumerate(prompts):
            where = f"{str(file)!r}, [{number}]"
            if not isinstance(prompt, str) or not prompt:
                raise InputError(f"{where} is {shown(prompt)}: expected a prompt")
            items.append(Item(f"{style}/{number:05}", prompt, where))
    return BenchmarkData(items, files)


def _write(folder: Path, item: Item, images: Sequence[Image.Image]) -> list[Path]:
    """Write JPEG in Pillow's default quality, as the official example does."""
    return write_images({folder / "images" / f"{item.id}.jpg": images[0]})


def _score(judging: Judging) -> dict[str, Score]:
    """Read "MODEL STYLE MEAN STD" of each style, and the average, divided by 100."""
    default = next((v for v in _VERSIONS if (judging.folder / f"hpsv2-{v}.txt").is_file()), _VERSIONS[0])
    path = judging.result_file(f"hpsv2-{default}.txt", "hpsv2")
    version = next((version for version in _VERSIONS if version in path.name), None)
    if version is None:
        raise InputError(
            f"the judge's result {str(path)!r} has no version in its name: call it hpsv2-v2.0.txt or -v2.1"
        )
    scores = {}
    for _, line in read_lines(path):
        found = re.search(rf"\b({'|'.join(STYLES)}|Average)\s+(\d+\.\d+)", line)
        if found:
            name = f"HPS {version}" if found[1] == "Average" else f"HPS {version}, {found[1]}"
            scores[name] = Score(float(found[2]) / 100)
    if f"HPS {version}" not in scores:
        raise InputError(
            f"the judge's result {str(path)!r} has no line with Average: expected what hpsv2.evaluate prints"
        )
    return dict(sorted(scores.items(), key=lambda item: len(item[0])))


HPSV2 = DrawingBenchmark(
    name="hpsv2",
    title="HPSv2",
    measures="How people would like images for their prompts, as a model predicts it: score / 100.",
    data="folder with anime.json, concept-art.json, paintings.json, photo.json (huggingface.co/datasets/zhwang/HPDv2, "
    "benchmark)",
    licence="Apache-2.0",
    judge="external: the package hpsv2, see judges/hpsv2",
    cost="3,200 prompts x 1 image",
    read=_read,
    images_per_prompt=1,
    write=_write,
    result_name="hpsv2-v2.0.txt",
    score=_score,
)
