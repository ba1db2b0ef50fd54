"""DPG-Bench: dense prompts, judged by mPLUG's answers to questions about every part (arXiv 2403.05135).

FOLDER/grids/NAME.png         four images in a 2 x 2 grid, named after the prompt's file
FOLDER/dpg_results.txt        written by the official compute_dpg_bench.py
"""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.definition import DataPaths, DrawingBenchmark, Judging, Score
from showo_turbo.evaluation.benchmarks.drawn_images import check_covered, mean_score, write_images
from showo_turbo.evaluation.items import BenchmarkData, Item, read_lines

_COLUMNS = 2


def _read(paths: DataPaths) -> BenchmarkData:
    files = sorted(paths.data.glob("*.txt"))
    if not files:
        raise InputError(f"data folder {str(paths.data)!r} has no .txt files: give DPG-Bench's prompts as --data")
    items = []
    for file in files:
        lines = list(read_lines(file))
        if not lines:
            raise InputError(f"{str(file)!r} is empty: expected a prompt")
        items.append(Item(file.stem, " ".join(line for _, line in lines), repr(str(file))))
    return BenchmarkData(items, files)


def _write(folder: Path, item: Item, images: Sequence[Image.Image]) -> list[Path]:
    """Write the images as one, without borders; up to three leave the rest black, as `--pic-num` allows."""
    width, height = images[0].size
    grid = Image.new("RGB", (_COLUMNS * width, _COLUMNS * height))
    for number, image in enumerate(images[: _COLUMNS**2]):
        grid.paste(image, (number % _COLUMNS * width, number // _COLUMNS * height))
    return write_images({folder / "grids" / f"{item.id}.png": grid})


def _score(judging: Judging) -> dict[str, Score]:
    """Read the scores of the images of every prompt, "PATH, SCORE, .., MEAN", and the categories at the end."""
    path = judging.result_file("dpg_results.txt", "dpg-bench")
    groups: dict[str, list[float]] = {}
    categories: dict[str, Score] = {}
    section = ""
    for where, line in read_lines(path):
        name, comma, values = line.rpartition(".png, ")
        if comma:
            try:
                groups[Path(name).name] = [float(value) for value in values.split(", ")[:-1]]
            except ValueError:
                raise InputError(f"{where}: expected a path, scores and their mean, separated by commas") from None
        elif line.endswith("category scores:"):
            section = line.removesuffix(" category scores:")
        elif section and ": " in line and not line.startswith(("Image path", "Save results", "DPG-Bench")):
            category, _, value = line.partition(": ")
            categories[f"{section} {category}"] = Score(float(value))
    check_covered(len(groups), len(judging.items), path, "prompts")
    ordered = dict(sorted(groups.items()))  # the judge's processes finish in any order
    return {"overall": mean_score(list(ordered.values()), 100, list(ordered))} | categories


DPG_BENCH = DrawingBenchmark(
    name="dpg-bench",
    title="DPG-Bench",
    measures="Whether images show every detail of long prompts: answers of a VQA model that are yes, in percent.",
    data="folder of prompts, one .txt file each (github.com/TencentQQGYLab/ELLA, dpg_bench/prompts)",
    licence="Apache-2.0",
    judge="external: mPLUG by the official script, see judges/dpg-bench",
    cost="1,065 prompts x 4 images",
    read=_read,
    images_per_prompt=4,
    write=_write,
    result_name="dpg_results.txt",
    score=_score,
)
