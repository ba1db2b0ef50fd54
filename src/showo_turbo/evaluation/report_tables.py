"""Tables of a report: a summary in the layout of the paper's tables, and the scores and differences of each group."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from showo_turbo.evaluation.benchmark_results import BenchmarkResult
from showo_turbo.evaluation.benchmarks.definition import Score
from showo_turbo.evaluation.presets import published_score
from showo_turbo.evaluation.result_groups import FEWEST_GROUPS, Difference, ResultGroup, differing_settings


@dataclass(frozen=True)
class Cell:
    """Hold a cell of a table.

    Attributes:
        text: its text.
        note: what is shown smaller beside it, such as an interval.
        is_noise: whether it is a difference inside the noise, which is marked.
    """

    text: str
    note: str = ""
    is_noise: bool = False


@dataclass(frozen=True)
class ReportTable:
    """Hold a table as texts.

    Attributes:
        title: what it shows.
        header: names of the columns.
        rows: their cells.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def markdown(self) -> str:
        """Return the table as Markdown; texts cannot break out of their cells."""
        lines = [[escape_markdown(name) for name in self.header], ["---"] * len(self.header)]
        for row in self.rows:
            texts = [escape_markdown(f"{'~ ' * cell.is_noise}{cell.text} {cell.note}".strip()) for cell in row]
            lines.append(texts)
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape_markdown(text: str) -> str:
    """Return a text as Markdown that shows it literally, on one line."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|>#~])", r"\\\1", flat).replace(r"\~ ", "~ ")


_OWN_OF_BENCHMARK = "max new tokens"
"""Setting that each benchmark of answers chooses for itself, so that it tells no rows of the summary apart."""


def summary_tables(groups: Sequence[ResultGroup]) -> list[ReportTable]:
    """Return the paper's two tables: a row for each model and setting, a column for each group's main score."""
    tables = []
    for draws, title in ((True, "Text to image"), (False, "Understanding")):
        chosen = [group for group in groups if group.draws == draws]
        if chosen:
            tables.append(_summary(title, chosen))
    return tables


def _summary(title: str, groups: Sequence[ResultGroup]) -> ReportTable:
    rows: dict[tuple, list[BenchmarkResult | None]] = {}
    for column, group in enumerate(groups):
        times: dict[tuple, int] = {}
        for result in group.results:
            settings = tuple(item for item in result.settings.items() if item[0] != _OWN_OF_BENCHMARK)
            times[settings] = times.get(settings, 0) + 1  # equal settings have rows of their own, never a mean
            rows.setdefault((settings, times[settings]), [None] * len(groups))[column] = result
    times_of_settings = Counter(settings for settings, _ in rows)
    firsts = {key: next(result for result in row if result is not None) for key, row in rows.items()}
    names = [name for name in differing_settings(list(firsts.values())) if name != _OWN_OF_BENCHMARK]
    draws = groups[0].draws
    speed = ["s / image"] if draws else ["tokens / s", "tokens / pass"]
    header = [*names, *(f"{group.title}: {group.scores[0]}" for group in groups), *speed]
    cells = []
    for key in sorted(rows, key=lambda key: -(firsts[key].steps or 0)):
        row = rows[key]
        scores = [Cell("") if result is None else score_cell(result.main[1]) for result in row]
        found = [result for result in row if result is not None]
        if draws:
            times_of_row = [_number(fmean(result.seconds for result in found))]
        else:
            times_of_row = [
                _mean_text([value for result in found if (value := getattr(result, name)) is not None])
                for name in ("tokens_per_second", "tokens_per_pass")
            ]
        note = "" if times_of_settings[key[0]] == 1 else f"({firsts[key].folder.name})"
        columns = [Cell(firsts[key].settings.get(name, ""), note if name == "model" else "") for name in names]
        cells.append([*columns, *scores, *map(Cell, times_of_row)])
    return ReportTable(title, header, cells)


def _mean_text(values: Sequence[float]) -> str:
    return f"{fmean(values):.2f}" if values else ""


def score_table_of(group: ResultGroup) -> ReportTable:
    """Return all scores of a group with their intervals, and published values of the main score."""
    published = any(_published(result) is not None for result in group.results)
    header = ["result", *group.scores, *(["published", "in the interval"] if published else [])]
    rows = []
    for result in group.results:
        row = [Cell(group.label(result))]
        row += [score_cell(result.scores[name]) if name in result.scores else Cell("") for name in group.scores]
        if published:
            row += _published_cells(result)
        rows.append(row)
    return ReportTable("Scores, with 95 % intervals", header, rows)


def _published(result: BenchmarkResult) -> float | None:
    return published_score(result.published, result.main[0])


def _published_cells(result: BenchmarkResult) -> list[Cell]:
    value, interval = _published(result), result.main[1].interval
    if value is None:
        return [Cell(""), Cell("")]
    inside = "" if interval is None else "yes" if interval[0] <= value <= interval[1] else "no"
    return [Cell(_number(value)), Cell(inside)]


def difference_table(group: ResultGroup) -> ReportTable:
    """Return the differences of all scores of a group from those of its reference, with paired intervals."""
    rows = []
    for result in group.results:
        if result is not group.reference:
            cells = [_difference_cell(group.difference(result, name)) for name in group.scores]
            rows.append([Cell(group.label(result)), *cells])
    title = f"Differences from {group.label(group.reference)}"
    return ReportTable(title, ["result", *group.scores], rows)


def _difference_cell(difference: Difference | None) -> Cell:
    if difference is None:
        return Cell("")
    if difference.interval is None:
        return Cell(f"{_signed(difference.value)}", "(no interval)")
    if not difference.has_enough_items:
        return Cell(_signed(difference.value), "(too few items)", difference.is_noise)
    low, high = map(_signed, difference.interval)
    return Cell(_signed(difference.value), f"({low} to {high})", difference.is_noise)


def score_cell(score: Score) -> Cell:
    """Return a score with its interval."""
    note = "" if score.interval is None else f"({_number(score.interval[0])} to {_number(score.interval[1])})"
    return Cell(_number(score.value), note)


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 5 else f"{value:.1f}"


def _signed(value: float) -> str:
    return f"+{_number(value)}" if value >= 0 else f"−{_number(-value)}"


def markdown_report(groups: Sequence[ResultGroup]) -> str:
    """Return all tables of a report as Markdown."""
    parts = ["# Report"]
    for table in summary_tables(groups):
        parts += [f"## {table.title}", table.markdown()]
    for group in groups:
        parts += [f"## {escape_markdown(group.title)}", escape_markdown(conditions_line(group))]
        if group.unlike:
            parts.append(escape_markdown(unlike_line(group)))
        tables = [score_table_of(group)] + ([difference_table(group)] if len(group.results) > 1 else [])
        for table in tables:
            parts += [f"### {escape_markdown(table.title)}", table.markdown()]
        if len(group.results) > 1:
            parts.append(NOISE_LINE)
    return "\n\n".join(parts) + "\n"


_HASH_LENGTH = 64

NOISE_LINE = (
    "~ marks a difference inside the noise: 0 is in its 95 % interval, by a bootstrap over the same items, or there "
    f"are fewer than {FEWEST_GROUPS} of them."
)


def conditions_line(group: ResultGroup) -> str:
    """Return what all results of a group have in common, in a line."""
    hidden = (*group.names, "weights", "model")
    shared = dict(group.reference.conditions)
    shared |= {name: value for name, value in group.reference.settings.items() if name not in hidden}
    words = [f"{name} {_short(value)}" for name, value in shared.items() if value not in ("", "none", "False")]
    return f"All rows: {', '.join(words)}."


def _short(value: str) -> str:
    return value if len(value) < _HASH_LENGTH else f"{value[:12]}…"


def unlike_line(group: ResultGroup) -> str:
    """Return why a group is not merged with others of its benchmark."""
    return (
        f"Not comparable with the other tables of {group.reference.benchmark.title}, which have another "
        f"{' and '.join(group.unlike)}."
    )
