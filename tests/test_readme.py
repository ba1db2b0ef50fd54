"""The README works by copy and paste."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from showo_turbo.config_reader import read_config
from showo_turbo.distillation.curriculum import DistillationConfig
from showo_turbo.pretraining.assemble import AssemblyConfig
from showo_turbo.pretraining.image_tokenizer_training import ImageTokenizerTrainingConfig
from showo_turbo.pretraining.showo_pretraining import ShowoPretrainingConfig

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(autouse=True)
def examples(tmp_path: Path) -> None:
    """The repository's examples, where the commands of the README look for them."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")


def test_the_python_example_runs(tmp_path: Path) -> None:
    (example,) = [block for block in blocks("python") if "save(" in block]
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "torch.Size([4, 64]) 4" in done.stdout
    assert (tmp_path / "star.png").exists()


def test_the_command_line_examples_run(tmp_path: Path) -> None:
    (commands,) = [block for block in blocks("bash") if "--from-sidecar" in block]
    for command in commands.splitlines():
        subprocess.run(shlex.split(command), cwd=tmp_path, env=ENVIRONMENT, check=True, capture_output=True)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out.png").read_bytes()


def test_the_python_example_of_every_task_runs(tmp_path: Path) -> None:
    (example,) = [block for block in blocks("python") if "inpaint(" in block]
    subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, check=True)


def test_the_python_example_of_many_requests_runs(tmp_path: Path) -> None:
    (example,) = [block for block in blocks("python") if "engine(" in block]
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "How many stars are there? TextOutput(texts=[" in done.stdout
    assert done.stdout.count("ImageOutput(") == 2


@pytest.mark.slow
def test_the_command_of_every_task_runs(tmp_path: Path) -> None:
    (commands,) = [block for block in blocks("bash") if "inpaint" in block]
    for command in commands.splitlines():
        subprocess.run(command, shell=True, cwd=tmp_path, env=ENVIRONMENT, check=True, capture_output=True)
    for name in ("image", "wide", "inpainted", "larger", "varied"):
        assert (tmp_path / f"{name}.png").stat().st_size
        assert (tmp_path / f"{name}.json").exists()


def test_every_make_target_and_config_file_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", README, flags=re.MULTILINE)
    assert targets
    assert all(f"\n{target}:" in makefile for target in targets)
    configs = re.findall(r"config=(\S+)", README)
    assert configs
    assert all((ROOT / config).is_file() for config in configs)


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (ImageTokenizerTrainingConfig, "tiny/image_tokenizer"),
        (ShowoPretrainingConfig, "tiny/showo"),
        (ShowoPretrainingConfig, "tiny/showo_round_2"),
        (AssemblyConfig, "tiny/model"),
        (DistillationConfig, "tiny/turbo"),
        (DistillationConfig, "tiny/turbo_finish"),
        (DistillationConfig, "tiny/turbo_last"),
        (DistillationConfig, "tiny/ablations"),
        (DistillationConfig, "showo_turbo_training"),
        (DistillationConfig, "256/training"),
        (DistillationConfig, "512/training"),
    ],
)
def test_the_shipped_training_configs_are_valid(cls: type, name: str) -> None:
    assert isinstance(read_config(cls, [f"config={ROOT}/configs/{name}.yaml"]), cls)
