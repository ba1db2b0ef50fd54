"""The files that the two documented commands write, in every mode."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from showo_turbo.compat import inference_mmu as understanding
from showo_turbo.compat import inference_t2i as text_to_image
from showo_turbo.compat.entry import inference_t2i
from showo_turbo.compat.showo_options import TextToImageOptions, UnderstandingOptions
from showo_turbo.config_reader import read_config
from showo_turbo.errors import InputError
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.image_files import load_image
from showo_turbo.processing.prompts import PromptBuilder

ROOT = Path(__file__).parent.parent.parent


def draw(checkpoint: Path, output: Path, *arguments: object) -> list[dict]:
    model = f"model.showo.pretrained_model_path={checkpoint}"
    words = [model, f"output_dir={output}", "device=cpu", "seed=3", *map(str, arguments)]
    text_to_image.run(read_config(TextToImageOptions, words))
    return [json.loads(line) for line in (output / "images.jsonl").read_text().splitlines()]


def ask(checkpoint: Path, output: Path, *arguments: object) -> list[dict]:
    model = f"model.showo.pretrained_model_path={checkpoint}"
    words = [model, f"output_dir={output}", "device=cpu", *map(str, arguments)]
    understanding.run(read_config(UnderstandingOptions, words))
    return [json.loads(line) for line in (output / "answers.jsonl").read_text().splitlines()]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.effect_noise((40, 32), 90).convert("RGB").save(folder / "b.png")
    Image.linear_gradient("L").convert("RGB").save(folder / "a.JPG", format="JPEG")
    (folder / ".DS_Store").write_bytes(b"no image")
    return folder


def test_a_prompts_file_is_drawn_in_batches(
    random_checkpoint: Path, random_pipe: ShowoPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ["a red car", "two dogs", "a blue star"]
    (tmp_path / "prompts.txt").write_text("\n\n".join(prompts))
    results = draw(
        random_checkpoint,
        tmp_path / "out",
        f"validation_prompts_file={tmp_path / 'prompts.txt'}",
        "batch_size=2",
        "generation_timesteps=2",
        "guidance_scale=1",
    )
    assert [result["prompt"] for result in results] == prompts
    files = [tmp_path / "out" / result["image"] for result in results]
    assert capsys.readouterr().out.split() == [str(file) for file in files]
    assert files[1].name == "0002-two-dogs.png"

    generator = torch.Generator().manual_seed(3)
    for batch, file in ((prompts[:2], files[0]), (prompts[2:], files[2])):
        expected = random_pipe.text_to_image(batch, 2, 1.0, generator=generator).images[0]
        assert load_image(file).tobytes() == expected.tobytes()


def test_files_are_replaced_only_with_overwrite(random_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "0001-a-cat.png").touch()
    with pytest.raises(InputError, match=r"0001-a-cat.png' exists.*add overwrite=true"):
        draw(random_checkpoint, tmp_path, "prompt=a cat")
    assert draw(random_checkpoint, tmp_path, "prompt=a cat", "overwrite=true", "generation_timesteps=1")


def test_unknown_words_are_noted_in_one_line(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(Path("tiny-turbo"), tmp_path / "drawn", "prompt=a photo of a dog *** a red cat", "generation_timesteps=1")
    ask(Path("tiny-turbo"), tmp_path / "answers", f"mmu_image_root={images}", "question=Who is it?", "max_new_tokens=2")
    first, second = capsys.readouterr().err.splitlines()
    assert "never saw 'dog', 'cat': try \"a red circle and a blue star\"" in first
    assert "never saw 'who', 'it': try \"How many stars are there?\"" in second


def test_long_prompts_are_cut(random_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["dataset.preprocessing.max_seq_length=8", "generation_timesteps=1"]
    (result,) = draw(random_checkpoint, tmp_path, "prompt=a red car in the snow", *short)
    assert result["prompt"] == "a red car in the snow"
    assert "of 'a red car in the snow'" in capsys.readouterr().err


@pytest.fixture
def prompt_ids(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The ids of all prompts that are drawn."""
    ids: list[list[int]] = []
    build = PromptBuilder.text_to_image

    def recorded(builder: PromptBuilder, prompt: str) -> list[int]:
        row = build(builder, prompt)
        ids.append(row)
        return row

    monkeypatch.setattr(PromptBuilder, "text_to_image", recorded)
    return ids


@pytest.mark.parametrize(
    "prompt",
    [
        "雪の中の赤い車と二匹の犬",
        "눈 속의 빨간 차와 개 두 마리",
        "🚗🐕❄️ a car 🚗🐕❄️",
        "a red car in the snow with two dogs",
    ],
)
@pytest.mark.parametrize("length", [9, 10, 11, 12])
def test_long_prompts_are_cut_by_ids(
    random_checkpoint: Path,
    tiny_prompts: PromptBuilder,
    prompt_ids: list[list[int]],
    tmp_path: Path,
    prompt: str,
    length: int,
) -> None:
    short = [f"dataset.preprocessing.max_seq_length={length}", "generation_timesteps=1"]
    draw(random_checkpoint, tmp_path, f"prompt={prompt}", *short)
    vocabulary = tiny_prompts.vocabulary
    end, ids = vocabulary.end_of_text_id, tiny_prompts.encode(prompt)
    assert len(ids) > length
    assert [vocabulary.t2i_id, end, *ids[: length - 2], end] in prompt_ids


def test_white_space_at_the_ends_of_prompts_is_kept(
    random_checkpoint: Path,
    tiny_prompts: PromptBuilder,
    prompt_ids: list[list[int]],
    images: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "prompts.txt").write_bytes(b"\xef\xbb\xbfa dog  \r\n\n  a car\n")
    one_step = "generation_timesteps=1"
    draw(random_checkpoint, tmp_path / "1", f"validation_prompts_file={tmp_path / 'prompts.txt'}", one_step)
    draw(random_checkpoint, tmp_path / "2", "prompt=  a sea *** a hill  ", one_step)
    extrapolation = ["mode=extrapolation", f"image_path={images / 'b.png'}", "extra_direction= up *** left "]
    draw(random_checkpoint, tmp_path / "3", *extrapolation, "prompt= a lake", one_step)
    drawn = [tiny_prompts.encode(text) for text in ("a dog  ", "  a car", "  a sea", "a hill  ", " a lake")]
    assert [ids for ids in drawn if ids not in [row[2:-1] for row in prompt_ids]] == []


def test_a_prompt_of_any_length_is_bounded(random_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prompt is too long: it has 1,000,000 characters"):
        draw(random_checkpoint, tmp_path, f"prompt={'a' * 1_000_000}")


def test_inpainting_takes_image_and_mask_of_any_size(random_checkpoint: Path, images: Path, tmp_path: Path) -> None:
    mask = Image.new("L", (64, 80))
    mask.paste(255, (32, 0, 64, 80))
    mask.save(tmp_path / "mask.png")
    results = draw(
        random_checkpoint,
        tmp_path / "out",
        "mode=inpainting",
        "prompt=a red car",
        f"image_path={images / 'b.png'}",
        f"inpainting_mask_path={tmp_path / 'mask.png'}",
        "batch_size=2",
        "generation_timesteps=2",
    )
    first, second = (load_image(tmp_path / "out" / result["image"]) for result in results)
    assert first.size == (32, 32)
    assert first.tobytes() != second.tobytes()


def test_extrapolation_takes_one_prompt_per_direction(random_checkpoint: Path, images: Path, tmp_path: Path) -> None:
    common = ["mode=extrapolation", f"image_path={images / 'b.png'}", "generation_timesteps=2"]
    (result,) = draw(
        random_checkpoint,
        tmp_path / "out",
        *common,
        "prompt=a lake *** a wood *** a hill",
        "extra_direction=left *** up *** left",
    )
    assert result["prompt"] == "a lake a wood a hill"
    assert load_image(tmp_path / "out" / result["image"]).size == (64, 48)
    with pytest.raises(InputError, match="prompt has 2 parts and extra_direction 3"):
        draw(random_checkpoint, tmp_path, *common, "prompt=a *** b", "extra_direction=left *** up *** left")


def test_every_question_is_answered_for_every_image(
    random_checkpoint: Path,
    random_pipe: ShowoPipeline,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    questions = ["What is it?", "How many stars are there?"]
    (images / "folder.png").mkdir()
    (images / "._a.png").write_bytes(b"metadata that macOS writes on other file systems")
    results = ask(
        random_checkpoint,
        tmp_path / "out",
        f"mmu_image_root={images}",
        f"question={questions[0]} *** {questions[1]}",
        "max_new_tokens=8",
    )
    names = [images / "a.JPG", images / "b.png"]
    assert [(result["image"], result["question"]) for result in results] == [
        (str(name), question) for name in names for question in questions
    ]
    expected = [
        random_pipe.image_to_text(name, question, max_new_tokens=8, decoding="autoregressive").texts[0]
        for name in names
        for question in questions
    ]
    assert [result["answer"] for result in results] == expected
    assert questions[1] in capsys.readouterr().out


def test_sizes_of_another_checkpoint_leave_no_files(random_checkpoint: Path, tmp_path: Path) -> None:
    for wrong, words in [
        ("model.showo.num_vq_tokens=256", "model.showo.num_vq_tokens is 256, but .* has 16"),
        ("model.showo.w_clip_vit=true", "w_clip_vit is True, but .* has False"),
        ("dataset.params.resolution=64", "dataset.params.resolution is 64, but .* has 32"),
    ]:
        with pytest.raises(InputError, match=words):
            draw(random_checkpoint, tmp_path / "new", "prompt=a cat", wrong)
    assert not any(tmp_path.iterdir())


def test_invalid_input_is_named(random_checkpoint: Path, tmp_path: Path) -> None:
    for arguments, words in [
        (["validation_prompts_file=none.txt"], "'none.txt' cannot be read"),
        (["validation_prompts_file=none.txt", "prompt=a"], "both given"),
        ([], "prompt is missing: add prompt="),
        (["prompt= *** "], "prompt is ' \\*\\*\\* ', which holds no text"),
        (["prompt=a", "dataset.preprocessing.max_seq_length=1"], "prompt is empty"),
        (["prompt=a", "seed=-1"], "seed is -1"),
        (
            ["mode=extrapolation", "image_path=none.png", "prompt=a", "extra_direction=left"],
            "'none.png' does not exist",
        ),
    ]:
        with pytest.raises(InputError, match=words):
            draw(random_checkpoint, tmp_path, *arguments)
    with pytest.raises(InputError, match="is not a folder"):
        ask(random_checkpoint, tmp_path, "mmu_image_root=nowhere", "question=a?")
    with pytest.raises(InputError, match="holds no image"):
        ask(random_checkpoint, tmp_path, f"mmu_image_root={tmp_path}", "question=a?")


class Run:
    """Record what is logged to a tracker's run."""

    logged: dict

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def log(self, values: dict) -> None:
        self.logged = values


def test_a_tracker_receives_images_and_captions(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, started = Run(), []

    def init(**settings: object) -> Run:
        started.append(settings)
        return run

    wandb = SimpleNamespace(init=init, Image=lambda image, caption: (image.size, caption), __spec__=object())
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    draw(random_checkpoint, tmp_path, "prompt=a cat", "generation_timesteps=1", "tracker=wandb", "wandb.entity=me")
    assert started[0] | {"name": "show-o_t2i_t2i", "entity": "me", "project": "demo"} == started[0]
    assert run.logged == {"generated_images": [((32, 32), "a cat")]}


def test_help_lists_the_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["inference_t2i.py", "--help"])
    inference_t2i()
    printed = capsys.readouterr().out
    assert "usage: inference_t2i.py config=FILE" in printed
    assert all(f"    {option}: " in printed for option in ("validation_prompts_file", "extra_direction", "output_dir"))


def test_a_missing_tracker_is_named(random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("showo_turbo.compat.tracker.find_spec", lambda name: None)
    with pytest.raises(InputError, match="tracker 'wandb' is not installed"):
        draw(random_checkpoint, tmp_path, "prompt=a cat", "tracker=wandb")


@pytest.mark.slow
def test_the_scripts_run_from_a_clone(tmp_path: Path) -> None:
    def run(script: str, *arguments: str) -> str:
        words = [sys.executable, script, *arguments, f"output_dir={tmp_path}", "overwrite=true"]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    drawn = run("inference_t2i.py", "config=configs/showo_turbo_t2i.yaml", "generation_timesteps=2")
    assert len(drawn.splitlines()) == 4
    assert all(Path(line).exists() for line in drawn.splitlines())
    inpainting = ["mode=inpainting", "prompt=a blue star", "image_path=examples/pictures/one.png"]
    run("inference_t2i.py", *inpainting, "inpainting_mask_path=examples/right_half.png", "generation_timesteps=2")
    assert (tmp_path / "0001-a-blue-star.png").exists()
    answered = run("inference_mmu.py", "config=configs/showo_turbo_mmu.yaml", "max_new_tokens=8")
    assert answered.count("Describe the image.") == 3
