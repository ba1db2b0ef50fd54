"""`showo-turbo compare`: the paper's two tables, stored cell by cell."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hold_lock import another_writer
from PIL import Image

from showo_turbo.evaluation.comparison import image_variants
from showo_turbo.scenes.benchmark import benchmark_prompts

SHOWO_TURBO = str(Path(sys.executable).parent / "showo-turbo")


def compare(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SHOWO_TURBO, "compare", *options], capture_output=True, text=True)


def test_tables_are_printed_and_cells_are_stored(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(prompt.to_json() + "\n" for prompt in benchmark_prompts()[::100]))
    cells = tmp_path / "cells.json"
    options = (
        "--student",
        "Turbo=tiny",
        "--top-k",
        "4",
        "--prompts-file",
        str(prompts),
        "--steps",
        "2",
        "--guidance-scale",
        "1",
    )
    options = (*options, "--images-per-prompt", "1", "--scenes", "2", "-o", str(cells))
    plot = tmp_path / "scores.png"
    first = compare(*options, "--plot", str(plot))
    assert first.returncode == 0, first.stderr
    with Image.open(plot) as image:
        assert image.format == "PNG"
    rows = [line for line in first.stdout.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[1] for row in rows if row.startswith("| 2")] == [
        "teacher, guidance 1",
        "Turbo, top-k 4",
    ]
    assert any(row.startswith("| teacher, autoregressive | ") for row in rows)
    assert len(json.loads(cells.read_text())) == 5  # Turbo is the teacher here, so its Jacobi cell is the teacher's

    stored = cells.read_text()
    second = compare(*options)
    assert second.stdout == first.stdout
    assert cells.read_text() == stored
    assert "2 steps" not in second.stderr
    assert compare(*options, "--dtype", "bfloat16").returncode == 0
    assert len(json.loads(cells.read_text())) == 10

    cells.write_text('{"stamp": {}}')
    other = compare(*options)
    assert other.returncode == 2
    assert "is not a comparison file (it holds 'stamp')" in other.stderr


@pytest.mark.parametrize(("teacher", "rows"), [("tiny", 3), ("clipart", 3), ("clipart-turbo", 2)])
def test_the_teacher_has_the_sampler_of_its_student_once(teacher: str, rows: int) -> None:
    student = f"{teacher.removesuffix('-turbo')}-turbo"
    titles = [one.title for one in image_variants(teacher, {"Turbo": student}, [1.0], [None])]
    assert len(titles) == rows
    assert ("teacher, guidance 1, Turbo's sampler" in titles) == (rows == 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--teacher", "nobody"], "model 'nobody' is unknown"),
        (["--student", "tiny"], "student is 'tiny': give TITLE=MODEL"),
        (["--student", "Turbo=nobody"], "model 'nobody' is unknown"),
        (["--student", "T=tiny", "--student", "T=tiny-turbo"], "two students are titled 'T'"),
        (["--dtype", "bogus"], "dtype 'bogus' is unknown"),
        (["--device", "mars"], "device 'mars' cannot be used"),
        (["--steps", "0"], "steps is 0"),
        (["--top-k", "0"], "top_k is 0"),
        (["--steps", "4", "--steps", "65"], "num_inference_steps is 65"),
        (["--student", "T=tiny-turbo", "--top-k", "4", "--top-k", "9000"], "top_k is 9000"),
        (["--guidance-scale", "-1"], "guidance_scale is -1.0"),
        (["--seed", str(2**63)], "seed is 9223372036854775808"),
        (["--plot", "scores.svg"], "plot 'scores.svg' must end in .png"),
    ],
)
def test_bad_input_is_one_line_and_status_2(options: list[str], words: str) -> None:
    done = compare(*options)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert words in line


def test_one_comparison_at_a_time_writes_a_file(tmp_path: Path) -> None:
    with another_writer(tmp_path / "cells.json", "lock_file"):
        result = compare("-o", str(tmp_path / "cells.json"))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: '{tmp_path}/cells.json' is being written by process ")
    assert result.stderr.count("\n") == 1
