"""Resolving names: shipped models, folders, hub names; every error says what to choose."""

from pathlib import Path

import pytest

from showo_turbo.checkpoints import names
from showo_turbo.checkpoints.names import IMAGE_TOKENIZER, SHIPPED_MODELS, resolve
from showo_turbo.errors import InputError


def test_a_folder_resolves_to_itself(tmp_path: Path) -> None:
    assert resolve(tmp_path) == tmp_path
    assert resolve(str(tmp_path)) == tmp_path


def test_a_shipped_name_resolves_to_a_folder_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_SHIPPED_FOLDER", tmp_path / "weights")
    (tmp_path / "weights" / "tiny").mkdir(parents=True)
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("tiny") == tmp_path / "weights" / "tiny"
    assert resolve("./tiny").resolve() == tmp_path / "tiny"


def test_a_missing_shipped_model_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_SHIPPED_FOLDER", tmp_path)
    with pytest.raises(InputError, match="'tiny' is missing from this installation"):
        resolve("tiny")


def test_an_unknown_name_lists_the_shipped_models() -> None:
    with pytest.raises(InputError, match=rf"model 'tinny' is unknown.*{SHIPPED_MODELS[0]}.*owner/name"):
        resolve("tinny")


def test_only_models_are_shipped() -> None:
    with pytest.raises(InputError, match="image tokenizer 'tiny' is unknown"):
        resolve("tiny", IMAGE_TOKENIZER)


def test_an_unknown_home_folder_is_reported() -> None:
    with pytest.raises(InputError, match="model '~nosuch/x' is unknown: no such user's home"):
        resolve("~nosuch/x")


def test_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(InputError, match="is a file: give the folder"):
        resolve(file)


def test_without_network_a_hub_name_lists_the_files_to_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"'nobody/nothing' .*could not be fetched.*config\.json.*model\.safetensors"):
        resolve("nobody/nothing")
