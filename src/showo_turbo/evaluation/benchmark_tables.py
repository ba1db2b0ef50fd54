"""Present the scores of a benchmark beside the published ones, and the list of benchmarks."""

from collections.abc import Mapping

from rich.table import Table

from showo_turbo.evaluation.benchmarks.definition import Benchmark, DrawingBenchmark, Score
from showo_turbo.evaluation.benchmarks.registry import BENCHMARKS
from showo_turbo.evaluation.presets import Preset, published_score


def score_table(title: str, benchmark: Benchmark, scores: Mapping[str, Score], preset: Preset | None) -> Table:
    """Return a table with one row per score; with a preset, its published value and whether it is in the interval."""
    table = Table(title=title, title_justify="left")
    table.add_column("score")
    table.add_column(benchmark.title, justify="right")
    table.add_column("95 % interval", justify="right")
    if preset is not None:
        table.add_column(preset.name, justify="right")
        table.add_column("in the interval")
    for name, score in scores.items():
        interval = "" if score.interval is None else f"{_number(score.interval[0])} - {_number(score.interval[1])}"
        cells = [name, _number(score.value), interval]
        if preset is not None:
            published = published_score(preset.published.get(benchmark.name, {}), name)
            cells += ["" if published is None else _number(published), _verdict(score, published)]
        table.add_row(*cells)
    return table


def _verdict(score: Score, published: float | None) -> str:
    if published is None or score.interval is None:
        return ""
    low, high = score.interval
    return "yes" if low <= published <= high else "no"


def _number(value: float) -> str:
    """Return a score with the decimals that published tables have: three for fractions, one for percent and points."""
    return f"{value:.3f}" if abs(value) < 5 else f"{value:.1f}"


_SCENES = """scenes (drawing and understanding)
  measures  Held-out prompts and questions of the built-in world, by an exact detector.
  data      ships with the package
  licence   Apache-2.0
  judge     computed here
  cost      508 prompts x 4 images, 300 images with questions"""


def benchmark_list() -> str:
    """Return what `evaluate --list` prints."""
    blocks = [_SCENES]
    for one in BENCHMARKS.values():
        kind = "drawing" if isinstance(one, DrawingBenchmark) else "understanding"
        lines = {"measures": one.measures, "data": one.data, "licence": one.licence, "judge": one.judge}
        lines["cost"] = one.cost
        blocks.append("\n".join([f"{one.name} ({kind})", *(f"  {key:<9} {text}" for key, text in lines.items())]))
    return "\n".join(blocks)
