"""`showo-turbo report`: results that `evaluate` has really written, side by side."""

import json
import shutil
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from showo_turbo.cli.main import run
from showo_turbo.evaluation.benchmark_results import read_result
from showo_turbo.evaluation.benchmarks.definition import Score
from showo_turbo.evaluation.geneval_rules import shows_prompt
from showo_turbo.evaluation.result_groups import group_results
from showo_turbo.processing.image_files import load_image
from showo_turbo.scenes.benchmark import TAGS, ScenePrompt, benchmark_prompts
from showo_turbo.scenes.shapes.shape_world import SHAPES

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
from official_data import MAKERS

ATTACK = '<script>alert(1)</script> "a" | <img src=x onerror=alert(2)>'


def command(*arguments: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["showo-turbo", "--quiet", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            run()
    assert not stopped.value.code


def judge(folder: Path, prompts: list[ScenePrompt]) -> None:
    """Write what GenEval's judge writes, by the exact detector of the built-in world."""
    rows = [
        {"filename": str(file), "tag": prompt.tag, "correct": shows_prompt(SHAPES.detect(load_image(file)), prompt)}
        for number, prompt in enumerate(prompts)
        for file in sorted((folder / f"{number:05}" / "samples").iterdir())
    ]
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results: two prompts of each tag, drawn by teacher and student, and answers about POPE's images."""
    folder: Path = tmp_path_factory.mktemp("results")
    every = benchmark_prompts()
    prompts = [prompt for tag in TAGS for prompt in [one for one in every if one.tag == tag][:2]]
    data = folder / "prompts.jsonl"
    data.write_text("".join(prompt.to_json() + "\n" for prompt in prompts))
    runs = {"teacher-4": ("tiny", 4, 2), "student-2": ("tiny-turbo", 2, 2), "student-1": ("tiny-turbo", 1, 2)}
    runs["few"] = ("tiny-turbo", 1, 1)
    for name, (model, steps, images) in runs.items():
        options = ["--data", data, "--device", "cpu", "-o", folder / name]
        command("evaluate", "geneval", "--model", model, "--steps", steps, "--num-images", images, *options)
        judge(folder / name, prompts)
        command("evaluate", "geneval", "--only", "score", "--preset", "paper-256-4", *options)
    pope = [word for key, path in MAKERS["pope"][1](folder / "pope-data").items() for word in (f"--{key}", path)]
    for decoding in ("jacobi", "autoregressive"):
        options = ["--decoding", decoding, "--max-new-tokens", 4, "--device", "cpu", "-o", folder / f"pope-{decoding}"]
        command("evaluate", "pope", *pope, *options)
    choices = [word for key, path in MAKERS["scienceqa"][1](folder / "choices").items() for word in (f"--{key}", path)]
    command("evaluate", "scienceqa", *choices, "--max-new-tokens", 8, "--device", "cpu", "-o", folder / "scienceqa")
    return folder


def folders(results: Path, *names: str) -> list[Path]:
    return [results / name for name in names]


def table(markdown: str, title: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without those of the header."""
    lines = markdown.split(f"# {title}", 1)[1].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| "))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("| "):
            break
        rows.append([cell.strip() for cell in line.strip("| ").split(" | ")])
    return rows


def test_the_tables_have_a_row_for_each_result(cli: Callable, results: Path) -> None:
    done = cli("report", *folders(results, "teacher-4", "student-2", "student-1", "pope-jacobi", "pope-autoregressive"))
    assert done.status == 0, done.err
    rows = table(done.out, "Text to image")
    assert [row[:2] for row in rows] == [["tiny", "4"], ["tiny-turbo", "2"], ["tiny-turbo", "1"]]
    stored = json.loads((results / "teacher-4" / "scores.json").read_text())
    low, high = stored["scores"]["overall"]["interval"]
    assert f"{stored['scores']['overall']['value']:.3f} ({low:.3f} to {high:.3f})" in rows[0]
    answers = table(done.out, "Understanding")
    assert [row[1] for row in answers] == ["jacobi", "autoregressive"]
    assert "tokens / s" in done.out
    differences = table(done.out, "Differences from tiny, 4 steps")
    assert [row[0] for row in differences] == ["tiny-turbo, 2 steps", "tiny-turbo, 1 step"]
    assert all(cell.startswith("~ ") and "(too few items)" in cell for row in differences for cell in row[2:])
    assert " to " in differences[0][1]  # twelve prompts make up the overall score, two that of a tag
    (row,) = table(done.out, "Differences from clipart-turbo, decoding jacobi")
    assert all(cell.startswith("~ +0.000") for cell in row[1:])  # decoding changes no answer
    assert "0.523" in done.out  # the published score


def test_benchmarks_of_one_model_and_setting_share_a_row(cli: Callable, results: Path) -> None:
    done = cli("report", *folders(results, "pope-jacobi", "scienceqa"))
    assert done.status == 0, done.err
    (row,) = table(done.out, "Understanding")
    assert len([cell for cell in row if " to " in cell]) == 2
    assert "max new tokens 4" in done.out
    assert "max new tokens 8" in done.out


def test_unlike_results_are_not_merged(cli: Callable, results: Path) -> None:
    done = cli("report", *folders(results, "student-1", "few"))
    assert "## GenEval \\[1\\]" in done.out
    assert "## GenEval \\[2\\]" in done.out
    assert done.out.count("which have another images per prompt.") == 2
    assert "Differences" not in done.out
    (row,) = table(done.out, "Text to image")  # one model and setting, a column for each
    assert len([cell for cell in row if " to " in cell]) == 2


@pytest.mark.parametrize(
    ("key", "value"), [("data_sha256", "0" * 64), ("items", 11), ("split", "val"), ("shorten", True)]
)
def test_other_items_are_another_group(results: Path, tmp_path: Path, key: str, value: object) -> None:
    other = altered(results / "student-1", tmp_path, lambda content: content["stamp"].update({key: value}))
    groups = group_results([read_result(results / "student-1"), read_result(other)])
    assert [group.unlike for group in groups] == [[key.replace("_", " ")]] * 2


@pytest.mark.parametrize(("key", "value"), [("seed", 7), ("dtype", "bfloat16"), ("torch", "9")])
def test_other_settings_are_named_in_the_rows(results: Path, tmp_path: Path, key: str, value: object) -> None:
    other = altered(results / "student-1", tmp_path, lambda content: content["stamp"].update({key: value}))
    (group,) = group_results([read_result(results / "student-1"), read_result(other)])
    assert [group.label(one) for one in group.results][1] == f"tiny-turbo, 1 step, {key} {value}"


def test_equal_settings_have_rows_of_their_own(cli: Callable, results: Path, tmp_path: Path) -> None:
    again = altered(results / "student-1", tmp_path / "again", lambda content: None)
    rows = table(cli("report", results / "student-1", again).out, "Text to image")
    assert [row[0] for row in rows] == ["tiny-turbo (student-1)", "tiny-turbo (other)"]


def altered(folder: Path, target: Path, change: Callable[[dict], object]) -> Path:
    """Return a copy of a result whose `scores.json` is changed."""
    shutil.copytree(folder, target / "other")
    path = target / "other" / "scores.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return target / "other"


def test_differences_are_paired(results: Path) -> None:
    """A gain on every item is certain, however much the items differ among themselves."""
    rng = np.random.default_rng(0)
    groups = [[float(value)] for value in rng.uniform(0, 0.9, 30)]
    better, shuffled = [[value + 0.05] for (value,) in groups], groups[::-1]
    reference, gain, noise = (Score.of_groups(one) for one in (groups, better, shuffled))
    result = read_result(results / "student-1")
    (group,) = group_results([result])
    for score, is_noise in ((gain, False), (noise, True)):
        object.__setattr__(result, "scores", {"overall": reference})
        other = read_result(results / "student-2")
        object.__setattr__(other, "scores", {"overall": score})
        difference = group.difference(other, "overall")
        assert difference is not None
        assert difference.interval is not None
        low, high = difference.interval
        assert difference.is_noise == is_noise
        assert low - 1e-9 <= difference.value <= high + 1e-9
    assert reference.interval is not None
    assert reference.interval[1] - reference.interval[0] > 0.2
    assert np.ptp(gain.resamples - reference.resamples) < 1e-9  # the interval of the gain has no width


class Elements(HTMLParser):
    """Collect the elements, their addresses and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_one_file_with_plots_and_images(cli: Callable, results: Path, here: Path) -> None:
    chosen = folders(results, "teacher-4", "student-2", "student-1")
    done = cli("report", *chosen, "-o", "report.html", "--prompts", "3")
    assert done.status == 0, done.err
    page = Elements((here / "report.html").read_text())
    assert page.addresses
    assert all(address.startswith("data:image/") for address in page.addresses)
    plots = [address for address in page.addresses if "svg+xml" in address]
    assert len(plots) == 2
    assert len(page.addresses) - len(plots) == 2 * 3 * len(chosen)  # spread and hardest prompts, each with its images
    assert "script" not in page.names
    assert "Hardest prompts" in page.text
    assert cli("report", *chosen, "-o", "report.html").status == 2  # exists
    assert cli("report", *chosen, "-o", "report.md").status == 0


def test_texts_of_others_are_escaped(cli: Callable, results: Path, tmp_path: Path, here: Path) -> None:
    """Prompts, answers, names of models, of scores and of folders are texts, never markup."""
    prompt = altered(results / "student-1", tmp_path / "prompt", lambda content: None)
    name = altered(results / "student-2", tmp_path / "name", lambda content: content["stamp"].update(model=ATTACK))
    name = name.rename(tmp_path / "<b>folder")
    answer = altered(results / "pope-jacobi", tmp_path / "answer", lambda content: None)
    for folder, key in ((prompt, "text"), (answer, "answer")):
        details = json.loads((folder / "score_details.json").read_text())
        for item in details["items"]:
            item[key] = ATTACK
        (folder / "score_details.json").write_text(json.dumps(details))
    assert cli("report", prompt, name, answer, "-o", "report.html").status == 0
    page = Elements((here / "report.html").read_text())
    assert not {"script", "b"} & set(page.names)
    assert page.handlers == []
    assert page.text.count("<script>alert(1)</script>") > 3
    markdown = cli("report", prompt, name, answer).out
    assert "<script" not in markdown
    assert {len(row) for row in table(markdown, "Text to image")} == {len(table(markdown, "Text to image")[1])}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "scores.json").unlink(), "has no scores.json: score it first"),
        (lambda folder: (folder / "scores.json").write_text("[]"), "scores.json"),
        (lambda folder: edit(folder / "scores.json", "benchmark", "bogus"), "benchmark 'bogus' is unknown"),
        (lambda folder: edit(folder / "scores.json", "scores", {"overall": {"value": "x"}}), "overall is 'x'"),
        (lambda folder: edit(folder / "scores.json", "stamp", None), "stamp is None: expected an object"),
        (lambda folder: edit(folder / "score_details.json", "items", [{"id": "1"}]), "items[0]: text is missing"),
        (
            lambda folder: edit(
                folder / "score_details.json", "items", [{"id": "1", "text": "a", "files": ["../secret.png"]}]
            ),
            "file is '../secret.png': expected a name within the folder",
        ),
    ],
)
def test_a_damaged_result_is_named(
    cli: Callable, results: Path, tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    folder = altered(results / "student-1", tmp_path, lambda content: None)
    damage(folder)
    done = cli("report", folder)
    assert done.status == 2
    (line,) = done.err.strip().splitlines()
    assert words in line
    assert str(folder) in line or "benchmark" in line


def edit(path: Path, key: str, value: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing"], "result 'missing' does not exist"),
        (["{few}/scores.json"], "scores.json' is a file: give the output folder"),
        (["{few}", "{few}"], "is given twice"),
        (["{few}", "-o", "report.pdf"], "output 'report.pdf' must end in .html or .md"),
        (["{few}", "--prompts", "0"], "prompts is 0"),
    ],
)
def test_bad_input_is_one_line(cli: Callable, results: Path, here: Path, arguments: list[str], words: str) -> None:
    done = cli("report", *[one.format(few=results / "few") for one in arguments])
    assert done.status == 2
    (line,) = done.err.strip().splitlines()
    assert words in line
