"""Complete distillations of a random model from files: captions, dialogues about images, texts."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hold_lock import another_writer
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from showo_turbo.checkpoints.image_tokenizer import fingerprint, load_image_tokenizer
from showo_turbo.cli.main import app
from showo_turbo.config_reader import read_config
from showo_turbo.data import SourceConfig
from showo_turbo.distillation import consistency_task
from showo_turbo.distillation.config import DistillationConfig, Stage, TrajectoryFiles
from showo_turbo.distillation.loss_terms import DistributionMatching, ImageTerm, LanguageTerm, OnPolicy, TextTerm
from showo_turbo.distillation.stages import distill
from showo_turbo.errors import InputError
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.adapters import LoraConfig
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.optimizers import OptimizerConfig

CAPTIONS = ("a red car", "two dogs in the snow", "a boat", "three birds above a lake", "a tree")
TERMS = {
    "image": ImageTerm(batch_size=2, num_inference_steps=4, segments=2),
    "text": TextTerm(batch_size=2, block_length=4, max_new_tokens=8, segments=2),
    "language": LanguageTerm(batch_size=2, max_length=20),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[SourceConfig]]:
    folder = tmp_path_factory.mktemp("data")
    annotations = [{"id": number, "image_id": number, "caption": text} for number, text in enumerate(CAPTIONS)]
    (folder / "captions.json").write_text(json.dumps({"annotations": annotations}))
    (folder / "images").mkdir()
    for number in range(4):
        Image.new("RGB", (40, 32), (60 * number, 90, 30)).save(folder / "images" / f"{number}.png")
    (folder / "images" / "broken.png").write_bytes(b"not an image")
    Image.new("RGB", (600, 8)).save(folder / "images" / "strip.png")
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A plain colour."}]
    entries = [
        {"id": name, "image": f"{name}.png", "conversations": turns * 2}
        for name in ("0", "1", "broken", "2", "strip", "3")
    ]
    (folder / "dialogues.json").write_text(json.dumps(entries))
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"content": list(CAPTIONS)}), folder / "texts.parquet")
    return {
        "captions": [SourceConfig("coco", str(folder / "captions.json"))],
        "dialogues": [SourceConfig("llava", str(folder / "dialogues.json"), images=str(folder / "images"))],
        "texts": [SourceConfig("parquet", str(folder / "texts.parquet"), column="content")],
    }


def stage(name: str, teacher: str, steps: int = 3, **changes: Any) -> Stage:
    loop = LoopConfig(steps=steps, warmup_steps=1, log_steps=1, threads=1)
    settings = {"loop": loop, "optimizer": OptimizerConfig(lr=1e-3), **TERMS} | changes
    return Stage(name, teacher, **settings)


def distillation(output: str, stages: list[Stage], *models: str, **settings: Any) -> DistillationConfig:
    """Configure a distillation that reads its samples in this process, which is faster for a few batches."""
    return DistillationConfig(output, stages, *models, **({"num_workers": 0} | settings))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_each_stage_starts_from_the_stage_before(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    shorter = replace(TERMS["image"], segments=1, guidance_scale=0.0)
    stages = [stage("star", str(random_checkpoint)), stage("turbo", "previous", image=shorter)]
    student = distill(distillation(str(tmp_path), stages, **sources))
    assert student == tmp_path / "turbo" / "model"
    teacher, star, turbo = map(weights, (random_checkpoint, tmp_path / "star" / "model", student))
    assert not same(teacher, star)
    assert not same(star, turbo)
    lines = [json.loads(line) for line in (tmp_path / "star" / "log.jsonl").read_text().splitlines()]
    assert {"image", "text", "autoregressive", "language"} <= set(lines[0])
    pipe = ShowoPipeline.from_pretrained(student)
    assert pipe.recommended.num_inference_steps == 4
    assert pipe.text_to_image("a red car", seed=0).forward_passes == 4


def test_data_that_is_edited_before_a_resume_is_reported(
    tmp_path: Path,
    random_checkpoint: Path,
    sources: dict[str, list[SourceConfig]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    captions = Path(shutil.copy(sources["captions"][0].path, tmp_path / "captions.json"))
    own = sources | {"captions": [SourceConfig("coco", str(captions))]}
    terms = {name: replace(TERMS[name], weight=0.0) for name in ("text", "language")}
    for steps in (1, 2, 3):
        if steps == 3:
            captions.write_text(captions.read_text().replace("a boat", "a ship"))
        caplog.clear()
        star = stage("star", str(random_checkpoint), steps, **terms)
        distill(distillation(str(tmp_path / "out"), [star], **own))
        reported = [message for message in caplog.messages if f"'coco {captions}' has changed since" in message]
        assert len(reported) == (steps == 3)


def test_a_student_may_start_from_another_model_than_its_teacher(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    still = LoopConfig(steps=1, warmup_steps=1, log_steps=1, threads=1, ema_decay=0.0)  # the first step's rate is 0
    stages = [stage("star", "original"), stage("on", "original", student="previous", loop=still)]
    distill(distillation(str(tmp_path), stages, str(random_checkpoint), **sources))
    star = tmp_path / "star" / "model"
    assert same(weights(star), weights(tmp_path / "on" / "model"))
    assert not same(weights(random_checkpoint), weights(tmp_path / "on" / "model"))
    again = distillation(str(tmp_path / "again"), stages[1:], str(random_checkpoint), str(star), **sources)
    assert same(weights(star), weights(distill(again)))


def test_a_student_may_start_from_a_mean_with_its_teacher(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    still = LoopConfig(steps=1, warmup_steps=1, log_steps=1, threads=1, ema_decay=0.0)  # the first step's rate is 0
    stages = [stage("star", "original"), stage("on", "original", student="previous", teacher_share=0.25, loop=still)]
    student = distill(distillation(str(tmp_path), stages, str(random_checkpoint), **sources))
    teacher, star, mean = map(weights, (random_checkpoint, tmp_path / "star" / "model", student))
    for name, weight in mean.items():
        expected = torch.lerp(star[name].float(), teacher[name].float(), 0.25)
        torch.testing.assert_close(weight, expected.half())


def test_a_student_keeps_the_latents_that_a_stage_gave_it(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    rollouts = replace(TERMS["image"], on_policy=OnPolicy(prompts=4))
    stages = [
        stage("star", "original", num_latents=3),
        stage("turbo", "original", student="previous", image=rollouts),
        stage("mean", "original", student="previous", teacher_share=0.5),
    ]
    with pytest.raises(InputError, match="'previous' has 3 latents and its teacher 1"):
        distill(distillation(str(tmp_path), stages, str(random_checkpoint), **sources))
    star, turbo = (tmp_path / name / "model" for name in ("star", "turbo"))
    for folder in (star, turbo):
        assert json.loads((folder / "config.json").read_text())["num_latents"] == 3
    before, after = (weights(folder)["showo.model.embed_tokens.weight"] for folder in (star, turbo))
    openings = list(ShowoPipeline.from_pretrained(turbo).prompts.vocabulary.opening_ids[:3])
    assert not before[openings].equal(after[openings])


def test_texts_may_have_another_teacher_than_images(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    files = [TrajectoryFiles(count=2, folder=str(tmp_path / name)) for name in ("first", "second")]
    answers = replace(TERMS["text"], teacher="original")
    first = stage("first", "original", trajectories=files[0])
    second = stage("second", "previous", text=answers, trajectories=files[1])
    distill(distillation(str(tmp_path), [first, second], str(random_checkpoint), **sources))
    texts, images = (
        [load_file(tmp_path / folder / f"{kind}-00000.safetensors") for folder in ("first", "second")]
        for kind in ("text", "image")
    )
    assert same(*texts)
    assert not same(*images)
    own = replace(second, name="third", student="original", text=TERMS["text"])
    with pytest.raises(InputError, match="another text_teacher"):
        distill(distillation(str(tmp_path), [first, own], str(random_checkpoint), **sources))
    foreign = replace(second, name="fourth", teacher="original", text=replace(answers, teacher="tiny"))
    with pytest.raises(InputError, match=r"'tiny' has .*, its stage's teacher"):
        distill(distillation(str(tmp_path), [foreign], str(random_checkpoint), **sources))


def test_unreadable_samples_are_logged(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    distill(distillation(str(tmp_path), [stage("star", str(random_checkpoint))], **sources))
    bad = [json.loads(line) for line in (tmp_path / "star" / "bad_dialogues_0.jsonl").read_text().splitlines()]
    assert sorted(one["index"] for one in bad) == [2, 4]


def test_a_student_starts_with_its_float32_weights(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    """The precision of the teacher does not matter; the learning rate of the first step is 0."""
    still = LoopConfig(steps=1, warmup_steps=1, log_steps=1, threads=1, ema_decay=0.0)
    stages = [stage("star", str(random_checkpoint), loop=still)]
    after = weights(distill(distillation(str(tmp_path), stages, **sources, dtype="bfloat16")))
    before = weights(random_checkpoint)
    assert all(after[name].equal(value.half()) for name, value in before.items())


def test_the_samples_of_a_nan_loss_are_logged(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter((1.0, torch.nan, 1.0))
    monkeypatch.setattr(consistency_task, "language_modelling", lambda *_: torch.tensor(next(losses)))
    distill(distillation(str(tmp_path), [stage("star", str(random_checkpoint))], **sources))
    skipped = [json.loads(line) for line in (tmp_path / "star" / "skipped.jsonl").read_text().splitlines()]
    image, answer, text = (skipped[0]["samples"][position] for position in (0, TERMS["image"].batch_size, -1))
    assert image in CAPTIONS
    assert "What is it? ASSISTANT:" in answer
    assert text in CAPTIONS


@pytest.mark.parametrize(
    "changes",
    [
        {"trajectories": TrajectoryFiles()},
        {"trajectories": TrajectoryFiles(count=2)},
        {"image": replace(TERMS["image"], stride=2, on_policy=OnPolicy(prompts=4, batches=3))},
        {"image": replace(TERMS["image"], stride=2, on_policy=OnPolicy(prompts=4, batches=3, share=0.5))},
        {"image": replace(TERMS["image"], distribution_matching=DistributionMatching(0.5, [1, 3]))},
    ],
    ids=["fresh", "stored", "on policy", "partly on policy", "distribution matching"],
)
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]], changes: dict
) -> None:
    def run(folder: str, steps: int) -> dict[str, torch.Tensor]:
        one = stage("star", str(random_checkpoint), steps, **changes)
        one = replace(one, loop=replace(one.loop, decay_share=0.0))
        return weights(distill(distillation(str(tmp_path / folder), [one], **sources)))

    whole = run("whole", 4)
    run("parts", 2)
    assert same(whole, run("parts", 4))


@pytest.mark.parametrize("files", [TrajectoryFiles(), TrajectoryFiles(count=2)], ids=["fresh", "stored"])
def test_a_run_resumed_with_worker_processes_has_the_weights_of_one_without(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]], files: TrajectoryFiles
) -> None:
    """Samples read ahead in workers are the same, and so is the log of bad samples; `num_workers` may change."""
    image = replace(TERMS["image"], stride=2, on_policy=OnPolicy(prompts=4, batches=3, share=0.5))

    def run(folder: str, steps: int, num_workers: int) -> dict[str, torch.Tensor]:
        one = stage("star", str(random_checkpoint), steps, image=image, trajectories=files)
        one = replace(one, loop=replace(one.loop, decay_share=0.0))
        return weights(distill(distillation(str(tmp_path / folder), [one], **sources, num_workers=num_workers)))

    whole = run("whole", 5, num_workers=0)
    run("parts", 2, num_workers=2)
    assert same(whole, run("parts", 5, num_workers=2))
    logs = [sorted((tmp_path / folder / "star").glob("bad_*.jsonl")) for folder in ("whole", "parts")]
    assert [log.name for log in logs[0]] == [log.name for log in logs[1]]
    assert [log.read_text() for log in logs[0]] == [log.read_text() for log in logs[1]]


def test_stored_trajectories_serve_fewer_segments_and_no_other_settings(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    files = TrajectoryFiles(count=2, folder=str(tmp_path / "files"))
    first = stage("first", str(random_checkpoint), trajectories=files)
    distill(distillation(str(tmp_path), [first], **sources))
    files_written = sorted(path.name for path in (tmp_path / "files").iterdir())
    assert files_written == ["image-00000.safetensors", "setting.json", "text-00000.safetensors"]
    fewer = replace(first.image, segments=1, distribution_matching=DistributionMatching(0.5, [1]))
    distill(distillation(str(tmp_path), [replace(first, name="fewer", image=fewer)], **sources))
    more_segments = replace(first, name="more", image=replace(first.image, segments=4))
    with pytest.raises(InputError, match="another ends"):
        distill(distillation(str(tmp_path), [more_segments], **sources))
    own = replace(first, name="own", trajectories=TrajectoryFiles(count=2))
    distill(distillation(str(tmp_path), [own], **sources))
    heavier = sources | {"captions": [replace(sources["captions"][0], weight=2.0)]}
    with pytest.raises(InputError, match="another captions"):
        distill(distillation(str(tmp_path), [own], **heavier))
    named = replace(first, name="named", trajectories=TrajectoryFiles(2, folder=str(tmp_path / "own" / "trajectories")))
    distill(distillation(str(tmp_path), [named], **sources))
    guided = replace(first, name="guided", image=replace(first.image, guidance_scale=3.0))
    with pytest.raises(InputError, match="another image"):
        distill(distillation(str(tmp_path), [guided], **sources))


@pytest.mark.parametrize("optimizer", [OptimizerConfig(lr=1e-3), OptimizerConfig("muon", muon_lr=1e-3)])
def test_adapters_change_only_their_layers_and_are_merged(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]], optimizer: OptimizerConfig
) -> None:
    adapters = LoraConfig(rank=2, targets=["q_proj", "fc1"])
    one = stage("lora", str(random_checkpoint), lora=adapters, optimizer=optimizer)
    after = weights(distill(distillation(str(tmp_path), [one], **sources)))
    before = weights(random_checkpoint)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name].half(), after[name])}
    assert changed
    assert all(".q_proj.weight" in name or ".fc1.weight" in name for name in changed)


def test_adapters_depend_on_the_seed(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    def student(name: str, seed: int) -> dict[str, torch.Tensor]:
        one = stage("lora", str(random_checkpoint), lora=LoraConfig(rank=2, targets=["q_proj"]))
        return weights(distill(distillation(str(tmp_path / name), [one], **sources, seed=seed)))

    first = student("first", seed=1)
    assert same(first, student("again", seed=1))
    assert not same(first, student("other", seed=2))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"optimizer": OptimizerConfig("muon", lr=1e-3)}, "optimizer.name"),
        ({"optimizer": OptimizerConfig(lr=2e-3)}, "optimizer.lr"),
        ({"lora": LoraConfig(rank=2)}, "lora.rank"),
        ({"loop": LoopConfig(steps=1, ema_decay=0.0)}, "loop.warmup_steps"),
        ({"image": replace(TERMS["image"], guidance_scale=2.0)}, "image.guidance_scale"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(
    tmp_path: Path,
    random_checkpoint: Path,
    sources: dict[str, list[SourceConfig]],
    changes: dict[str, Any],
    named: str,
) -> None:
    first = stage("star", str(random_checkpoint), steps=1)
    distill(distillation(str(tmp_path), [first], **sources))
    with pytest.raises(InputError, match=f"a student in .*star.* has another {named} "):
        distill(distillation(str(tmp_path), [replace(first, **changes)], **sources))
    longer = replace(first, loop=replace(first.loop, steps=2, log_steps=2), gradient_checkpointing=True)
    distill(distillation(str(tmp_path), [longer], **sources))


def test_a_run_that_failed_before_its_first_checkpoint_may_change_its_settings(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    wrong = stage("star", str(random_checkpoint), steps=1, lora=LoraConfig(rank=2, targets=["nope"]))
    with pytest.raises(InputError, match=r"lora\.targets"):
        distill(distillation(str(tmp_path), [wrong], **sources))
    assert distill(distillation(str(tmp_path), [replace(wrong, lora=LoraConfig(rank=2))], **sources)).is_dir()


def test_one_run_at_a_time_writes_a_folder(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    stages = [stage("star", str(random_checkpoint)), stage("turbo", "previous")]
    with another_writer(tmp_path / "turbo"), pytest.raises(InputError, match="turbo' is being written by process"):
        distill(distillation(str(tmp_path), stages, **sources))
    assert not (tmp_path / "star" / "run.json").exists()


def test_one_run_at_a_time_writes_trajectories_and_many_read_them(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    files = TrajectoryFiles(count=2, folder=str(tmp_path / "files"))
    config = distillation(str(tmp_path), [stage("star", str(random_checkpoint), trajectories=files)], **sources)
    with another_writer(tmp_path / "files"), pytest.raises(InputError, match="files' is being written by process"):
        distill(config)
    distill(config)
    with another_writer(tmp_path / "files"):
        distill(replace(config, output=str(tmp_path / "second")))


def test_a_stage_that_a_later_stage_was_trained_from_is_not_extended(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    star, turbo = stage("star", str(random_checkpoint), steps=1), stage("turbo", "previous", steps=1)
    distill(distillation(str(tmp_path), [star, turbo], **sources))
    before = weights(tmp_path / "star" / "model")
    longer = replace(star, loop=replace(star.loop, steps=2))
    with pytest.raises(
        InputError, match=r"'star' would be extended to 2 steps, but 'turbo' was trained from it at step 1"
    ):
        distill(distillation(str(tmp_path), [longer, turbo], **sources))
    assert same(before, weights(tmp_path / "star" / "model"))
    shutil.rmtree(tmp_path / "turbo")
    distill(distillation(str(tmp_path), [longer, turbo], **sources))


def test_a_run_without_a_manifest_is_resumed_with_a_warning(
    tmp_path: Path,
    random_checkpoint: Path,
    sources: dict[str, list[SourceConfig]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = distillation(str(tmp_path), [stage("star", str(random_checkpoint), steps=1)], **sources)
    distill(config)
    assert not caplog.records
    (tmp_path / "star" / "run.json").unlink()
    distill(config)
    assert "lacks run.json: a student in it is assumed to have the current settings" in caplog.text
    assert (tmp_path / "star" / "run.json").exists()


def test_the_seed_of_the_distillation_overrides_those_of_its_stages(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    def student(name: str, seed: int | None, own: int) -> dict[str, torch.Tensor]:
        loop = LoopConfig(steps=2, warmup_steps=0, log_steps=1, threads=1, seed=own)
        stages = [stage("star", str(random_checkpoint), loop=loop)]
        return weights(distill(distillation(str(tmp_path / name), stages, **sources, seed=seed)))

    assert same(student("for all", seed=3, own=0), student("its own", seed=None, own=3))
    assert not same(student("for all", seed=3, own=0), student("another", seed=4, own=0))


def test_the_ema_may_be_the_target_model(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    """It changes the student from the second step on; gradient checkpointing changes nothing."""

    def student(name: str, **changes: Any) -> dict[str, torch.Tensor]:
        stages = [stage("star", str(random_checkpoint), image=replace(TERMS["image"], self_weight=1.0), **changes)]
        return weights(distill(distillation(str(tmp_path / name), stages, **sources)))

    own = student("own")
    assert same(own, student("checkpointed", gradient_checkpointing=True))
    assert not same(own, student("average", average_target=True))


def test_a_pool_of_another_image_tokenizer_is_refused(tmp_path: Path, random_checkpoint: Path) -> None:
    """The teacher would decode its codes to other images."""
    pool = tmp_path / "pool.safetensors"
    result = CliRunner().invoke(app, ["pretrain", "scene-pool", "image_tokenizer=tiny", "count=4", f"output={pool}"])
    assert result.exit_code == 0, result.output
    dialogues = [SourceConfig("scene_dialogues", str(pool))]
    answers = stage("star", "tiny", steps=1, image=ImageTerm(weight=0.0), language=LanguageTerm(weight=0.0))
    with pytest.raises(InputError, match=r"scene_dialogues .* holds codes of another image tokenizer"):
        distill(distillation(str(tmp_path), [replace(answers, teacher=str(random_checkpoint))], dialogues=dialogues))
    assert distill(distillation(str(tmp_path), [answers], dialogues=dialogues)).is_dir()


def test_students_of_images_that_were_encoded_once_are_those_of_the_images(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    folder = Path(sources["dialogues"][0].images)
    names = [f"{number}.png" for number in range(4)]
    lines = [json.dumps({"image": name, "caption": text}) for name, text in zip(names, CAPTIONS, strict=False)]
    entries = [one for one in json.loads(Path(sources["dialogues"][0].path).read_text()) if one["image"] in names]
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    (tmp_path / "dialogues.json").write_text(json.dumps(entries))
    images = {"images": str(folder)}
    by_images = {
        "captions": [SourceConfig("image_folder", str(tmp_path / "captions.jsonl"), name="a", **images)],
        "dialogues": [SourceConfig("llava", str(tmp_path / "dialogues.json"), name="a", **images)],
    }
    command = ["data", "encode", "-o", str(tmp_path / "shards"), "--model", str(random_checkpoint)]
    command += [f"{one.kind}:{one.path},images={folder}" for some in by_images.values() for one in some]
    assert CliRunner().invoke(app, command).exit_code == 0
    by_codes = {kind: [SourceConfig(f"encoded_{kind}", str(tmp_path / "shards"), name="a")] for kind in by_images}
    star = stage(
        "star",
        str(random_checkpoint),
        image=replace(TERMS["image"], known_share=0.5),
        language=LanguageTerm(weight=0.0),
    )
    one, other = (
        distill(distillation(str(tmp_path / name), [star], **own)) for name, own in (("i", by_images), ("c", by_codes))
    )
    assert same(weights(one), weights(other))
    with pytest.raises(InputError, match=r"source 'a' holds (images of \d+ codes|codes of another image tokenizer)"):
        distill(distillation(str(tmp_path / "tiny"), [replace(star, teacher="tiny")], **by_codes))


def test_a_teacher_with_clip_features_is_refused_for_the_text_term(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(random_checkpoint, teacher)
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps(config | {"w_clip_vit": True}))
    with pytest.raises(InputError, match=r"answers by CLIP features .*: set text.weight to 0"):
        distill(distillation(str(tmp_path), [stage("star", str(teacher))], **sources))


@pytest.mark.parametrize(("number", "highest", "message"), [(4, 900, "codebook indices"), (3, 3, "image has 3 codes")])
def test_codes_that_do_not_fit_the_teacher_are_refused(
    tmp_path: Path,
    random_checkpoint: Path,
    sources: dict[str, list[SourceConfig]],
    number: int,
    highest: int,
    message: str,
) -> None:
    codes = torch.full((3, number), highest, dtype=torch.int16)
    image_tokenizer = fingerprint(load_image_tokenizer(random_checkpoint / "magvitv2"))
    metadata = {"seed": "0", "image_tokenizer": image_tokenizer}
    save_file({"codes": codes}, tmp_path / "pool.safetensors", metadata)
    foreign = sources | {"dialogues": [SourceConfig("scene_dialogues", str(tmp_path / "pool.safetensors"))]}
    with pytest.raises(InputError, match="dialogues"):
        distill(distillation(str(tmp_path), [stage("star", str(random_checkpoint))], **foreign))
    assert message in (tmp_path / "star" / "bad_dialogues_0.jsonl").read_text()


@pytest.mark.parametrize("files", [TrajectoryFiles(), TrajectoryFiles(count=2)], ids=["fresh", "stored"])
def test_a_teacher_with_degenerate_answers_only_is_trained_from(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]], files: TrajectoryFiles
) -> None:
    """It repeats one id, so there is no block to learn from."""
    teacher = tmp_path / "teacher"
    shutil.copytree(random_checkpoint, teacher)
    state = load_file(teacher / "model.safetensors")
    state["showo.lm_head.bias"][5] = 1e4
    save_file(state, teacher / "model.safetensors", metadata={"format": "pt"})
    text = TextTerm(batch_size=1, block_length=16, max_new_tokens=16)
    student = distill(
        distillation(str(tmp_path), [stage("star", str(teacher), text=text, trajectories=files)], **sources)
    )
    assert not same(weights(teacher), weights(student))


@pytest.mark.parametrize(("sources_of", "term"), [("captions", "image"), ("dialogues", "text"), ("texts", "language")])
@pytest.mark.parametrize("files", [TrajectoryFiles(), TrajectoryFiles(count=2)], ids=["fresh", "stored"])
def test_a_single_term_needs_only_its_own_data(
    tmp_path: Path,
    random_checkpoint: Path,
    sources: dict[str, list[SourceConfig]],
    sources_of: str,
    term: str,
    files: TrajectoryFiles,
) -> None:
    terms = {name: one if name == term else replace(one, weight=0.0) for name, one in TERMS.items()}
    one = stage("single", str(random_checkpoint), steps=2, trajectories=files, **terms)
    student = distill(distillation(str(tmp_path), [one], **{sources_of: sources[sources_of]}))
    assert not same(weights(random_checkpoint), weights(student))
    logged = json.loads((tmp_path / "single" / "log.jsonl").read_text().splitlines()[0])
    assert {"image", "text", "language"} & set(logged) == {term}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "at least one"),
        (["stages=[{name: a}]", "teacher=nobody"], "model 'nobody' is unknown"),
        (["stages=[{name: a, teacher: tiny}, {name: a}]"], "a name of its own"),
        (["stages=[{name: a, teacher: tiny, image: {segments: 0}}]"], "image.segments is 0"),
        (["stages=[{name: a, image: {batch_size: 8, on_policy: {prompts: 4}}}]"], "at least batch_size, 8"),
        (["stages=[{name: a, teacher: tiny, text: {max_new_tokens: 20}}]"], "multiple of block_length"),
        (["stages=[{name: a, teacher: tiny, imagee: {}}]"], "imagee"),
        (["stages=[{name: a, image: {weight: 0}, text: {weight: 0}, language: {weight: 0}}]"], "nothing to learn"),
        (["stages=[{name: a, teacher: tiny}]"], "no source of captions"),
        (["stages=[{name: a}, {name: b, sampling: {order: haltn}}]"], "order is 'haltn'"),
        (["stages=[{name: a, image: {label_size: 9000}}]"], "label_size is 9000"),
        (["stages=[{name: a, image: {label_size: 0}}]"], "label_size is 0"),
        (["stages=[{name: a, optimizer: {lr: -1}}]"], "optimizer.lr is -1"),
        (["stages=[{name: a, optimizer: {betas: [2.0, 0.9]}}]"], "optimizer.betas are"),
        (["stages=[{name: a, optimizer: {betas: [0.9]}}]"], "optimizer.betas are"),
        (["stages=[{name: a, optimizer: {lr: .nan}}]"], "optimizer.lr is nan"),
        (["stages=[{name: a, loop: {threads: 0}}]"], "loop.threads is 0"),
        (["stages=[{name: a, loop: {clip_norm: 0}}]"], "loop.clip_norm is 0"),
        (["stages=[{name: a, loop: {seed: -1}}]"], "loop.seed is -1"),
        (["stages=[{name: a, image: {weight: -1}}]"], "image.weight is -1"),
        (["stages=[{name: a, image: {self_weight: -1}}]"], "image.self_weight is -1"),
        (["stages=[{name: a, image: {guidance_scale: -1}}]"], "image.guidance_scale is -1"),
        (["stages=[{name: a, image: {on_policy: {prompts: 9, top_k: 9000}}}]"], "top_k is 9000"),
        (["stages=[{name: a, image: {on_policy: {prompts: 9, sampled_steps: -1}}}]"], "sampled_steps is -1"),
        (["stages=[{name: a, trajectories: {count: -5}}]"], "trajectories.count is -5"),
        (["stages=[{name: a, trajectories: {folder: here}}]"], "no count"),
        (["stages=[{name: a, image: {sampled: {steps: 0}}}]"], "image.sampled.steps is 0"),
        (["stages=[{name: a, image: {sampled: {top_k: 9000}}}]"], "top_k is 9000"),
        (["stages=[{name: a, teacher_share: 1.5}]"], "teacher_share is 1.5"),
        (["stages=[{name: a, num_latents: 0}]"], "num_latents is 0"),
        (["stages=[{name: a, num_latents: 7}]"], "num_latents is 7"),
        (["stages=[{name: a, num_latents: 2, lora: {rank: 2}}]"], "adapters cannot hold"),
        (["stages=[{name: a, image: {distribution_matching: {weight: -1}}}]"], "distribution_matching.weight is -1"),
        (
            ["stages=[{name: a, image: {distribution_matching: {num_inference_steps: []}}}]"],
            "distribution_matching.num_inference_steps is empty",
        ),
        (
            ["stages=[{name: a, image: {weight: 0, distribution_matching: {weight: 1}}}]"],
            "image.distribution_matching has a weight but image has none",
        ),
        (
            ["stages=[{name: a, image: {distribution_matching: {weight: 1, num_inference_steps: [4, 65]}}}]"],
            "num_inference_steps is 65",
        ),
        (
            ["stages=[{name: a, image: {distribution_matching: {weight: 1, schedules: [powder]}}}]"],
            "schedule 'powder' is unknown",
        ),
        (
            ["stages=[{name: a, shard_teacher: true, image: {distribution_matching: {weight: 1}}}]"],
            "whose score is not sharded",
        ),
        (
            ["stages=[{name: a, loop: {sharding: fsdp2}, image: {distribution_matching: {weight: 1}}}]"],
            "whose score is not sharded",
        ),
        (["stages=[{name: a, lora: {rank: -2}}]"], "lora.rank is -2"),
        (["stages=[{name: a, lora: {rank: 2, alpha: -2}}]"], "lora.alpha is -2"),
        (["stages=[{name: a}]", f"seed={2**63}"], f"^seed is {2**63}"),
        (["stages=[{name: a}, {name: b, image: {num_inference_steps: 65}}]"], "num_inference_steps is 65"),
    ],
)
def test_invalid_configurations_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        distill(read_config(DistillationConfig, arguments))


def test_an_unknown_teacher_is_refused_before_any_computation(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    stages = [stage("star", str(random_checkpoint)), stage("turbo", "no such model")]
    with pytest.raises(InputError, match="no such model"):
        distill(distillation(str(tmp_path / "run"), stages, **sources))
    assert not (tmp_path / "run").exists()


def launch(path: Path, config: DistillationConfig, *launcher: str, **environment: str) -> None:
    """Run the documented script in its own processes."""
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    script = Path(__file__).parents[2] / "training" / "train_showo_turbo.py"
    settings = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **environment}
    subprocess.run([sys.executable, *launcher, str(script), f"config={path}"], check=True, env=settings)


TWO_PROCESSES = ("-m", "torch.distributed.run", "--nproc_per_node=2")


def test_mixed_precision_applies_to_the_student_only(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    """Teachers run outside of autocast: their KV caches have the dtype of their weights."""
    on_policy = replace(TERMS["image"], self_weight=0.05, on_policy=OnPolicy(prompts=4, batches=3, share=0.5))
    stages = [stage("star", str(random_checkpoint)), stage("turbo", "previous", image=on_policy, average_target=True)]
    config = distillation(str(tmp_path / "run"), stages, **sources, dtype="bfloat16")
    launch(tmp_path / "config.yaml", config, ACCELERATE_MIXED_PRECISION="bf16")
    assert not same(weights(random_checkpoint), weights(tmp_path / "run" / "turbo" / "model"))


@pytest.mark.slow
def test_a_resumed_run_of_two_processes_has_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    """Each process has on-policy rollouts of its own in its state."""
    on_policy = replace(TERMS["image"], on_policy=OnPolicy(prompts=4, batches=3))

    def run(folder: str, steps: int) -> dict[str, torch.Tensor]:
        one = stage("star", str(random_checkpoint), steps, image=on_policy)
        one = replace(one, loop=replace(one.loop, decay_share=0.0))
        config = distillation(str(tmp_path / folder), [one], **sources)
        launch(tmp_path / "config.yaml", config, *TWO_PROCESSES)
        return weights(tmp_path / folder / "star" / "model")

    whole = run("whole", 4)
    run("parts", 2)
    assert same(whole, run("parts", 4))


@pytest.mark.slow
def test_two_processes_split_the_work_and_write_each_file_once(
    tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]
) -> None:
    files = TrajectoryFiles(count=40, dialogues=20, batch_size=1)
    stages = [stage("star", str(random_checkpoint), trajectories=files), stage("turbo", "previous")]
    config = distillation(str(tmp_path / "run"), stages, **sources, num_workers=1)
    launch(tmp_path / "config.yaml", config, *TWO_PROCESSES)
    star = tmp_path / "run" / "star"
    lines = [json.loads(line) for line in (star / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert len(list(star.glob("bad_texts_*.jsonl"))) == 2
    assert len(list((star / "trajectories").glob("image-*.safetensors"))) == 3
    assert len(list((star / "trajectories").glob("text-*.safetensors"))) == 2
    assert not same(weights(random_checkpoint), weights(star / "model"))
    assert not same(weights(star / "model"), weights(tmp_path / "run" / "turbo" / "model"))
