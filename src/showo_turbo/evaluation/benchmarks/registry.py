"""Benchmarks by name."""

from difflib import get_close_matches

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.captions import CAPTIONS
from showo_turbo.evaluation.benchmarks.clip_score import CLIP_SCORE
from showo_turbo.evaluation.benchmarks.definition import DrawingBenchmark, QuestionBenchmark
from showo_turbo.evaluation.benchmarks.dpg_bench import DPG_BENCH
from showo_turbo.evaluation.benchmarks.fid import FID
from showo_turbo.evaluation.benchmarks.geneval import GENEVAL
from showo_turbo.evaluation.benchmarks.geneval2 import GENEVAL2
from showo_turbo.evaluation.benchmarks.hpsv2 import HPSV2
from showo_turbo.evaluation.benchmarks.image_reward import IMAGE_REWARD
from showo_turbo.evaluation.benchmarks.mme import MME
from showo_turbo.evaluation.benchmarks.mmmu import MMMU
from showo_turbo.evaluation.benchmarks.pope import POPE
from showo_turbo.evaluation.benchmarks.scienceqa import SCIENCEQA
from showo_turbo.evaluation.benchmarks.vqa import VQA

SCENES = "scenes"
"""Name of the benchmark on the built-in world, which has a driver of its own."""

BENCHMARKS: dict[str, DrawingBenchmark | QuestionBenchmark] = {
    one.name: one
    for one in (
        *(GENEVAL, GENEVAL2, DPG_BENCH, HPSV2, IMAGE_REWARD, CLIP_SCORE, FID),
        *(POPE, MME, MMMU, SCIENCEQA, CAPTIONS, VQA),
    )
}


def find_benchmark(name: str) -> DrawingBenchmark | QuestionBenchmark:
    """Return a benchmark by its name.

    Raises:
        InputError: if there is none.
    """
    if name not in BENCHMARKS:
        close = get_close_matches(name, [SCENES, *BENCHMARKS], n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"benchmark {name!r} is unknown: {hint}choose {', '.join([SCENES, *BENCHMARKS])}")
    return BENCHMARKS[name]
