"""Images encoded once: the codes that a training computes, by any number of processes, and after any kill."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from showo_turbo.checkpoints.loading import locate
from showo_turbo.cli.main import app
from showo_turbo.data import CaptionSample, DialogueSample, SourceConfig
from showo_turbo.data.source_arguments import read_sources
from showo_turbo.data.sources.encoded import EncodedSource
from showo_turbo.errors import InputError
from showo_turbo.finetuning.finetune import finetune
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.image_encoding import EncodingPlan, encode_sources, load_encoder
from showo_turbo.training.loop import LoopConfig

COUNT = 11


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven images with captions and dialogues, two of them unusable."""
    folder = tmp_path_factory.mktemp("photos")
    rng = random.Random(0)
    lines, entries = [], []
    for number in range(COUNT):
        pixels = bytes(rng.randrange(256) for _ in range(40 * 56 * 3))
        Image.frombytes("RGB", (40, 56), pixels).save(folder / f"{number}.png")
        lines.append({"image": f"{number}.png", "caption": f"a red car {number}"})
        says = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": f"a car {number}"}]
        entries.append({"id": number, "image": f"{number}.png", "conversations": says})
    lines[3]["image"] = "missing.png"
    del lines[7]["image"]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "dialogues.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture
def plan(tmp_path: Path, photos: Path, random_checkpoint: Path) -> EncodingPlan:
    sources = {
        CaptionSample: [SourceConfig("image_folder", str(photos / "captions.jsonl"))],
        DialogueSample: [SourceConfig("llava", str(photos / "dialogues.json"))],
    }
    encoder, resolution = load_encoder(locate(random_checkpoint), "random")
    return EncodingPlan(sources, tmp_path / "shards", encoder, resolution, 4, 3, 2)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.safetensors"))}


def test_samples_are_those_of_the_source_with_the_codes_of_the_pipeline(
    plan: EncodingPlan, photos: Path, random_checkpoint: Path
) -> None:
    assert encode_sources(plan) == {"captions": 3, "dialogues": 3}
    pipe = ShowoPipeline.from_pretrained(random_checkpoint)
    captions, dialogues = (EncodedSource(kind, plan.folder) for kind in ("captions", "dialogues"))
    kept = [number for number in range(COUNT) if number not in (3, 7)]
    assert [sample.text for sample in captions] == [f"a red car {number}" for number in kept]
    assert captions[0].key == "captions.jsonl: line 1"
    assert [sample.turns[0].answer for sample in dialogues] == [f"a car {number}" for number in range(COUNT)]
    for number, sample in [*zip(kept, captions, strict=True), *enumerate(dialogues)]:
        assert torch.equal(sample.image, pipe.encode_image(photos / f"{number}.png")[0])
    bad = [one for shard in captions.shards for one in shard.header.bad]
    assert [key for key, _ in bad] == ["captions.jsonl: line 4", "captions.jsonl: line 8"]
    assert "does not exist" in bad[0][1]
    assert "no image" in bad[1][1]


def test_shards_do_not_depend_on_processes_or_where_a_run_stopped(plan: EncodingPlan, tmp_path: Path) -> None:
    encode_sources(plan)
    three = replace(plan, folder=tmp_path / "three")
    assert [encode_sources(three, index, 3) is not None for index in (1, 2, 0)] == [False, False, True]
    assert content(three.folder) == content(plan.folder)

    stopped = replace(plan, folder=tmp_path / "stopped")
    for limit in (2, 6, 5, 9):

        def stop(done: int, total: int, limit: int = limit) -> None:
            if done >= limit:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            encode_sources(stopped, on_item=stop)
    assert 0 < len(content(stopped.folder)) < 6
    seen: list[int] = []
    assert encode_sources(stopped, 0, 1, lambda done, total: seen.append(done)) is not None
    assert seen[0] > 4  # the finished shards are not read again
    assert content(stopped.folder) == content(plan.folder)


def test_partial_files_of_killed_processes_are_removed(plan: EncodingPlan) -> None:
    plan.folder.mkdir()
    partial = plan.folder / ".captions-00001.safetensors.4194000.partial"
    partial.write_bytes(b"half a shard")
    assert encode_sources(plan, 0, 2) is None
    assert partial.exists()  # perhaps another process of this run writes it
    assert encode_sources(plan, 1, 2) is not None
    assert not partial.exists()


def test_other_settings_do_not_resume_a_folder(plan: EncodingPlan, photos: Path) -> None:
    encode_sources(plan)
    fewer = {CaptionSample: plan.sources[CaptionSample]}
    for changes, name in (
        ({"shard_size": 5}, "shard_size"),
        ({"resolution": 16}, "resolution"),
        ({"sources": fewer}, "s"),
    ):
        with pytest.raises(InputError, match=f"another {name}"):
            encode_sources(replace(plan, **changes))


def test_codes_are_not_encoded_again(plan: EncodingPlan, tmp_path: Path) -> None:
    encode_sources(plan)
    again = {CaptionSample: [SourceConfig("encoded_captions", str(plan.folder))]}
    with pytest.raises(InputError, match="holds codes already"):
        encode_sources(replace(plan, folder=tmp_path / "again", sources=again))


def fine_tuning(model: Path, output: Path, captions: SourceConfig, dialogues: SourceConfig) -> FinetuningConfig:
    loop = LoopConfig(steps=3, warmup_steps=1, threads=1)
    return FinetuningConfig(
        str(model), str(output), captions=[captions], dialogues=[dialogues], captions_batch_size=4,
        dialogues_batch_size=2, loop=loop, num_workers=0,
    )  # fmt: skip


def test_training_on_shards_is_training_on_the_images(
    plan: EncodingPlan, photos: Path, tmp_path: Path, random_checkpoint: Path
) -> None:
    lines = (photos / "captions.jsonl").read_text().splitlines()
    good = photos / "usable.jsonl"
    good.write_text("\n".join(line for number, line in enumerate(lines) if number not in (3, 7)))
    captions = SourceConfig("image_folder", str(good), name="captions")
    dialogues = SourceConfig("llava", str(photos / "dialogues.json"), name="dialogues")
    encode_sources(replace(plan, sources={CaptionSample: [captions], DialogueSample: [dialogues]}))
    encoded = [SourceConfig(f"encoded_{kind}", str(plan.folder), name=kind) for kind in ("captions", "dialogues")]
    by_images = finetune(fine_tuning(random_checkpoint, tmp_path / "images", captions, dialogues))
    by_codes = finetune(fine_tuning(random_checkpoint, tmp_path / "codes", *encoded))
    assert (by_images / "model.safetensors").read_bytes() == (by_codes / "model.safetensors").read_bytes()


def test_a_training_refuses_codes_of_another_image_tokenizer_or_size(plan: EncodingPlan, tmp_path: Path) -> None:
    encode_sources(plan)
    encoded = [SourceConfig(f"encoded_{kind}", str(plan.folder), name=kind) for kind in ("captions", "dialogues")]
    with pytest.raises(
        InputError, match=r"source 'captions' holds (images of \d+ codes|codes of another image tokenizer)"
    ):
        finetune(fine_tuning(Path("tiny"), tmp_path / "run", *encoded))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos"], "is not of the form KIND:PATH"),
        (["image_folder:"], "is not of the form KIND:PATH"),
        (["image_folder:a.jsonl,images"], "is not of the form KIND:PATH"),
        (["image_foldr:a.jsonl"], "unknown kind 'image_foldr'; the nearest known one is 'image_folder'"),
        (["image_folder:missing.jsonl"], "'missing.jsonl' does not exist"),
        (["image_folder:a.jsonl,imges=b"], "unknown setting 'imges'"),
        (["missing.yaml"], "'missing.yaml' cannot be read"),
        (["webdataset:*.tar"], "no file matches"),
    ],
)
def test_sources_that_cannot_be_read_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(InputError, match=".*" + message.replace("*", r"\*")):
        read_sources(arguments)


def test_a_training_s_own_file_names_the_sources(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"output: runs/mine\nloop: {{steps: 3}}\n"
        f"captions:\n  - {{kind: image_folder, path: {photos}/captions.jsonl, weight: 2, images: {photos}}}\n"
        f"dialogues: [{{kind: llava, path: {photos}/dialogues.json}}]\n"
    )
    found = read_sources([str(file), f"image_folder:{photos}/captions.jsonl,weight=3,name=more"])
    assert read_sources([f"config={file}"]) == read_sources([str(file)])
    assert [one.weight for one in found[CaptionSample]] == [2.0, 3.0]
    assert asdict(found[CaptionSample][0])["images"] == str(photos)
    assert found[DialogueSample][0].kind == "llava"


def test_the_commands(photos: Path, tmp_path: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sources = [f"image_folder:{photos}/captions.jsonl", f"llava:{photos}/dialogues.json"]
    model = ["--model", str(random_checkpoint)]
    run = CliRunner().invoke(app, ["data", "encode", *sources, "-o", "shards", "--shard-size", "6", *model])
    assert run.exit_code == 0, run.output
    assert "captions: [{kind: encoded_captions, path: shards}]" in run.output
    assert len(Path("shards/bad_captions.jsonl").read_text().splitlines()) == 2
    run = CliRunner().invoke(app, ["data", "check", *sources, "encoded_dialogues:shards", "-o", "report", *model])
    assert run.exit_code == 0, run.output
    report = json.loads(Path("report/report.json").read_text())["sources"]
    assert [(one["samples"], one["bad"], one["images"], one["encoded_images"]) for one in report] == [
        (COUNT, 1, COUNT - 2, 0),
        (COUNT, 0, COUNT, 0),
        (COUNT, 0, 0, COUNT),
    ]
    assert report[0]["shorter_side"] == {"smallest": 40, "median": 40, "95 %": 40, "largest": 40}
    assert report[1]["tokens"] == report[2]["tokens"]
    for name in ("lengths.png", "images.png"):
        Image.open(Path("report") / name).verify()
    assert "missing.png" in Path("report/bad_samples.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard-size", "0"], "shard-size is 0"),
        (["--num-workers", "1000"], "num-workers is 1000"),
        (["-o", "captions.jsonl"], "is a file"),
        (["--model", "nothing"], "model 'nothing' is unknown"),
    ],
)
def test_invalid_options_are_one_line(
    photos: Path, options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    command = ["data", "encode", "image_folder:captions.jsonl", "-o", str(tmp_path / "shards"), *options]
    assert message in str(CliRunner().invoke(app, command).exception)
    assert not (tmp_path / "shards").exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_is_killed_at_any_time_is_resumed(
    plan: EncodingPlan, photos: Path, random_checkpoint: Path, tmp_path: Path, processes: int
) -> None:
    encode_sources(plan)
    out, rng = tmp_path / "killed", random.Random(processes)
    sources = [f"image_folder:{photos}/captions.jsonl", f"llava:{photos}/dialogues.json"]
    options = ["-o", str(out), "--model", str(random_checkpoint), "--shard-size", "4", "--batch-size", "3"]
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", "29713", "-m"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen:
        command = [*launcher, "showo_turbo", "data", "encode", *sources, *options]
        return subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True)

    for _ in range(4):
        process = start()
        deadline, before = time.monotonic() + 120, len(content(out))
        while process.poll() is None and len(content(out)) == before and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.02))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert content(out) == content(plan.folder)
