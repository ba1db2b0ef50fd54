"""Sources from a configuration file: streams that open, and errors that are raised before any file is read."""

import json
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import save_file

from showo_turbo.config_reader import read_config
from showo_turbo.data import (
    CaptionSample,
    DialogueSample,
    EditSample,
    Sample,
    SourceConfig,
    TextSample,
    check_sources,
    open_stream,
)
from showo_turbo.data.source_config import KINDS
from showo_turbo.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """Hold sources like the config of a training."""

    captions: list[SourceConfig] = field(default_factory=list)
    dialogues: list[SourceConfig] = field(default_factory=list)
    texts: list[SourceConfig] = field(default_factory=list)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [{"caption": f"line {number}"} for number in range(5)]
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, lines)))
    annotations = [{"image_id": 1, "caption": f"annotation {number}"} for number in range(5)]
    (tmp_path / "coco.json").write_text(json.dumps({"images": [], "annotations": annotations}))
    pyarrow.parquet.write_table(pyarrow.table({"content": ["a text"]}), tmp_path / "0.parquet")
    metadata = {"seed": "1", "image_tokenizer": "none"}
    save_file({"codes": torch.zeros(4, 64, dtype=torch.int16)}, tmp_path / "pool.safetensors", metadata)
    return tmp_path


def test_a_config_file_opens_streams(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(
        f"""
captions:
  - {{kind: coco, path: {folder}/coco.json, weight: 3}}
  - {{kind: image_folder, path: {folder}/lines.jsonl, name: lines}}
texts:
  - {{kind: parquet, path: "{folder}/*.parquet", column: content}}
"""
    )
    recipe = read_config(Recipe, [f"config={folder / 'recipe.yaml'}"])
    captions = open_stream(recipe.captions, CaptionSample, seed=0).take(800)
    assert sum(sample.text.startswith("annotation") for sample in captions) == pytest.approx(600, abs=50)
    assert {sample.text for sample in captions if "line" in sample.text} == {f"line {number}" for number in range(5)}
    (text,) = open_stream(recipe.texts, TextSample, seed=0).take(1)
    assert text == TextSample("0.parquet: row 0", "a text")


def test_options_reach_the_source(folder: Path) -> None:
    config = SourceConfig("scene_dialogues", str(folder / "pool.safetensors"), turns=1, draws_per_scene=3)
    stream = open_stream([config], DialogueSample, seed=0)
    assert len(stream.sources[0].source) == 12
    assert all(len(sample.turns) == 1 for sample in stream.take(12))


def test_bad_samples_are_written_to_the_given_log(folder: Path) -> None:
    (folder / "lines.jsonl").write_text('{"caption": "good"}\n{"caption": ""}\n')
    configs = [SourceConfig("image_folder", str(folder / "lines.jsonl"), name="mine")]
    stream = open_stream(configs, CaptionSample, seed=0, log=folder / "bad.jsonl")
    assert [sample.text for sample in stream.take(2)] == ["good", "good"]
    (line,) = (folder / "bad.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "source": "mine",
        "index": 1,
        "key": "lines.jsonl: line 2",
        "reason": "caption is empty",
    }


@pytest.mark.parametrize(
    ("config", "samples", "words"),
    [
        (SourceConfig("cocco", "coco.json"), CaptionSample, "unknown kind 'cocco'; the nearest known one is 'coco'"),
        (SourceConfig("coco", "none.json"), CaptionSample, r"file '.*none\.json' does not exist"),
        (SourceConfig("coco", "*.tar"), CaptionSample, r"no file matches '.*\*\.tar'"),
        (SourceConfig("coco", "coco.json", images="none"), CaptionSample, "folder '.*none' does not exist"),
        (SourceConfig("coco", "coco.json"), TextSample, "captions where texts are read: choose parquet, scene_texts"),
        (SourceConfig("coco", "coco.json", column="a"), CaptionSample, "kind 'coco' has no 'column'.*images"),
        (SourceConfig("webdataset", "coco.json", turns=1), CaptionSample, "no 'turns'; its options: none"),
    ],
)
def test_errors_are_raised_before_any_file_is_read(
    folder: Path, config: SourceConfig, samples: type[Sample], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=f"source '.*{config.path.replace('*', '.')}'.*{words}"):
        check_sources([config], samples)


def test_weights_and_names_are_checked_before_any_file_is_read() -> None:
    with pytest.raises(InputError, match="weights of sources"):
        check_sources([SourceConfig("coco", "none.json", weight=0.0)], CaptionSample)
    with pytest.raises(InputError, match=r"two sources are named 'coco none\.json'"):
        check_sources([SourceConfig("coco", "none.json")] * 2, CaptionSample)


def test_no_source_at_all_raises_an_error() -> None:
    with pytest.raises(InputError, match="no source of dialogues: give at least one of llava, scene_dialogues"):
        check_sources([], DialogueSample)


def test_a_file_of_another_format_raises_an_error_with_its_source(folder: Path) -> None:
    config = SourceConfig("coco", str(folder / "lines.jsonl"), name="my captions")
    with pytest.raises(InputError, match=r"source 'my captions': file '.*lines\.jsonl' does not hold an array"):
        open_stream([config], CaptionSample, seed=0)


@pytest.mark.parametrize(("setting", "words"), [("{path: a}", "kind"), ("{kind: a, path: b, wieght: 1}", "wieght")])
def test_missing_and_unknown_keys_of_a_source_raise_errors_with_their_names(setting: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_config(Recipe, [f"captions=[{setting}]"])


def test_the_documentation_matches_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    described = re.findall(r"^\| `(\w+)` \| (\w+) \|", page, flags=re.MULTILINE)
    classes = {"captions": CaptionSample, "dialogues": DialogueSample, "texts": TextSample, "edits": EditSample}
    assert {kind: classes[samples] for kind, samples in described} == {k: kind.samples for k, kind in KINDS.items()}

    (tmp_path / "recipe.yaml").write_text(re.search(r"```yaml\n(.*?)```", page, flags=re.DOTALL).group(1))
    recipe = read_config(Recipe, [f"config={tmp_path / 'recipe.yaml'}"])
    assert [config.kind for config in recipe.captions] == ["coco", "webdataset"]

    monkeypatch.chdir(tmp_path)
    (tmp_path / "captions.json").write_text('{"annotations": [{"caption": "a lake"}, {"caption": ""}]}')
    (tmp_path / "shards").mkdir()
    with tarfile.open("shards/0.tar", "w") as archive:
        (tmp_path / "a.txt").write_text("a hill")
        archive.add("a.txt")
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    values = {}
    exec(example, values)
    assert {sample.text for sample in values["samples"]} == {"a lake", "a hill"}
    assert values["state"]["position"] == 8


def test_every_option_belongs_to_a_kind() -> None:
    known = {option for kind in KINDS.values() for option in kind.options}
    everything = SourceConfig("coco", "a", 1.0, "a", "a", "a", 1, 1, True, 1, 1.0, ["count"], "a", "a", "a")
    assert set(everything.options) == known
