"""Summaries of result folders in lm-eval's format."""

import json
from pathlib import Path

import pytest

from showo_turbo.errors import InputError
from showo_turbo.evaluation.summary import summarize


def result(folder: Path, name: str, **stamp: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    scores = {"accuracy": {"value": 80.0, "interval": [76.08, 83.92]}, "yes_ratio": {"value": 50.0, "interval": None}}
    content = {"benchmark": name, "stamp": {"model": "tiny", "items": 4, "dtype": "float32", **stamp}, "scores": scores}
    (folder / "scores.json").write_text(json.dumps(content))
    return folder


def test_values_errors_and_counts(tmp_path: Path) -> None:
    summary = summarize([result(tmp_path / "a", "pope"), result(tmp_path / "b", "fid")])
    assert summary["results"]["pope"]["accuracy,none"] == 80.0
    assert summary["results"]["pope"]["accuracy_stderr,none"] == pytest.approx(2.0, abs=1e-4)
    assert summary["results"]["pope"]["yes_ratio_stderr,none"] == "N/A"
    assert summary["higher_is_better"] == {"pope": {"accuracy": True}, "fid": {"accuracy": False}}
    assert summary["n-samples"]["pope"] == {"original": 4, "effective": 4}
    assert summary["config"]["model_args"] == "pretrained=tiny"


def test_unlike_settings_and_two_of_one_benchmark_are_refused(tmp_path: Path) -> None:
    first = result(tmp_path / "a", "pope")
    for changed in ({"model": "tiny-turbo"}, {"dtype": "bfloat16"}, {"weights_sha256": {"model": "0"}}):
        with pytest.raises(InputError, match=f"another {next(iter(changed))}"):
            summarize([first, result(tmp_path / "b", "mme", **changed)])
    with pytest.raises(InputError, match="the second one of pope"):
        summarize([first, result(tmp_path / "c", "pope")])


@pytest.mark.parametrize("content", [None, "{", "[]", '{"benchmark": "pope"}', '{"scores": {"a": {"value": "x"}}}'])
def test_a_folder_without_scores_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "scores.json").write_text(content)
    with pytest.raises(InputError, match="scores"):
        summarize([tmp_path])
