"""The page for Show-o's users: its commands are valid, and it describes every option."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from showo_turbo.compat.showo_options import TextToImageOptions, UnderstandingOptions
from showo_turbo.config_reader import read_config

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "show-o-users.md").read_text()
OPTIONS = {"inference_t2i.py": TextToImageOptions, "inference_mmu.py": UnderstandingOptions}


def test_every_command_is_valid_and_names_existing_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    commands = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(commands) == 4
    for command in commands:
        python, script, *arguments = shlex.split(command.replace("\\\n", ""))
        assert python == "python3"
        options = read_config(OPTIONS[script], arguments)
        paths = ("image_path", "inpainting_mask_path", "validation_prompts_file", "mmu_image_root")
        assert all(Path(named).exists() for name in paths if (named := getattr(options, name, None)))


def test_every_option_is_described() -> None:
    sections = {"wandb", "experiment", "model", "dataset", "training", "optimizer", "lr_scheduler"}
    names = {field.name for cls in OPTIONS.values() for field in fields(cls)} - sections
    assert not [name for name in names if f"`{name}" not in PAGE]
