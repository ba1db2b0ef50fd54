"""`generate --format`: packs of images, whatever the number of processes and wherever a run is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest

from showo_turbo.data.sources.webdataset import WebDataset
from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.definition import DataPaths
from showo_turbo.evaluation.benchmarks.drawn_images import read_prompts
from showo_turbo.evaluation.bulk_drawing import BulkPlan, draw_bulk
from showo_turbo.evaluation.item_store import Process
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.image_files import load_image

SRC = str(Path(__file__).parents[2] / "src")


def write_prompts(path: Path, count: int) -> Path:
    records = [{"prompt": f"a red circle {number}", "source": f"row {number}"} for number in range(count)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def plan(tmp_path: Path, random_pipe: ShowoPipeline) -> BulkPlan:
    data = read_prompts(DataPaths(write_prompts(tmp_path / "prompts.jsonl", 8)))
    sampling = random_pipe.recommended.override(num_inference_steps=2)
    return BulkPlan(data, tmp_path / "out", "webdataset", sampling, 0, 2, prompts_per_pack=3, batch_size=4)


def run(plan: BulkPlan, pipe: ShowoPipeline, process: Process = Process()) -> float | None:  # noqa: B008
    plan.folder.mkdir(exist_ok=True)
    return draw_bulk(pipe, plan, plan.settings(pipe, "random", {}), process)


def packs(folder: Path) -> dict[str, bytes]:
    files = (
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((".", "items-", "settings"))
    )
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("format", ["files", "webdataset", "parquet"])
def test_packs_depend_neither_on_the_batch_nor_on_the_processes(
    format: str, plan: BulkPlan, tmp_path: Path, random_pipe: ShowoPipeline
) -> None:
    one = replace(plan, format=format, folder=tmp_path / "one", batch_size=1)
    two = replace(plan, format=format, folder=tmp_path / "two", batch_size=5)
    assert run(one, random_pipe) is not None
    assert run(two, random_pipe, Process(1, 2)) is None
    assert run(two, random_pipe, Process(0, 2)) is not None
    assert packs(one.folder) == packs(two.folder)
    assert len(packs(one.folder)) == (3 if format != "files" else 3 + 16)


def test_formats_hold_the_same_images(plan: BulkPlan, tmp_path: Path, random_pipe: ShowoPipeline) -> None:
    for format in ("files", "webdataset", "parquet"):
        run(replace(plan, format=format, folder=tmp_path / format), random_pipe)
    lines = (tmp_path / "files" / "0000001" / "metadata.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    rows = pyarrow.parquet.read_table(tmp_path / "parquet" / "0000001.parquet").to_pylist()
    samples = WebDataset(tmp_path / "webdataset" / "0000001.tar")
    assert len(records) == len(rows) == len(samples) == 6
    for number, (record, row) in enumerate(zip(records, rows, strict=True)):
        file = tmp_path / "files" / "0000001" / record["file_name"]
        assert row["image"] == {"bytes": file.read_bytes(), "path": file.name}
        assert json.loads(row["record"]) == record
        assert record["prompt"] == row["prompt"] == samples[number].text == f"a red circle {3 + number // 2}"
        assert record["source"] == f"row {3 + number // 2}"
        assert samples[number].image.tobytes() == load_image(file).tobytes()
        again = random_pipe.text_to_image(record["prompt"], seed=record["seed"], **vars(plan.sampling)).images[0]
        assert again.tobytes() == load_image(file).tobytes()


def test_a_kill_between_pack_and_images_leaves_no_images(plan: BulkPlan, random_pipe: ShowoPipeline) -> None:
    run(plan, random_pipe)
    before = packs(plan.folder)
    (plan.folder / "0000001").mkdir()
    (plan.folder / "0000001" / "000003-0.png").write_bytes(b"")
    (plan.folder / "0000002.tar").unlink()
    assert run(plan, random_pipe) is not None
    assert packs(plan.folder) == before


def test_other_settings_are_refused(plan: BulkPlan, random_pipe: ShowoPipeline) -> None:
    run(plan, random_pipe)
    with pytest.raises(InputError, match="another seed"):
        run(replace(plan, seed=1), random_pipe)
    with pytest.raises(InputError, match="another prompts_per_pack"):
        run(replace(plan, prompts_per_pack=4), random_pipe)


def start(processes: int, model: Path, prompts: Path, out: Path) -> list[subprocess.Popen]:
    command = [
        sys.executable,
        "-m",
        "showo_turbo",
        "generate",
        "--prompts-file",
        str(prompts),
        "--format",
        "webdataset",
    ]
    command += ["--model", str(model), "-o", str(out), "--device", "cpu", "--pack-size", "7", "--batch-size", "3"]
    started = []
    for index in range(processes):
        ranks = {"RANK": index, "WORLD_SIZE": processes, "LOCAL_RANK": index, "OMP_NUM_THREADS": 1, "PYTHONPATH": SRC}
        environment = os.environ | {name: str(value) for name, value in ranks.items()}
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    return started


@pytest.mark.slow
def test_killed_runs_resume_with_another_number_of_processes(tmp_path: Path, random_checkpoint: Path) -> None:
    prompts, out, rng = write_prompts(tmp_path / "prompts.jsonl", 100), tmp_path / "out", random.Random(0)
    for processes in (2, 1):
        running = start(processes, random_checkpoint, prompts, out)
        seen, deadline = len(list(out.rglob("*"))), time.monotonic() + 120
        while abs(len(list(out.rglob("*"))) - seen) < rng.randrange(5, 20) and time.monotonic() < deadline:
            time.sleep(rng.uniform(0.01, 0.05))
        for process in running:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    assert len(list(out.glob("*.tar"))) < 15, "the runs were killed too late to test anything"
    for process in start(2, random_checkpoint, prompts, out):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    for process in start(1, random_checkpoint, prompts, tmp_path / "whole"):
        process.communicate(timeout=300)
    assert packs(out) == packs(tmp_path / "whole")
    assert len(packs(out)) == 15


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "zip"], "format is 'zip': choose files, webdataset, parquet"),
        (["--format", "files"], "--format needs --prompts-file FILE and -o FOLDER"),
        (["--format", "files", "--prompts-file", "p.jsonl", "a red circle", "-o", "out"], "leave prompts out"),
        (["--format", "files", "--prompts-file", "p.jsonl", "-o", "out", "--width", "64"], "leave width out"),
        (["--format", "files", "--prompts-file", "p.jsonl", "-o", "out", "--skip-existing"], "leave skip-existing out"),
        (["--format", "files", "--prompts-file", "p.jsonl", "-o", "out"], "p.jsonl', line 2: prompt is missing"),
        (["--format", "files", "--prompts-file", "missing.txt", "-o", "out"], "'missing.txt' cannot be read"),
        (["--format", "files", "--prompts-file", "long.txt", "-o", "out"], "long.txt', line 3: prompt is too long"),
        (["--format", "files", "--prompts-file", "long.txt", "-o", "long.txt"], "output 'long.txt' is a file"),
        (["--format", "files", "--prompts-file", "long.txt", "-o", "out", "--pack-size", "0"], "pack-size is 0"),
    ],
)
def test_bad_input_is_one_line_and_status_2(options: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"text": "b"}\n')
    (tmp_path / "long.txt").write_text("a red circle\n\n" + "a red circle and " * 100 + "\n")
    command = [sys.executable, "-m", "showo_turbo", "generate", *options]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": SRC}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert words in line
