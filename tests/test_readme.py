"""The README and the documentation work by copy and paste: their code runs, in order, and prints what they say.

A ```text block straight after code is its output. ```console shows output that differs from run to run, and
`<!-- not run: reason -->` stands before code that needs a download, a GPU or hours.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from showo_turbo.config_reader import read_config
from showo_turbo.distillation.config import DistillationConfig
from showo_turbo.pretraining.assemble import AssemblyConfig
from showo_turbo.pretraining.image_tokenizer_training import ImageTokenizerTrainingConfig
from showo_turbo.pretraining.showo_pretraining import ShowoPretrainingConfig
from showo_turbo.pretraining.text_tokenizer_training import TextTokenizerTrainingConfig
from showo_turbo.scenes.pool import ScenePoolConfig

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONWARNINGS": "ignore",
}
FENCE = re.compile(
    r"(?P<skip><!-- not run: .+? -->\n)?^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^```\n"
    r"(?:\n```text\n(?P<output>.*?)^```\n)?",
    flags=re.DOTALL | re.MULTILINE,
)
RUNNER = """
import contextlib, io, json, subprocess, sys
names = {}
for language, code in json.loads(sys.argv[1]):
    printed = io.StringIO()
    if language == "python":
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "<page>", "exec"), names)
    else:
        done = subprocess.run(["bash", "-e", "-c", code], stdout=subprocess.PIPE, text=True, check=True)
        printed.write(done.stdout)
    print(json.dumps(printed.getvalue()))
"""


@dataclass(frozen=True)
class Snippet:
    language: str
    code: str
    output: str | None
    title: str | None
    runs: bool


def snippets(page: Path) -> Iterator[Snippet]:
    for found in FENCE.finditer(page.read_text()):
        if found["language"] in ("python", "bash", "yaml"):
            runs = found["skip"] is None and found["language"] != "yaml"
            yield Snippet(found["language"], found["code"], found["output"], found["title"], runs)


def run(page: Path, folder: Path, languages: tuple[str, ...] = ("python", "bash")) -> list[tuple[Snippet, str]]:
    """Run a page's snippets in order, with its titled YAML files at hand; each with what it printed."""
    for entry in ("configs", "examples", "inference_mmu.py", "inference_t2i.py", "training"):
        (folder / entry).symlink_to(ROOT / entry)
    found = list(snippets(page))
    for snippet in found:
        if snippet.language == "yaml" and snippet.title:
            (folder / snippet.title).write_text(snippet.code)
    chosen = [snippet for snippet in found if snippet.runs and snippet.language in languages]
    code = json.dumps([(snippet.language, snippet.code) for snippet in chosen])
    command = [sys.executable, "-c", RUNNER, code]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(zip(chosen, map(json.loads, done.stdout.splitlines()), strict=True))


def check(results: list[tuple[Snippet, str]]) -> None:
    for snippet, printed in results:
        if snippet.output is not None:
            assert printed == snippet.output, snippet.code


def with_code(*languages: str) -> list[Path]:
    return [page for page in PAGES if any(one.runs and one.language in languages for one in snippets(page))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_the_readme_runs(tmp_path: Path) -> None:
    printed = "".join(printed for _, printed in run(README, tmp_path))
    assert "torch.Size([4, 64]) 4" in printed
    assert "How many dogs are there? TextOutput(texts=[" in printed
    assert printed.count("ImageOutput(") == 2
    assert (tmp_path / "dog.png").exists()
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out.png").read_bytes()


@pytest.mark.parametrize(
    "page", [ROOT / f"docs/tutorials/{page}.md" for page in ("draw", "ask", "many-requests")], ids=name
)
def test_the_python_code_of_a_tutorial_runs_and_prints_what_it_says(page: Path, tmp_path: Path) -> None:
    results = run(page, tmp_path, ("python",))
    assert sum(snippet.output is not None for snippet, _ in results) >= 4
    check(results)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in with_code("python", "bash") if page != README], ids=name)
def test_all_code_of_a_page_runs_and_prints_what_it_says(page: Path, tmp_path: Path) -> None:
    check(run(page, tmp_path))


def test_the_readme_is_short_and_all_its_code_is_tested() -> None:
    assert len(README.read_text().splitlines()) <= 150
    found = list(snippets(README))
    assert sum(snippet.language == "python" and snippet.runs for snippet in found) == 3
    # tests/serving/test_server_snippets.py runs those that need a server.
    assert all(snippet.runs or "make " in snippet.code or "127.0.0.1:8000" in snippet.code for snippet in found)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_and_config_file_named_exists(page: Path) -> None:
    text, makefile = page.read_text(), (ROOT / "Makefile").read_text()
    code = "\n".join(snippet.code for snippet in snippets(page))
    for target in re.findall(r"`make (\w+)`", text) + re.findall(r"^make (\w+)", code, flags=re.MULTILINE):
        assert f"\n{target}:" in makefile
    for config in re.findall(r"config=(configs/\S+)", code):
        assert (ROOT / config).is_file()
    for benchmark in re.findall(r"python (benchmarks/\w+\.py)", text):
        assert (ROOT / benchmark).is_file()


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (ImageTokenizerTrainingConfig, "tiny/image_tokenizer"),
        (ShowoPretrainingConfig, "tiny/showo"),
        (ShowoPretrainingConfig, "tiny/showo_round_2"),
        (AssemblyConfig, "tiny/model"),
        (TextTokenizerTrainingConfig, "clipart/text_tokenizer"),
        (ImageTokenizerTrainingConfig, "clipart/image_tokenizer"),
        (ImageTokenizerTrainingConfig, "clipart/image_tokenizer_decoder"),
        (ScenePoolConfig, "clipart/scene_pool"),
        (ShowoPretrainingConfig, "clipart/showo"),
        (ShowoPretrainingConfig, "clipart/showo_round_2"),
        (ShowoPretrainingConfig, "clipart/showo_round_3"),
        (AssemblyConfig, "clipart/model"),
        (DistillationConfig, "clipart/turbo"),
        (DistillationConfig, "clipart/turbo_finish"),
        (DistillationConfig, "clipart/turbo_questions"),
        (DistillationConfig, "clipart/turbo_more"),
        (DistillationConfig, "clipart/turbo_latents"),
        (DistillationConfig, "clipart/turbo_matching"),
        (DistillationConfig, "clipart/turbo_bayer"),
        (DistillationConfig, "tiny/turbo"),
        (DistillationConfig, "tiny/turbo_finish"),
        (DistillationConfig, "tiny/turbo_last"),
        (DistillationConfig, "tiny/ablations"),
        (DistillationConfig, "showo_turbo_training"),
        (DistillationConfig, "256/training"),
        (DistillationConfig, "512/training"),
    ],
)
def test_the_shipped_training_configs_are_valid(cls: type, name: str) -> None:
    assert isinstance(read_config(cls, [f"config={ROOT}/configs/{name}.yaml"]), cls)
