"""Output of commands: encodings, pipes, formats, folders, JSON, seeds, and runs that are resumed."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from showo_turbo import files
from showo_turbo.processing.image_files import load_image

ONE_STEP = ("--steps", 1)


def run(here: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the commands in another process."""
    command = [sys.executable, "-m", "showo_turbo", *map(os.fsencode, map(str, arguments))]
    return subprocess.run(command, cwd=here, env=os.environ | environment, capture_output=True, timeout=100)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_of_files_in_any_encoding(here: Path, random_checkpoint: Path, encoding: str) -> None:
    name = os.fsdecode(b"caf\xe9\xff-\xe2\x98\x83.png")
    Image.new("RGB", (16, 16)).save(here / name)
    options = ("--model", random_checkpoint, "--seed", 1, "--steps", 1)
    finished = run(here, "vary", name, "a dog", "-o", f"new-{name}", *options, PYTHONIOENCODING=encoding)
    assert (finished.returncode, finished.stderr) == (0, b"")
    load_image(here / f"new-{name}")
    again = run(here, "generate", "--from-sidecar", f"new-{name}".replace(".png", ".json"), PYTHONIOENCODING=encoding)
    assert again.returncode == 0
    if encoding == "utf-8":
        assert finished.stdout == os.fsencode(f"new-{name}\n")


def test_results_are_written_as_they_come(cli: Callable, here: Path, random_checkpoint: Path, monkeypatch) -> None:
    write, written = files.atomic_files, []

    def stop_at_the_third(contents: dict) -> None:
        written.append(contents)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(contents)

    monkeypatch.setattr("showo_turbo.cli.draw.atomic_files", stop_at_the_third)
    stopped = cli("generate", "a", "b", "c", "d", "-o", "new/images", "--model", random_checkpoint, *ONE_STEP)
    assert (stopped.status, stopped.out.split()) == (130, ["new/images/001-a.png", "new/images/002-b.png"])
    assert len(list((here / "new/images").iterdir())) == 4


def test_a_closed_pipe_costs_no_result(here: Path, random_checkpoint: Path) -> None:
    command = f"{sys.executable} -m showo_turbo generate a b c -o out --steps 1 --model {random_checkpoint}"
    finished = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -1"], cwd=here, capture_output=True, timeout=100
    )
    assert (finished.returncode, finished.stdout) == (0, b"out/001-a.png\n")
    assert len(list((here / "out").glob("*.png"))) == 3
    assert b"Traceback" not in finished.stderr
    assert b"error" not in finished.stderr


@pytest.mark.parametrize("ending", ["jpg", "webp", "bmp", "TIFF", "gif", "ppm"])
def test_images_in_other_formats(cli: Callable, here: Path, random_checkpoint: Path, ending: str) -> None:
    drawn = cli("generate", "a", "-o", f"new/folder/a.{ending}", "--model", random_checkpoint, *ONE_STEP)
    assert drawn.status == 0
    load_image(here / f"new/folder/a.{ending}")
    assert (here / "new/folder/a.json").is_file()


def test_an_output_without_an_ending_is_a_folder(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    assert cli("generate", "a dog", "-o", "new", "--model", random_checkpoint, *ONE_STEP).out == "new/a-dog.png\n"


def test_a_chosen_seed_is_printed_unless_quiet(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    drawn = cli("generate", "a dog", "--model", random_checkpoint, *ONE_STEP)
    assert f"--seed {json.loads((here / 'out.json').read_text())['seed']} draws the same again" in drawn.err
    quiet = cli("--quiet", "generate", "a dog", "--overwrite", "--model", random_checkpoint, *ONE_STEP)
    assert (quiet.out, quiet.err) == ("out.png\n", "")
    verbose = cli("--verbose", "generate", "", "-o", "b.png", "--model", random_checkpoint)
    assert "Traceback" in verbose.err
    assert verbose.err.endswith("error: prompt is empty: say what the image should show\n")
    assert "Traceback" not in cli("generate", "", "-o", "b.png", "--model", random_checkpoint).err


def test_answers_as_json(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    Image.new("RGB", (16, 16)).save("a.png")
    options = ("--model", random_checkpoint, "--max-new-tokens", 5)
    plain = cli("ask", "a.png", "Is it \N{SNOWMAN}?", *options).out
    lines = cli("ask", "a.png", "Is it \N{SNOWMAN}?", "Why?", "--json", *options).out.splitlines()
    first, second = map(json.loads, lines)
    assert (first["question"], second["question"], first["image"]) == ("Is it \N{SNOWMAN}?", "Why?", "a.png")
    assert f"{first['answer'].strip()}\n" == plain
    assert 1 <= first["forward_passes"] <= 5
    assert json.loads(cli("describe", "a.png", "--json", *options).out)["question"] == "Describe the image."


def test_completion_is_offered(cli: Callable) -> None:
    assert "--show-completion" in cli("--help").out


@pytest.mark.parametrize("place", [1, 3])
def test_a_prompt_of_a_file_is_told_by_its_line(cli: Callable, here: Path, random_checkpoint: Path, place: int) -> None:
    long = "a red car and a dog in the snow " * 40
    (here / "p.txt").write_text("\n" * (place - 1) + long + "\na\n")
    refused = cli("generate", "--prompts-file", "p.txt", "-o", "out", "--model", random_checkpoint)
    assert refused.status == 2
    assert refused.err.startswith(f"error: prompts file 'p.txt', line {place}, {long[:60]!r}: prompt is too long: ")
    assert "(it has " in refused.err
    assert len(refused.err.splitlines()) == 1


# --skip-existing


@pytest.fixture
def drawn(cli: Callable, here: Path, random_checkpoint: Path) -> Callable:
    """Draws two images into `out`; more arguments may follow."""
    (here / "p.txt").write_text("a dog\na cat\n")
    fixed = ("generate", "--prompts-file", "p.txt", "-o", "out", "--skip-existing", "--model", random_checkpoint)
    return lambda *arguments: cli(*fixed, *arguments)


@pytest.mark.parametrize("renames", [1, 3])
def test_a_kill_between_the_renames(drawn: Callable, here: Path, monkeypatch, renames: int) -> None:
    replace, done = os.replace, []

    def stop(source: object, target: object) -> None:
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(target)
        replace(source, target)

    monkeypatch.setattr("os.replace", stop)
    assert drawn("--seed", 1).status == 130
    monkeypatch.setattr("os.replace", replace)
    resumed = drawn("--seed", 1)
    assert (resumed.status, len(resumed.out.split())) == (0, 2 - renames // 2)
    assert len(list((here / "out").iterdir())) == 4
    assert drawn("--seed", 1).out == ""


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--steps", 2), "num_inference_steps"),
        (("--guidance-scale", 3), "guidance_scale"),
        (("--seed", 2), "seed"),
        (("--num-images", 2), "num_images"),
        (("--dtype", "bfloat16"), "dtype"),
        (("--width", 32), "arguments"),
    ],
)
def test_images_of_other_settings_are_not_kept(drawn: Callable, here: Path, options: tuple, name: str) -> None:
    assert drawn("--seed", 1, "--steps", 1).status == 0
    before = (here / "out/001-a-dog.png").stat().st_mtime_ns
    given = [
        *(() if "--seed" in options else ("--seed", 1)),
        *(() if "--steps" in options else ("--steps", 1)),
        *options,
    ]
    refused = drawn(*given)
    assert refused.status == 2
    assert f"output 'out/001-a-dog.png' exists, drawn with another {name}" in refused.err
    assert (here / "out/001-a-dog.png").stat().st_mtime_ns == before
    assert len(drawn(*given, "--overwrite").out.split()) == 2
    assert drawn(*given).out == ""


def test_images_of_another_model_are_not_kept(drawn: Callable, here: Path) -> None:
    assert drawn("--seed", 1).status == 0
    for file in (here / "out").glob("*.json"):
        values = json.loads(file.read_text())
        file.write_text(json.dumps(values | {"weights_sha256": dict.fromkeys(values["weights_sha256"], "0" * 64)}))
    assert "drawn with another model" in drawn("--seed", 1).err


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[: len(data) // 2], lambda data: b""])
def test_a_damaged_image_is_drawn_again(drawn: Callable, here: Path, damage: Callable) -> None:
    assert drawn("--seed", 1).status == 0
    file = here / "out/002-a-cat.png"
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert drawn("--seed", 1).out == "out/002-a-cat.png\n"
    assert file.read_bytes() == whole


@pytest.mark.parametrize("name", ["001-a-dog.png", "001-a-dog.json"])
def test_a_link_to_nothing_is_not_replaced(drawn: Callable, here: Path, name: str) -> None:
    (here / "out").mkdir()
    (here / "out" / name).symlink_to("elsewhere")
    assert f"'out/{name}' exists" in drawn().err
    assert (here / "out" / name).is_symlink()
    assert not (here / "elsewhere").exists()
    assert drawn("--overwrite").status == 0


def test_an_image_of_someone_else_is_not_replaced(drawn: Callable, here: Path) -> None:
    (here / "out").mkdir()
    image = io.BytesIO()
    Image.new("RGB", (3, 3)).save(image, format="PNG")
    (here / "out/001-a-dog.png").write_bytes(image.getvalue())
    assert "'out/001-a-dog.png' exists" in drawn().err
    assert (here / "out/001-a-dog.png").read_bytes() == image.getvalue()
