"""The driver: nothing twice, nothing missing, whatever the number of processes and wherever a run is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from official_data import MAKERS, prompts

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.definition import DataPaths
from showo_turbo.evaluation.benchmarks.registry import BENCHMARKS
from showo_turbo.evaluation.item_store import ItemStore, Process
from showo_turbo.evaluation.items import Item
from showo_turbo.evaluation.run import RunPlan, check_texts, generate, is_complete, score_outputs
from showo_turbo.generation.options import DecodingOptions
from showo_turbo.pipelines.pipeline import ShowoPipeline

SRC = str(Path(__file__).parents[2] / "src")


def make_plan(kind: str, folder: Path, pipe: ShowoPipeline, **changes: object) -> RunPlan:
    name, make = MAKERS[kind]
    data = BENCHMARKS[name].read(DataPaths(**make(folder / "data")))
    values: dict = {
        "benchmark": BENCHMARKS[name],
        "data": data,
        "folder": folder / "out",
        "sampling": pipe.recommended.override(num_inference_steps=2),
        "decoding": DecodingOptions(max_new_tokens=4),
        "seed": 0,
        "images_per_prompt": 2,
        "suffix": "",
        "shorten": False,
        "batch_size": 4,
        "model": "random",
    }
    return RunPlan(**values | changes)


def run(plan: RunPlan, pipe: ShowoPipeline, process: Process = Process()) -> bool:  # noqa: B008
    plan.folder.mkdir(parents=True, exist_ok=True)
    items, _ = check_texts(pipe, plan)
    return generate(pipe, plan, items, plan.settings(pipe, {}), process)


def outputs(folder: Path) -> dict[str, bytes]:
    """Return the content of all files but the settings and logs of a run, whose times differ."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    own = ("items-", "settings.json", "stamp.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if not path.name.startswith(own)}


@pytest.mark.parametrize("kind", ["geneval", "dpg-bench", "image-reward", "pope", "mmmu", "vqav2"])
def test_outputs_depend_neither_on_the_batch_nor_on_the_processes(
    kind: str, tmp_path: Path, random_pipe: ShowoPipeline
) -> None:
    assert run(make_plan(kind, tmp_path / "one", random_pipe, batch_size=1), random_pipe)
    plan = make_plan(kind, tmp_path / "three", random_pipe, batch_size=5)
    reports = [run(plan, random_pipe, Process(index, 3)) for index in (2, 0, 1)]
    assert reports == [False, False, True]
    assert outputs(tmp_path / "one" / "out") == outputs(tmp_path / "three" / "out")


def test_images_of_a_prompt_are_the_first_of_more(tmp_path: Path, random_pipe: ShowoPipeline) -> None:
    for count in (1, 3):
        run(make_plan("geneval", tmp_path / str(count), random_pipe, images_per_prompt=count), random_pipe)
    few, many = (outputs(tmp_path / count / "out") for count in ("1", "3"))
    assert few.items() <= many.items()
    assert len(set(many.values())) == len(many)


def test_a_complete_folder_is_not_drawn_again(tmp_path: Path, random_pipe: ShowoPipeline) -> None:
    plan = make_plan("geneval", tmp_path, random_pipe)
    assert run(plan, random_pipe)
    times = {path: path.stat().st_mtime_ns for path in plan.folder.rglob("*")}
    assert run(plan, random_pipe)  # reports again
    assert {
        path: path.stat().st_mtime_ns for path in plan.folder.rglob("*") if path.name != ".finish.lock"
    }.items() <= (times.items())


def test_a_lost_image_is_drawn_again(tmp_path: Path, random_pipe: ShowoPipeline) -> None:
    plan = make_plan("geneval", tmp_path, random_pipe)
    run(plan, random_pipe)
    before = outputs(plan.folder)
    (plan.folder / "00002" / "samples" / "0001.png").unlink()
    assert run(plan, random_pipe)
    assert outputs(plan.folder) == before


def test_other_settings_are_refused_by_name(tmp_path: Path, random_pipe: ShowoPipeline) -> None:
    plan = make_plan("geneval", tmp_path, random_pipe)
    run(plan, random_pipe)
    for changes, key in (({"seed": 1}, "seed"), ({"images_per_prompt": 3}, "images_per_prompt")):
        with pytest.raises(InputError, match=f"has another {key}"):
            run(replace(plan, **changes), random_pipe)
    other = prompts(tmp_path / "other")
    with pytest.raises(InputError, match="another data_sha256"):
        score_outputs(plan.benchmark, BENCHMARKS["fid"].read(DataPaths(**other)), plan.folder, None)


def test_a_cut_line_is_done_again_and_a_damaged_one_is_named(tmp_path: Path, random_pipe: ShowoPipeline) -> None:
    plan = make_plan("pope", tmp_path, random_pipe)
    run(plan, random_pipe)
    before, log = outputs(plan.folder), plan.folder / "items-0000.jsonl"
    content = log.read_bytes()
    log.write_bytes(content[:-20])
    assert run(plan, random_pipe)
    assert outputs(plan.folder) == before
    log.write_bytes(content.replace(b'{"id"', b'{"i', 1))
    with pytest.raises(InputError, match=r"items-0000\.jsonl', line 2 is damaged"):
        run(plan, random_pipe)


def test_an_image_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, random_pipe: ShowoPipeline) -> None:
    plan = make_plan("pope", tmp_path, random_pipe)
    (tmp_path / "data" / "val2014" / "COCO_val2014_000000000001.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"coco_pope_adversarial\.json', line 4: image .* cannot be read"):
        run(plan, random_pipe)


def test_long_texts_are_refused_with_their_line_or_cut(tmp_path: Path, random_pipe: ShowoPipeline) -> None:
    data = tmp_path / "prompts.txt"
    data.write_text("a red circle\n" + "a very long text " * 40 + "\n")
    fid = BENCHMARKS["fid"]
    plan = make_plan("fid", tmp_path, random_pipe, data=fid.read(DataPaths(data)))
    with pytest.raises(InputError, match=r"prompts\.txt', line 2: prompt is too long"):
        check_texts(random_pipe, plan)
    try:
        assert check_texts(random_pipe, make_plan("fid", tmp_path, random_pipe, data=plan.data, shorten=True))[1] == 1
    finally:
        random_pipe.prompts.truncates_prompts = False
    question = make_plan("pope", tmp_path, random_pipe, suffix="x" * 1100)
    with pytest.raises(InputError, match=r"line 1: question has \d+ characters"):
        check_texts(random_pipe, question)


def test_questions_about_an_image_stay_in_one_process() -> None:
    items = [Item(str(number), "?", "here", image=Path(f"{number // 3}.png")) for number in range(14)]
    parts = [Process(index, 3).select(items) for index in range(3)]
    assert sorted((item.id for part in parts for item in part), key=int) == [item.id for item in items]
    images = [{item.image for item in part} for part in parts]
    assert not images[0] & images[1]
    assert not images[1] & images[2]
    assert not images[0] & images[2]


@pytest.mark.parametrize(
    ("rank", "size", "words"), [("x", "1", "RANK is 'x'"), ("2", "2", "RANK is 2 of WORLD_SIZE 2"), ("-1", "2", "RANK")]
)
def test_a_launcher_with_odd_numbers(rank: str, size: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(InputError, match=words):
        Process.from_environment()


def start(processes: int, model: Path, data: Path, out: Path) -> list[subprocess.Popen]:
    """Start the processes of a run as a launcher does."""
    command = [sys.executable, "-m", "showo_turbo", "evaluate", "fid", "--model", str(model), "--data", str(data)]
    command += ["-o", str(out), "--only", "generate", "--device", "cpu", "--batch-size", "3"]
    started = []
    for index in range(processes):
        ranks = {"RANK": index, "WORLD_SIZE": processes, "LOCAL_RANK": index, "OMP_NUM_THREADS": 1, "PYTHONPATH": SRC}
        environment = os.environ | {name: str(value) for name, value in ranks.items()}
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    return started


def item_lines(out: Path) -> list[str]:
    return [
        json.loads(line)["id"]
        for path in out.glob("items-*.jsonl")
        for line in path.read_bytes().split(b"\n")[:-1]
        if line.startswith(b'{"id"')
    ]


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(1, 2, 1), (2, 1, 3)])
def test_killed_runs_resume_with_another_number_of_processes(
    numbers: tuple[int, ...], tmp_path: Path, random_checkpoint: Path
) -> None:
    data = tmp_path / "prompts.txt"
    data.write_text("".join(f"a red circle {number}\n" for number in range(150)))
    rng, out = random.Random(str(numbers)), tmp_path / "out"
    for processes in numbers:
        seen = len(item_lines(out))
        running = start(processes, random_checkpoint, data, out)
        deadline = time.monotonic() + 120
        while len(item_lines(out)) < seen + rng.randrange(3, 30) and time.monotonic() < deadline:
            time.sleep(rng.uniform(0.01, 0.05))
        for process in running:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert seen < len(item_lines(out))
    assert len(item_lines(out)) < 150, "the runs were killed too late to test anything"
    for process in start(2, random_checkpoint, data, out):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    lines = item_lines(out)
    assert len(lines) == 150
    assert set(Counter(lines).values()) == {1}
    assert is_complete(out)
    assert not list(out.rglob("*.partial"))
    assert set(ItemStore(out).results()) == set(lines)

    whole = tmp_path / "whole"
    for process in start(1, random_checkpoint, data, whole):
        assert process.communicate(timeout=300)
        assert process.returncode == 0
    assert outputs(out) == outputs(whole)
