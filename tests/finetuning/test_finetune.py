"""Fine-tuning on captioned images, dialogues and texts: all weights or LoRA, resumed, and used."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from showo_turbo.checkpoints.names import resolve
from showo_turbo.cli.main import app
from showo_turbo.data import DialogueSample, SourceConfig, Turn
from showo_turbo.distillation.latents import add_latents
from showo_turbo.errors import InputError
from showo_turbo.finetuning.finetune import finetune
from showo_turbo.finetuning.finetuning_config import FinetuningConfig, ValidationConfig
from showo_turbo.models.omni_attention import understanding_mask
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.known_world import WORLD_FILE
from showo_turbo.training.adapters import LoraConfig
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.optimizers import OptimizerConfig
from showo_turbo.training.supervised_batches import dialogue_batch, pack_sequences, supervised_loss, text_batch

CAPTIONS = ("a red car", "a green car", "a blue car", "a grey car")
LOOP = LoopConfig(steps=4, warmup_steps=1, log_steps=1, threads=1, ema_decay=0.0, decay_share=0.0)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[SourceConfig]]:
    """Write four images with captions, a dialogue about each, and texts; one image is broken."""
    folder = tmp_path_factory.mktemp("data")
    for number, color in enumerate(((220, 30, 30), (30, 160, 60), (40, 90, 240), (90, 90, 90))):
        Image.new("RGB", (40, 40), color).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    lines = [{"image": f"{number}.png", "caption": text} for number, text in enumerate(CAPTIONS)]
    lines.append({"image": "broken.png", "caption": "broken"})
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "a car"}]
    entries = [{"id": str(number), "image": f"{number}.png", "conversations": turns * 2} for number in range(4)]
    (folder / "dialogues.json").write_text(json.dumps(entries))
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"content": list(CAPTIONS)}), folder / "texts.parquet")
    return {
        "captions": [SourceConfig("image_folder", str(folder / "captions.jsonl"))],
        "dialogues": [SourceConfig("llava", str(folder / "dialogues.json"), images=str(folder))],
        "texts": [SourceConfig("parquet", str(folder / "texts.parquet"), column="content")],
    }


@pytest.fixture
def config(tmp_path: Path, random_checkpoint: Path, sources: dict[str, list[SourceConfig]]) -> FinetuningConfig:
    return FinetuningConfig(
        str(random_checkpoint),
        str(tmp_path / "run"),
        captions_batch_size=4,
        dialogues_batch_size=2,
        texts_batch_size=2,
        loop=LOOP,
        optimizer=OptimizerConfig(lr=3e-3),
        num_workers=0,
        **sources,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def logged(config: FinetuningConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(config.output) / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("rank", [0, 4])
def test_the_losses_of_all_kinds_fall(config: FinetuningConfig, rank: int) -> None:
    loop, lora = replace(LOOP, steps=40, log_steps=10), LoraConfig(rank=rank)
    model = finetune(replace(config, loop=loop, lora=lora, optimizer=OptimizerConfig(lr=2e-2 if rank else 3e-3)))
    first, *_, last = logged(config)
    for kind in ("captions", "dialogues", "texts"):
        assert last[kind] < 0.95 * first[kind], kind
    pipe = ShowoPipeline.from_pretrained(model)
    assert pipe.text_to_image("a red car", seed=0, num_inference_steps=2).forward_passes == 2
    with Image.open(Path(config.output) / "samples.png") as sheet:
        assert sheet.size == (4 * 32, 4 * 32)  # four prompts, in 1, 2, 4 and 8 steps
    assert "broken.png" in (Path(config.output) / "bad_captions_0.jsonl").read_text()


def test_an_adapter_folder_is_the_merged_model(config: FinetuningConfig, random_checkpoint: Path) -> None:
    finetune(replace(config, lora=LoraConfig(rank=2, alpha=8, targets=["q_proj", "fc1"])))
    output = Path(config.output)
    adapter, merged = (ShowoPipeline.from_pretrained(output / name) for name in ("adapter", "model"))
    base = ShowoPipeline.from_pretrained(random_checkpoint)
    ids = torch.arange(12)[None]
    mask = understanding_mask(ids, base.prompts.vocabulary)
    with torch.no_grad():
        before, by_adapter, by_merge = (pipe.model(ids, mask) for pipe in (base, adapter, merged))
    torch.testing.assert_close(by_adapter, by_merge, atol=5e-3, rtol=0)  # the merged weights are float16
    assert not torch.allclose(by_adapter, before, atol=1e-2)


def test_the_known_world_of_a_base_is_not_that_of_an_adapter(
    config: FinetuningConfig, random_checkpoint: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(random_checkpoint, base)
    shutil.copy(resolve("tiny") / WORLD_FILE, base)
    assert ShowoPipeline.from_pretrained(base).known_world is not None
    finetune(replace(config, model=str(base), loop=replace(LOOP, steps=1), lora=LoraConfig(rank=2)))
    done = CliRunner().invoke(app, ["convert", f"{config.output}/adapter", str(tmp_path / "merged")])
    assert done.exit_code == 0, done.output
    for folder in (f"{config.output}/adapter", f"{config.output}/model", tmp_path / "merged"):
        assert ShowoPipeline.from_pretrained(folder).known_world is None


def test_peft_reads_the_adapter(config: FinetuningConfig, random_pipe: ShowoPipeline) -> None:
    from copy import deepcopy

    import peft

    finetune(replace(config, lora=LoraConfig(rank=2, targets=["q_proj"])))
    folder = Path(config.output) / "adapter"
    adapted = peft.PeftModel.from_pretrained(deepcopy(random_pipe.model.showo), str(folder))
    expected = load_file(folder / "adapter_model.safetensors")
    found = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    assert found.keys() == expected.keys()
    assert all(found[name].equal(tensor) for name, tensor in expected.items())
    assert any(tensor.any() for name, tensor in expected.items() if "lora_B" in name)


def test_a_resumed_run_equals_an_uninterrupted_one(config: FinetuningConfig, tmp_path: Path) -> None:
    whole = finetune(config)
    resumed = replace(config, output=str(tmp_path / "resumed"))
    finetune(replace(resumed, loop=replace(LOOP, steps=2)))
    model = finetune(resumed)
    one, other = weights(whole), weights(model)
    assert all(one[name].equal(other[name]) for name in one)
    with pytest.raises(InputError, match=r"a model in .*resumed.* has another captions_weight"):
        finetune(replace(resumed, captions_weight=0.5))


def test_all_latents_of_a_student_are_trained(config: FinetuningConfig, tmp_path: Path) -> None:
    """Without a decay of the weights, only embeddings of ids that occur in a batch change."""
    student = ShowoPipeline.from_pretrained(config.model, device="cpu", dtype="float32")
    vocabulary = student.prompts.vocabulary
    add_latents(student.model, 3, vocabulary, seed=0)
    student.save_pretrained(tmp_path / "student")
    captions = replace(config, model=str(tmp_path / "student"), dialogues=[], texts=[])
    model = finetune(replace(captions, optimizer=OptimizerConfig(lr=3e-3, weight_decay=0.0)))
    before, after = (weights(folder)["showo.model.embed_tokens.weight"] for folder in (tmp_path / "student", model))
    changed = [not before[opening].half().equal(after[opening]) for opening in vocabulary.opening_ids]
    assert changed == [True, True, True, False, False, False]


@pytest.mark.parametrize("kind", ["captions", "dialogues", "texts"])
def test_each_kind_can_be_used_alone(config: FinetuningConfig, kind: str) -> None:
    others = {name: [] for name in ("captions", "dialogues", "texts") if name != kind}
    finetune(replace(config, loop=replace(LOOP, steps=1), **others))
    assert {"captions", "dialogues", "texts"} & set(logged(config)[0]) == {kind}


def test_held_out_samples_are_validated_and_not_trained_on(config: FinetuningConfig) -> None:
    loop = replace(LOOP, steps=6, validation_steps=2, checkpoint_minutes=3.0)
    validation = ValidationConfig(held_out=0.4, texts=config.texts)
    model = finetune(replace(config, loop=loop, validation=validation, sheet_prompts=["a red car"]))
    output = Path(config.output)
    assert model == output / "best" / "model"
    lines = [json.loads(line) for line in (output / "validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2, 4, 6]
    weights = {"captions": 1.0, "dialogues": 0.5, "texts": 0.1}
    for line in lines:
        expected = sum(weight * line[kind] for kind, weight in weights.items())
        assert line["loss"] == pytest.approx(expected, abs=1e-3)
    assert len({line["loss"] for line in lines}) > 1
    sheets = sorted(path.name for path in (output / "samples").iterdir())
    assert sheets == [f"step-{step:08d}.png" for step in (0, 2, 4, 6)]
    with Image.open(output / "samples" / sheets[0]) as sheet:
        assert sheet.size == (32, 4 * 32)  # the prompt that is set
    with pytest.raises(InputError, match=r"has another validation\.held_out \(0\.4, now 0\.2\)"):
        finetune(replace(config, loop=loop, validation=replace(validation, held_out=0.2)))


def test_edits_are_learned(config: FinetuningConfig, sources: dict[str, list[SourceConfig]]) -> None:
    folder = Path(sources["captions"][0].path).parent
    pairs = [{"source": f"{one}.png", "instruction": "paint it", "target": f"{(one + 1) % 4}.png"} for one in range(4)]
    (folder / "edits.jsonl").write_text("\n".join(map(json.dumps, [*pairs, {**pairs[0], "source": "broken.png"}])))
    loop = replace(LOOP, steps=40, log_steps=10, validation_steps=40, checkpoint_minutes=3.0)
    kinds: dict[str, Any] = {"captions": [], "dialogues": [], "texts": []}
    edits = [SourceConfig("edit_pairs", str(folder / "edits.jsonl"))]
    model = finetune(replace(config, **kinds, edits=edits, edits_batch_size=4, loop=loop))
    first, *_, last = logged(config)
    assert last["edits"] < 0.95 * first["edits"]
    assert ShowoPipeline.from_pretrained(model).edit(str(folder / "0.png"), "paint it", seed=0).images
    assert "broken.png" in (Path(config.output) / "bad_edits_0.jsonl").read_text()


def test_an_adapter_of_edits_says_so(config: FinetuningConfig, sources: dict[str, list[SourceConfig]]) -> None:
    folder = Path(sources["captions"][0].path).parent
    (folder / "pair.jsonl").write_text(json.dumps({"source": "0.png", "instruction": "paint it", "target": "1.png"}))
    kinds: dict[str, Any] = {"dialogues": [], "texts": []}
    loop, lora = replace(LOOP, steps=1), LoraConfig(rank=2)
    edits = [SourceConfig("edit_pairs", str(folder / "pair.jsonl"))]
    finetune(replace(config, **kinds, edits=edits, edits_batch_size=1, loop=loop, lora=lora))
    adapter = Path(config.output) / "adapter"
    assert ShowoPipeline.from_pretrained(adapter).edit(str(folder / "0.png"), "paint it", seed=0).images
    finetune(replace(config, **kinds, output=f"{config.output}_captions", loop=loop, lora=lora))
    others = ShowoPipeline.from_pretrained(f"{config.output}_captions/adapter")
    with pytest.raises(InputError, match="not trained to edit by instructions"):
        others.edit(str(folder / "0.png"), "paint it")


@torch.no_grad()
def test_labels_of_a_dialogue_are_its_answers(random_pipe: ShowoPipeline) -> None:
    prompts, model = random_pipe.prompts, random_pipe.model
    codes = list(range(16))
    turns = (Turn("What is it?", "a car"), Turn("Is it red?", "yes"))
    dialogues = [
        DialogueSample("one", torch.tensor(codes), turns),
        DialogueSample("two", torch.tensor(codes), turns[:1]),
    ]
    batch = dialogue_batch(prompts, dialogues, [codes, codes])
    end = prompts.vocabulary.end_of_text_id
    answers = [[*prompts.encode(f" {turn.answer}"), end] for turn in turns]
    assert batch.labels[0][batch.labelled[0]].tolist() == answers[0] + answers[1]
    assert batch.labels[1][batch.labelled[1]].tolist() == answers[0]

    first = prompts.understanding(codes, turns[0].question) + answers[0][:-1]
    row = torch.tensor([first + prompts.next_turn(turns[1].question) + answers[1]])
    logits = model.logits(model(row, understanding_mask(row, prompts.vocabulary)))[0].log_softmax(-1)
    start, last = len(first) - len(answers[0]), row.shape[1] - len(answers[1]) - 1
    positions = [*range(start, start + len(answers[0])), *range(last, last + len(answers[1]))]
    labels = torch.tensor(answers[0] + answers[1])
    expected = -logits[positions, labels].mean()
    torch.testing.assert_close(supervised_loss(model, dialogue_batch(prompts, dialogues[:1], [codes])), expected)


def test_texts_are_truncated(random_pipe: ShowoPipeline) -> None:
    batch = text_batch(random_pipe.prompts, ["a car " * 50, "a car"], 10)
    assert batch.ids.shape == (2, 10)
    assert batch.labels[0, :-1].equal(batch.ids[0, 1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"captions": [], "dialogues": [], "texts": []}, "there is nothing to learn: give captions"),
        ({"captions_weight": 0.0, "dialogues": [], "texts": []}, "there is nothing to learn"),
        ({"condition_dropout": 1.5}, "condition_dropout is 1.5"),
        ({"captions_batch_size": 0}, "captions_batch_size is 0"),
        ({"model": "no-such-model"}, "no-such-model"),
        ({"captions": [SourceConfig("image_folder", "missing.jsonl")]}, r"missing\.jsonl"),
        ({"lora": LoraConfig(rank=2, targets=["nope"])}, r"lora\.targets are \['nope'\]"),
    ],
)
def test_invalid_settings_are_refused(config: FinetuningConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        finetune(replace(config, **changes))


def test_held_out_sources_without_validation_are_refused(config: FinetuningConfig) -> None:
    held_out = ValidationConfig(texts=config.texts)
    with pytest.raises(InputError, match=r"validation\.texts are given, but are not used: set loop\.validation_steps"):
        replace(config, validation=held_out)
    with pytest.raises(InputError, match=r"validation\.texts are given, .* and give texts to train on"):
        replace(config, validation=held_out, loop=replace(LOOP, validation_steps=1), texts=[])
    with pytest.raises(InputError, match=r"validation\.held_out is 1\.0: choose more than 0 and less than 1"):
        ValidationConfig(held_out=1.0)


def test_captions_without_images_are_refused(config: FinetuningConfig, tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text('{"caption": "a red car"}\n')
    alone = [SourceConfig("image_folder", str(tmp_path / "captions.jsonl"))]
    with pytest.raises(InputError, match=r"captions\.jsonl: line 1 has no image: choose captions with images"):
        finetune(replace(config, captions=alone, dialogues=[], texts=[]))


def test_the_command_adapts_the_shipped_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    shutil.copytree(root / "examples" / "pictures", tmp_path / "examples" / "pictures")
    monkeypatch.chdir(tmp_path)
    settings = [f"config={root / 'configs' / 'finetune_lora.yaml'}", "loop.steps=2", "captions_batch_size=2"]
    done = CliRunner().invoke(app, ["finetune", *settings])
    assert done.exit_code == 0, done.output
    assert "model: runs/finetuned/model" in done.output
    assert ShowoPipeline.from_pretrained("runs/finetuned/adapter").text_to_image("a red circle", seed=0).images
    refused = CliRunner().invoke(app, ["finetune", *settings, "lora.rnk=3"])
    assert refused.exit_code != 0


@pytest.mark.parametrize("kind", ["texts", "dialogues"])
@torch.no_grad()
def test_packed_sequences_have_the_loss_of_separate_rows(random_pipe: ShowoPipeline, kind: str) -> None:
    prompts, model = random_pipe.prompts, random_pipe.model
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(16, (5, 16), generator=generator).tolist()
    answers = ["a red car and a green car", "a", "yes", "a dog", "no"]
    if kind == "texts":
        batches = [text_batch(prompts, some, 512) for some in (answers, *([one] for one in answers))]
    else:
        dialogues = [
            DialogueSample(str(i), torch.tensor(codes[i]), (Turn("a?", text),) * (1 + i % 3 * 2))
            for i, text in enumerate(answers)
        ]
        batches = [dialogue_batch(prompts, dialogues, codes)]
        batches += [dialogue_batch(prompts, [one], [row]) for one, row in zip(dialogues, codes, strict=True)]
    packed, *separate = batches
    assert packed.ids.shape[1] == max(batch.ids.shape[1] for batch in separate)
    assert len(packed.ids) < 5
    counts = [int(batch.labelled.sum()) for batch in separate]
    assert int(packed.labelled.sum()) == sum(counts)
    losses = [float(supervised_loss(model, batch)) for batch in separate]
    expected = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
    assert float(supervised_loss(model, packed)) == pytest.approx(expected, rel=1e-5)
    for batch in separate:
        expected_mask = understanding_mask(batch.ids, prompts.vocabulary)
        assert batch.attention_mask.equal(expected_mask)


@pytest.mark.parametrize(
    ("lengths", "capacity", "rows"),
    [([3, 3, 3], 3, 3), ([5, 1, 1, 1, 2], 5, 2), ([4, 3, 2, 1], 5, 2), ([1], 9, 1)],
)
def test_sequences_are_packed_once_each(lengths: list[int], capacity: int, rows: int) -> None:
    packed = pack_sequences(lengths, capacity)
    assert sorted(member for row in packed for member in row) == list(range(len(lengths)))
    assert all(sum(lengths[member] for member in row) <= capacity for row in packed)
    assert len(packed) == rows
