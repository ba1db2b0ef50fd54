"""Manifests of folders: other settings are refused, edited data is reported."""

import logging
from pathlib import Path

import pytest

from showo_turbo.errors import InputError
from showo_turbo.files import read_json, write_json
from showo_turbo.training.run_manifest import check_or_write_manifest

DATA = {"coco a.json": {"bytes": 5, "sha256": "abc"}, "parquet b": {"bytes": 7, "sha256": "def"}}


def test_edited_data_is_reported_by_name_and_the_run_continues(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.json"
    check_or_write_manifest(path, {"lr": 1.0}, "a model", False, DATA)
    check_or_write_manifest(path, {"lr": 1.0}, "a model", True, DATA)
    assert not caplog.records
    edited = DATA | {"coco a.json": {"bytes": 5, "sha256": "abd"}}
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            check_or_write_manifest(path, {"lr": 1.0}, "a model", True, edited)
        (record,) = caplog.records
        assert record.getMessage().startswith("'coco a.json' has changed since a model in ")
        assert "was started (sha256)" in record.getMessage()
    assert read_json(path) == {"lr": 1.0, "data": DATA}


def test_other_settings_are_refused_whatever_the_data(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    check_or_write_manifest(path, {"lr": 1.0}, "a model", False, DATA)
    with pytest.raises(InputError, match="another lr"):
        check_or_write_manifest(path, {"lr": 2.0}, "a model", True, DATA)


@pytest.mark.parametrize("data", [None, {}, {"another": DATA["parquet b"]}])
def test_data_that_was_not_recorded_is_not_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: dict | None
) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"lr": 1.0} | ({} if data is None else {"data": data}))
    check_or_write_manifest(path, {"lr": 1.0}, "a model", True, DATA)
    assert not caplog.records


def test_options_that_sources_of_earlier_versions_lack_are_off(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    old = {"captions": [{"kind": "coco", "path": "a"}, {"kind": "coco", "path": "b"}]}
    check_or_write_manifest(path, old, "a model", False)
    now = {"captions": [one | {"split": None} for one in old["captions"]]}
    check_or_write_manifest(path, now, "a model", True)
    now["captions"][1]["split"] = "test"
    with pytest.raises(InputError, match=r"another captions\.1\.split \(None, now test\)"):
        check_or_write_manifest(path, now, "a model", True)
    with pytest.raises(InputError, match="another captions"):
        check_or_write_manifest(path, {"captions": old["captions"][:1]}, "a model", True)
