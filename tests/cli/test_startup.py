"""Modules that commands may not load: what the user gives is checked before torch is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

HEAVY = ("torch", "transformers", "torchvision", "sklearn", "scipy", "datasets", "accelerate", "matplotlib", "peft")
"""Not loaded before a model is."""

NEVER = ("transformers", "torch._dynamo", "torchao", "torchvision", "sklearn", "scipy", "datasets", "sympy", "peft")
"""Not loaded by drawing and answering with a shipped model."""

RUN = """
import atexit, sys
names = {names!r}
atexit.register(lambda: print("loaded:", *[name for name in names if name in sys.modules], file=sys.stderr))
{program}
"""
COMMAND = "from showo_turbo.cli.main import run; run()"


def loaded_modules(program: str, names: tuple[str, ...], *arguments: str, folder: Path) -> tuple[int, list[str], str]:
    """Return exit status, the loaded ones of some modules, and standard error of a program."""
    command = [sys.executable, "-c", RUN.format(names=names, program=program), *arguments]
    environment = os.environ | {"COLUMNS": "120", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    *errors, loaded = done.stderr.strip().splitlines()
    return done.returncode, loaded.split()[1:], "\n".join(errors)


def test_importing_the_package_is_light(tmp_path: Path) -> None:
    assert loaded_modules("import showo_turbo", HEAVY, folder=tmp_path)[:2] == (0, [])


@pytest.mark.parametrize("command", [(), ("generate",), ("ask",), ("distill",), ("pretrain",), ("evaluate",)])
def test_help_is_light(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert loaded_modules(COMMAND, HEAVY, *command, "--help", folder=tmp_path)[:2] == (0, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate", "a star", "--nonsense"), "No such option: --nonsense"),
        (("generate",), "prompt is missing"),
        (("generate", ""), "prompt is empty"),
        (("generate", "a <|soi|>"), "reserved token"),
        (("generate", "a star " * 100), "prompt is too long"),
        (("generate", "a star", "--prompts-file", "none.txt"), "none.txt"),
        (("generate", "a star", "--model", "nonsense"), "'nonsense' is unknown"),
        (("generate", "a star", "--dtype", "float8"), "dtype 'float8' is unknown"),
        (("generate", "a star", "--quantization", "int3"), "quantization 'int3' is unknown"),
        (("generate", "a star", "--seed", "-1"), "seed is -1"),
        (("generate", "a star", "--temperature", "nan"), "temperature is nan"),
        (("generate", "a star", "--steps", "65"), "num_inference_steps is 65: choose 1 to 64"),
        (("vary", "image.png", "a star", "--steps", "0"), "num_inference_steps is 0: choose 1 to 64"),
        (("evaluate", "--steps", "1000"), "num_inference_steps is 1000: choose 1 to 64"),
        (("compare", "--steps", "8", "--steps", "65"), "num_inference_steps is 65"),
        (("compare", "--student", "a=tiny-turbo", "--top-k", "2000"), "top_k is 2000"),
        (("generate", "a star", "--top-k", "4097"), "top_k is 4097: choose 1 to 4096"),
        (("generate", "a star", "--schedule", "powder"), "schedule 'powder' is unknown"),
        (("generate", "a star", "--width", "100"), "width is 100: choose a multiple of 16"),
        (("generate", "a star", "--height", "1000000"), "height is 1000000: choose at most 16,384"),
        (("generate", "a star", "--num-images", "0"), "num_images_per_prompt is 0"),
        (("evaluate", "--scenes", "10000000"), "scenes is 10000000"),
        (("vary", "image.png", "a star", "--strength", "2"), "strength is 2.0"),
        (("extrapolate", "image.png", "a star", "--direction", "north"), "direction is 'north'"),
        (("extrapolate", "image.png", "a star", "--offset", "9"), "offset is 9"),
        (("ask", "image.png", "What?", "--max-new-tokens", "1000"), "the model has 768 positions"),
        (("inpaint", "none.png", "mask.png", "a star"), "none.png"),
        (("vary", "image.png", ""), "prompt is empty"),
        (("ask", "none.png", "How many stars are there?"), "none.png"),
        (("ask", "image.png", ""), "question is empty"),
        (("ask", "image.png", "What?", "--max-new-tokens", "0"), "max_new_tokens is 0"),
        (("describe", "image.png", "--model", "nonsense"), "'nonsense' is unknown"),
    ],
)
def test_errors_of_the_user_are_found_before_torch_is_imported(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "image.png")
    status, loaded, error = loaded_modules(COMMAND, HEAVY, *arguments, folder=tmp_path)
    assert (status, loaded) == (2, [])
    assert message in error


@pytest.mark.parametrize("model", ["tiny", "tiny-turbo"])
@pytest.mark.parametrize("arguments", [("generate", "a red star"), ("ask", "image.png", "How many stars are there?")])
def test_shipped_models_run_without_heavy_modules(tmp_path: Path, model: str, arguments: tuple[str, ...]) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "image.png")
    status, loaded, _ = loaded_modules(COMMAND, NEVER, *arguments, "--model", model, folder=tmp_path)
    assert (status, loaded) == (0, [])
