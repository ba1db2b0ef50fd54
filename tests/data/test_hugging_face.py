"""Data sets of Hugging Face: saved folders, local files, image folders, and names; rows of any content."""

import io
import json
import pickle
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from showo_turbo.data import CaptionSample, DialogueSample, SourceConfig, TextSample, check_sources, open_stream
from showo_turbo.data.digests import source_digests
from showo_turbo.data.samples import BadSampleError, Turn
from showo_turbo.data.sources.hugging_face import DatasetCaptions, DatasetDialogues, DatasetTexts
from showo_turbo.errors import InputError

pytestmark = [
    pytest.mark.skipif(find_spec("datasets") is None, reason="the datasets extra is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def png(color: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (4, 3), color).save(content, "PNG")
    return content.getvalue()


TURNS = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "red"}]


def make_rows():
    """Return a data set of a red and a blue image, a damaged one, one without an image, and an empty caption."""
    from datasets import Dataset, Features, List, Value
    from datasets import Image as ImageColumn

    images = [png("red"), png("blue"), png("red")[:40], None, png("red")]
    columns = {
        "image": [None if content is None else {"bytes": content, "path": None} for content in images],
        "caption": ["a red\nimage", "a blue image", "damaged", "no image", " "],
        "conversations": [TURNS, TURNS[:1], TURNS, TURNS, TURNS],
        "count": list(range(5)),
    }
    text = Value("string")
    turns = List({"from": text, "value": text})
    kinds = {"image": ImageColumn(), "caption": text, "conversations": turns, "count": Value("int64")}
    return Dataset.from_dict(columns, features=Features(kinds))


def test_a_saved_folder(tmp_path: Path) -> None:
    make_rows().save_to_disk(tmp_path / "saved")
    source = pickle.loads(pickle.dumps(DatasetCaptions(tmp_path / "saved")))
    assert len(source) == 5
    assert (source[0].key, source[0].text) == ("saved: row 0", "a red image")
    assert source[1].image.getpixel((0, 0)) == (0, 0, 255)
    assert source[3].image is None
    for index, reason in ((2, "cannot be read"), (4, "caption is empty")):
        with pytest.raises(BadSampleError, match=f"saved: row {index}: .*{reason}"):
            source[index]


def test_dialogues(tmp_path: Path) -> None:
    make_rows().save_to_disk(tmp_path / "saved")
    source = DatasetDialogues(tmp_path / "saved")
    assert source[0].turns == (Turn("What is it?", "red"),)
    for index, reason in ((1, "last question has no answer"), (2, "cannot be read"), (3, "image is missing")):
        with pytest.raises(BadSampleError, match=f"saved: row {index}: .*{reason}"):
            source[index]


def test_splits(tmp_path: Path) -> None:
    from datasets import DatasetDict

    rows = make_rows()
    DatasetDict({"train": rows, "test": rows.select([1])}).save_to_disk(tmp_path / "both")
    assert len(DatasetCaptions(tmp_path / "both")) == 5
    assert DatasetCaptions(tmp_path / "both", split="test")[0].text == "a blue image"
    with pytest.raises(InputError, match="no split 'dev': choose train, test"):
        DatasetCaptions(tmp_path / "both", split="dev")
    rows.save_to_disk(tmp_path / "one")
    with pytest.raises(InputError, match="has no splits"):
        DatasetCaptions(tmp_path / "one", split="train")


def test_local_files_and_texts(tmp_path: Path) -> None:
    make_rows().to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "one"}) + "\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": ""}) + "\n" + json.dumps({"text": None}) + "\n")
    assert DatasetCaptions(str(tmp_path / "rows.parquet"))[0].image.size == (4, 3)
    texts = DatasetTexts(str(tmp_path / "*.jsonl"))
    assert [texts[0].text, len(texts)] == ["one", 3]
    for index in (1, 2):
        with pytest.raises(BadSampleError, match="text is"):
            texts[index]
    with pytest.raises(BadSampleError, match="text is 0, not a text"):
        DatasetTexts(str(tmp_path / "rows.parquet"), column="count")[0]
    with pytest.raises(InputError, match=r"files end in \.jsonl, \.parquet"):
        DatasetTexts(str(tmp_path / "*.*"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"bad\.parquet' cannot be read"):
        DatasetTexts(str(tmp_path / "bad.parquet"))


def test_an_image_folder(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for color in ("red", "blue"):
        (folder / f"{color}.png").write_bytes(png(color))
    lines = [{"file_name": f"{color}.png", "text": f"a {color} image"} for color in ("red", "blue")]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = DatasetCaptions(folder)
    assert {sample.text: sample.image.getpixel((0, 0)) for sample in (source[0], source[1])} == {
        "a red image": (255, 0, 0),
        "a blue image": (0, 0, 255),
    }


def test_columns_that_do_not_fit_are_named(tmp_path: Path) -> None:
    make_rows().save_to_disk(tmp_path / "saved")
    names = "image, caption, conversations, count"
    with pytest.raises(InputError, match=f"no column 'title', but {names}"):
        DatasetCaptions(tmp_path / "saved", column="title")
    with pytest.raises(InputError, match=f"no column 'picture', but {names}"):
        DatasetDialogues(tmp_path / "saved", image_column="picture")
    with pytest.raises(InputError, match=r"column 'count' holds .*, not images"):
        DatasetCaptions(tmp_path / "saved", image_column="count")
    with pytest.raises(InputError, match=f"no column 'text', but {names}"):
        DatasetTexts(tmp_path / "saved")


def test_a_name_on_the_hub_without_a_connection_is_one_line() -> None:
    config = SourceConfig("datasets_captions", "nobody/nothing-of-this-name", split="train", subset="small")
    check_sources([config], CaptionSample)
    with pytest.raises(InputError, match=r"data set 'nobody/nothing-of-this-name' cannot be read \(\w+") as caught:
        open_stream([config], CaptionSample, seed=0)
    assert "\n" not in str(caught.value)
    assert source_digests([config])[config.title]["files"] == 0


def test_a_stream_of_a_data_set(tmp_path: Path) -> None:
    make_rows().save_to_disk(tmp_path / "saved")
    config = SourceConfig("datasets_captions", str(tmp_path / "saved"))
    stream = open_stream([config], CaptionSample, seed=0, log=tmp_path / "bad.jsonl")
    assert {sample.text for sample in stream.take(10)} == {"a red image", "a blue image", "no image"}
    assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == 2
    for kind, samples in (("datasets_dialogues", DialogueSample), ("datasets_texts", TextSample)):
        check_sources([SourceConfig(kind, str(tmp_path / "saved"))], samples)
    with pytest.raises(InputError, match="does not exist"):
        check_sources([SourceConfig("datasets_texts", str(tmp_path / "nothing.parquet"))], TextSample)
