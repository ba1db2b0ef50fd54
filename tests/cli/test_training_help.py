"""Help and dry runs of the commands that train."""

from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from showo_turbo.cli.main import app
from showo_turbo.config_reader import read_config
from showo_turbo.distillation.config import DistillationConfig, Stage
from showo_turbo.finetuning.finetuning_config import FinetuningConfig, ValidationConfig
from showo_turbo.finetuning.image_tokenizer_finetuning import ImageTokenizerFinetuningConfig
from showo_turbo.pretraining.assemble import AssemblyConfig
from showo_turbo.pretraining.image_tokenizer_training import ImageTokenizerTrainingConfig
from showo_turbo.pretraining.showo_pretraining import ShowoPretrainingConfig
from showo_turbo.pretraining.text_tokenizer_training import TextTokenizerTrainingConfig
from showo_turbo.scenes.pool import ScenePoolConfig

ROOT = Path(__file__).parent.parent.parent
OWN_DATA = ROOT / "configs" / "own_data.yaml"


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("command", "configs"),
    [
        (("distill",), (DistillationConfig, Stage)),
        (("finetune",), (FinetuningConfig, ValidationConfig, ImageTokenizerFinetuningConfig)),
        (("pretrain", "text-tokenizer"), (TextTokenizerTrainingConfig,)),
        (("pretrain", "image-tokenizer"), (ImageTokenizerTrainingConfig,)),
        (("pretrain", "scene-pool"), (ScenePoolConfig,)),
        (("pretrain", "showo"), (ShowoPretrainingConfig,)),
        (("pretrain", "assemble"), (AssemblyConfig,)),
    ],
)
def test_help_names_every_key_and_an_example(command: tuple[str, ...], configs: tuple[type, ...]) -> None:
    text = run(*command, "--help")
    words = set(text.replace(",", " ").replace("{", " ").replace("}", " ").replace(".", " ").split())
    assert {field.name for config in configs for field in fields(config)} <= words
    assert f"showo-turbo {' '.join(command)} " in text


def test_options_are_grouped() -> None:
    text = run("generate", "--help")
    panels = [text.index(f"─ {panel} ─") for panel in ("Options", "Output", "Sampling", "Model")]
    assert len(set(panels)) == 4
    assert "Decoding" not in text
    assert "─ Decoding ─" in run("ask", "--help")


def test_own_data_is_short_and_commented() -> None:
    lines = OWN_DATA.read_text().splitlines()
    assert len(lines) <= 15
    assert sum("#" in line for line in lines) >= 10
    read_config(DistillationConfig, [f"config={OWN_DATA}"])


def test_a_dry_run_prints_stages_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    output = tmp_path / "run"
    text = run("distill", f"config={OWN_DATA}", f"output={output}", "--dry-run")
    assert "stage first: 40 steps, 320 samples per process, 64 stored rollouts; about" in text
    assert "GiB" in text
    assert "in all: about" in text
    assert not output.exists()


def test_a_dry_run_reports_mistakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where the captions are not
    done = CliRunner().invoke(app, ["distill", f"config={OWN_DATA}", "--dry-run"])
    assert "examples/pictures/captions.jsonl" in str(done.exception)


@pytest.mark.slow
def test_own_data_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert "student: " in run("distill", f"config={OWN_DATA}", f"output={tmp_path / 'run'}")
    assert (tmp_path / "run" / "first" / "model" / "config.json").is_file()
