"""Pre-training: its rows equal the sequences of inference, and its stages make a checkpoint that loads."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_models import SMALL_IMAGE_TOKENIZER

from showo_turbo.checkpoints import weight_files
from showo_turbo.errors import InputError
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.magvit_v2_config import MagvitV2Config
from showo_turbo.models.omni_attention import understanding_mask
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.pretraining.assemble import AssemblyConfig, assemble
from showo_turbo.pretraining.image_tokenizer_training import ImageTokenizerTraining, ImageTokenizerTrainingConfig
from showo_turbo.pretraining.showo_pretraining import ShowoPretraining, ShowoPretrainingConfig
from showo_turbo.pretraining.text_tokenizer_training import TextTokenizerTrainingConfig, train_text_tokenizer
from showo_turbo.scenes.pool import build_scene_pool, load_scene_pool, scene_pixels
from showo_turbo.scenes.shapes.shape_world import SHAPES
from showo_turbo.training.loop import LoopConfig, train
from showo_turbo.training.supervised_batches import random_masking, text_to_image_batch, understanding_batch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a text tokenizer and a scene pool with the first stages of pre-training."""
    folder = tmp_path_factory.mktemp("stages")
    train_text_tokenizer(TextTokenizerTrainingConfig(output=str(folder / "text"), scenes=300))
    torch.manual_seed(0)
    build_scene_pool(folder / "pool.safetensors", MagvitV2(SMALL_IMAGE_TOKENIZER), count=200, seed=4)
    return folder


def showo_config(folder: Path, output: Path, steps: int) -> ShowoPretrainingConfig:
    return ShowoPretrainingConfig(
        loop=LoopConfig(str(output), steps=steps, warmup_steps=2, log_steps=2, threads=1),
        text_tokenizer=str(folder / "text"),
        scene_pool=str(folder / "pool.safetensors"),
        codebook_size=SMALL_IMAGE_TOKENIZER.codebook_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        text_to_image_batch_size=4,
        understanding_batch_size=2,
    )


def test_the_pool_holds_training_scenes_and_their_codes(folder: Path) -> None:
    pool = load_scene_pool(folder / "pool.safetensors")
    torch.manual_seed(0)
    tokenizer = MagvitV2(SMALL_IMAGE_TOKENIZER)
    assert len(pool.scenes) == 200
    assert all(map(SHAPES.split.is_training_scene, pool.scenes))
    assert torch.equal(pool.codes[:3], tokenizer.get_codes(scene_pixels(pool.scenes[:3])))


def test_writing_a_pool_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that the folder is made before scenes are encoded, and that a full disk leaves no file."""

    def no_space(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(weight_files, "save_file", no_space)
    with pytest.raises(InputError, match="count is 0"):
        build_scene_pool(tmp_path / "pools" / "pool.safetensors", MagvitV2(SMALL_IMAGE_TOKENIZER), count=0, seed=4)
    with pytest.raises(OSError, match="no space left"):
        build_scene_pool(tmp_path / "pools" / "pool.safetensors", MagvitV2(SMALL_IMAGE_TOKENIZER), count=2, seed=4)
    assert list((tmp_path / "pools").iterdir()) == []


def test_text_to_image_rows_have_labels_at_masked_codes_only(folder: Path) -> None:
    task = ShowoPretraining(showo_config(folder, folder / "unused", 1))
    vocabulary, codes = task.prompts.vocabulary, task.pool.codes[:2]
    masked = random_masking(torch.ones(2, 64, dtype=torch.bool), torch.Generator().manual_seed(1))
    batch = text_to_image_batch(task.prompts, ["a red circle", ""], codes, masked)
    image = batch.ids[:, -65:-1]
    assert torch.equal(image == vocabulary.mask_id, masked)
    assert torch.equal(vocabulary.ids_to_codes(image[~masked]), codes[~masked])
    assert torch.equal(batch.labels[batch.labelled], codes[masked])
    assert batch.ids[1, -66 - 3 : -66].tolist() == task.prompts.unconditional()


@torch.no_grad()
def test_packed_turns_have_the_logits_of_separate_rows(folder: Path) -> None:
    task = ShowoPretraining(showo_config(folder, folder / "unused", 1))
    prompts, rng = task.prompts, random.Random(0)
    turns = [
        [SHAPES.language.description_question(scene, rng), *SHAPES.language.questions(scene, rng)][:3]
        for scene in task.pool.scenes[:2]
    ]
    batch = understanding_batch(prompts, turns, task.pool.codes[:2])
    packed = task.model.logits(task.model(batch.ids, batch.attention_mask, batch.position_ids))

    for row, (row_turns, codes) in enumerate(zip(turns, task.pool.codes, strict=False)):
        expected_labels = []
        for turn in row_turns:
            question = prompts.understanding(codes, turn.question)
            answer = [*prompts.encode(f" {turn.answer}"), prompts.vocabulary.end_of_text_id]
            ids = torch.tensor([question + answer])
            separate = task.model.logits(task.model(ids, understanding_mask(ids, prompts.vocabulary)))
            start = _find(batch.ids[row].tolist(), question[66 + 1 :] + answer)
            span = slice(start + len(question) - 67 - 1, start + len(question) - 67 - 1 + len(answer))
            torch.testing.assert_close(packed[row, span], separate[0, len(question) - 1 : -1], atol=1e-5, rtol=0)
            assert batch.labels[row, span].tolist() == answer
            expected_labels += answer
        assert batch.labels[row][batch.labelled[row]].tolist() == expected_labels


def _find(row: list[int], part: list[int]) -> int:
    return next(start for start in range(len(row)) if row[start : start + len(part)] == part)


def test_the_image_tokenizer_learns(tmp_path: Path) -> None:
    loop = LoopConfig(str(tmp_path), steps=90, warmup_steps=2, decay_share=0.2, log_steps=10, threads=1)
    config = ImageTokenizerTrainingConfig(loop=loop, model=SMALL_IMAGE_TOKENIZER, batch_size=4, lr=0.01)
    train(ImageTokenizerTraining(config), config.loop)
    curve = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert curve[-1] < 0.7 * curve[0]
    saved = MagvitV2Config.from_dict(json.loads((tmp_path / "config.json").read_text()))
    MagvitV2(saved).load_state_dict(load_file(tmp_path / "model.safetensors"))


def test_the_trained_parts_make_a_checkpoint_that_loads(folder: Path, tmp_path: Path) -> None:
    first = showo_config(folder, tmp_path / "showo", 2)
    train(ShowoPretraining(first), first.loop)
    second = showo_config(folder, tmp_path / "showo_round_2", 2)
    second = replace(second, init_from=str(tmp_path / "showo" / "model.safetensors"))
    train(ShowoPretraining(second), second.loop)
    loop = LoopConfig(str(tmp_path / "image_tokenizer"), steps=1, log_steps=1, threads=1)
    train(
        ImageTokenizerTraining(ImageTokenizerTrainingConfig(loop=loop, model=SMALL_IMAGE_TOKENIZER, batch_size=2)), loop
    )

    rounds = [str(tmp_path / name) for name in ("showo", "showo_round_2")]
    sampling = SamplingOptions(num_inference_steps=3)
    assemble(AssemblyConfig(str(tmp_path / "model"), rounds, str(tmp_path / "image_tokenizer"), sampling=sampling))
    pipe = ShowoPipeline.from_pretrained(tmp_path / "model")
    assert pipe.text_to_image("a red circle", seed=0).forward_passes == 3
    weights = load_file(tmp_path / "showo_round_2" / "model.safetensors")
    assert torch.equal(pipe.model.state_dict()["showo.lm_head.bias"], weights["showo.lm_head.bias"].float())
    files = [Path(folder) / "model.safetensors" for folder in rounds]
    assemble(AssemblyConfig(str(tmp_path / "mean"), rounds, str(tmp_path / "image_tokenizer"), 2))
    first, second, mean = (load_file(file) for file in (*files, tmp_path / "mean" / "model.safetensors"))
    for name, weight in mean.items():
        assert torch.equal(weight, torch.lerp(first[name].float(), second[name].float(), 0.5).half())
    with pytest.raises(InputError, match="mean_of is 3: choose a whole number from 1 to 2"):
        assemble(AssemblyConfig(str(tmp_path / "mean"), rounds, str(tmp_path / "image_tokenizer"), 3))
    written = sorted(path.name for path in (tmp_path / "model" / "training").iterdir())
    assert written == [
        f"{name}.{end}" for name in ("image_tokenizer", "showo", "showo_round_2") for end in ("jsonl", "png")
    ]


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"showo/config\.json"):
        assemble(AssemblyConfig(str(tmp_path / "model"), [str(tmp_path / "showo")], str(tmp_path)))
    assert not (tmp_path / "model").exists()
