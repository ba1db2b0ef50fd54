"""Commands that start from an image, chats, and interrupted runs that are resumed."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from showo_turbo import ShowoPipeline
from showo_turbo.processing.image_files import load_image

TASKS = {
    "inpaint": (["mask.png"], {"mask": "mask.png"}),
    "extrapolate": (
        ["--direction", "left", "--direction", "up", "--offset", 1],
        {"direction": ["left", "up"], "offset": 1},
    ),
    "vary": (["--strength", 0.3], {"strength": 0.3}),
    "edit": ([], {}),
}


@pytest.fixture(autouse=True)
def here(here: Path, editing_pipe: ShowoPipeline) -> Path:
    """A current folder with an image and a mask."""
    editing_pipe.text_to_image("a red car", seed=0).images[0].save("image.png")
    mask = Image.new("L", (32, 32))
    mask.paste(255, (8, 8, 24, 24))
    mask.save("mask.png")
    return here


def command(task: str, *more: object) -> list[object]:
    own = TASKS[task][0]
    arguments = [*own, "a dog"] if task == "inpaint" else ["a dog", *own]
    return [task, "image.png", *arguments, *more]


@pytest.mark.parametrize("task", TASKS)
def test_commands_draw_what_the_library_draws(
    cli: Callable, editing_checkpoint: Path, editing_pipe: ShowoPipeline, task: str
) -> None:
    result = cli(*command(task, "--model", editing_checkpoint, "--seed", 3, "--steps", 2))
    assert (result.status, result.out, result.err) == (0, "out.png\n", "")
    expected = getattr(editing_pipe, task)("image.png", prompt="a dog", seed=3, num_inference_steps=2, **TASKS[task][1])
    assert load_image("out.png").tobytes() == expected.images[0].tobytes()


@pytest.mark.parametrize("task", TASKS)
def test_sidecars_draw_the_images_again(cli: Callable, here: Path, editing_checkpoint: Path, task: str) -> None:
    assert cli(*command(task, "--model", editing_checkpoint, "--num-images", 2)).status == 0
    assert cli("generate", "--from-sidecar", "out.json", "-o", "again.png").status == 0
    assert (here / "again.png").read_bytes() == (here / "out.png").read_bytes()
    settings = json.loads((here / "out.json").read_text())
    assert settings["task"] == task
    assert settings["arguments"]["image"] == str(here / "image.png")
    load_image("image.png").rotate(90).save("image.png")
    changed = cli("generate", "--from-sidecar", "out.json", "-o", "other.png")
    assert changed.status == 2
    assert "is not the one that 'out.json' was made with" in changed.err
    (here / "out.json").write_text(json.dumps(settings | {"arguments": []}))
    assert (
        "arguments must be an object, task a text"
        in cli("generate", "--from-sidecar", "out.json", "-o", "other.png").err
    )
    (here / "out.json").write_text(json.dumps(settings | {"task": "save_pretrained"}))
    other = cli("generate", "--from-sidecar", "out.json", "-o", "other.png")
    assert other.status == 2
    assert "has task 'save_pretrained'" in other.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inpaint", "nowhere.png", "mask.png", "a dog"], "'nowhere.png' does not exist"),
        (["inpaint", "image.png", "nowhere.png", "a dog"], "'nowhere.png' does not exist"),
        (["inpaint", "image.png", "mask.png", ""], "prompt is empty"),
        (["inpaint", "image.png", "small.png", "a dog"], "mask is 16 x 16 pixels and the image 32 x 32"),
        (["inpaint", "image.png", "black.png", "a dog"], "mask is empty"),
        (["extrapolate", "image.png", "a dog", "--direction", "north"], "direction is 'north'"),
        (["extrapolate", "image.png", "a dog", "--offset", 9], "offset is 9: choose -1 to 1"),
        (["vary", "image.png", "a dog", "--strength", 2], "strength is 2.0"),
        (["vary", "image.png", "a dog", "-o", "image.png"], "output 'image.png' exists"),
        (["generate", "a dog", "--height", 33], "height is 33: choose a multiple of 8 pixels, at least 32"),
        (["chat", "nowhere.png"], "'nowhere.png' does not exist"),
        (["chat", "image.png", "--block-length", 0], "block_length is 0"),
    ],
)
def test_invalid_input_is_named_and_writes_nothing(
    cli: Callable, here: Path, editing_checkpoint: Path, arguments: list[object], message: str
) -> None:
    Image.new("L", (16, 16), 255).save("small.png")
    Image.new("L", (32, 32)).save("black.png")
    before = sorted(here.iterdir())
    result = cli(*arguments, "--model", editing_checkpoint)
    assert result.status == 2
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert sorted(here.iterdir()) == before


def test_images_of_another_shape(cli: Callable, editing_checkpoint: Path) -> None:
    cli("generate", "a dog", "--height", 48, "--width", 32, "--model", editing_checkpoint)
    assert load_image("out.png").size == (32, 48)
    assert cli("generate", "--from-sidecar", "out.json", "-o", "again.png").status == 0
    assert Path("again.png").read_bytes() == Path("out.png").read_bytes()


def test_chat_answers_line_by_line(
    cli: Callable, editing_checkpoint: Path, editing_pipe: ShowoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = ["What is it?", "Where?"]
    monkeypatch.setattr("sys.stdin", io.StringIO("What is it?\n\n  Where?  \n"))
    result = cli("chat", "image.png", "--model", editing_checkpoint, "--max-new-tokens", 9)
    assert (result.status, result.err) == (0, "")
    chat = editing_pipe.chat("image.png")
    answers = [chat.ask(question, max_new_tokens=9).texts[0] for question in questions]
    assert result.out == "".join(f"{answer}\n" for answer in answers)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"What is it?\n{'why ' * 400}\nWhere?\n"))
    continued = cli("chat", "image.png", "--model", editing_checkpoint, "--max-new-tokens", 9)
    assert (continued.status, continued.out) == (2, result.out)
    assert continued.err == "error: question has 1599 characters, at most 1024 are understood: shorten it\n"


def test_an_interrupted_run_is_resumed(cli: Callable, here: Path, editing_checkpoint: Path) -> None:
    (here / "prompts.txt").write_text("a dog\na cat\na car\n")
    (here / "images").mkdir()
    arguments = ("generate", "--prompts-file", "prompts.txt", "-o", "images", "--model", editing_checkpoint)
    assert cli(*arguments, "--seed", 1).status == 0
    complete = {path.name: path.read_bytes() for path in (here / "images").iterdir()}
    assert len(complete) == 6
    for name in ("002-a-cat.png", "003-a-car.png", "003-a-car.json"):
        (here / "images" / name).unlink()
    written = (here / "images/001-a-dog.png").stat().st_mtime_ns
    resumed = cli(*arguments, "--seed", 1, "--skip-existing")
    assert resumed.out.split() == ["images/002-a-cat.png", "images/003-a-car.png"]
    assert {path.name: path.read_bytes() for path in (here / "images").iterdir()} == complete
    assert (here / "images/001-a-dog.png").stat().st_mtime_ns == written
    finished = cli(*arguments, "--skip-existing")
    assert (finished.status, finished.out) == (0, "")


def test_an_image_of_another_prompt_is_not_skipped(cli: Callable, editing_checkpoint: Path) -> None:
    assert cli("generate", "a dog", "--model", editing_checkpoint).status == 0
    assert "'out.png' exists" in cli("generate", "a cat", "--model", editing_checkpoint, "--skip-existing").err
