"""Shards of encoded images: what is damaged, missing or mixed is found, by sample where possible."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from showo_turbo.data.encoded_shards import Shard, ShardHeader, write_shard
from showo_turbo.data.samples import BadSampleError
from showo_turbo.data.sources.encoded import EncodedSource
from showo_turbo.errors import InputError

HEADER = ShardHeader("captions", 0, 2, "0" * 64, 32, (("photos.jsonl: line 9", "caption is empty"),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards of three captions each, with codes 0 to 95."""
    codes = torch.arange(96).reshape(6, 1, 16)
    for number in range(2):
        rows = range(3 * number, 3 * number + 3)
        records = [{"key": f"line {row}", "text": f"äpfel {row}"} for row in rows]
        header = replace(HEADER, shard=number)
        write_shard(tmp_path / f"captions-{number:05}.safetensors", header, records, codes[rows.start : rows.stop])
    return tmp_path


@pytest.mark.parametrize("path", ["", "captions-*.safetensors", "captions-{00000..00001}.safetensors"])
def test_samples_in_any_order_by_folder_and_pattern(folder: Path, path: str) -> None:
    source = pickle.loads(pickle.dumps(EncodedSource("captions", folder / path)))
    assert len(source) == 6
    for index in (5, 0, 3, 2):
        sample = source[index]
        assert (sample.key, sample.text) == (f"line {index}", f"äpfel {index}")
        assert torch.equal(sample.image, torch.arange(16 * index, 16 * index + 16))
        assert sample.image.untyped_storage().nbytes() == 16 * 8  # not the shard's
    assert source.shards[0].header.bad == HEADER.bad


def test_codes_of_large_codebooks_keep_their_value(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", replace(HEADER, shards=1), [{"key": "a", "text": "b"}], torch.full((1, 1, 4), 70_000))
    assert Shard(tmp_path / "a")[0][1].tolist() == [[70_000] * 4]


def test_a_shard_without_samples(tmp_path: Path) -> None:
    write_shard(tmp_path / "captions-00000.safetensors", replace(HEADER, shards=1), [], torch.zeros(0, 1, 16).long())
    assert len(EncodedSource("captions", tmp_path)) == 0


@pytest.mark.parametrize("what", ["äpfel 1".encode(), torch.arange(16, 20).to(torch.int16).numpy().tobytes()])
def test_a_damaged_sample_is_bad_and_others_stay_usable(folder: Path, what: bytes) -> None:
    file = folder / "captions-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[content.index(what) + 2] ^= 1
    file.write_bytes(content)
    source = EncodedSource("captions", folder)
    with pytest.raises(BadSampleError, match=r"captions-00000.safetensors: sample 1: sample is damaged .*checksum"):
        source[1]
    assert [source[index].key for index in (0, 2)] == ["line 0", "line 2"]


def test_missing_truncated_and_other_files_are_refused(folder: Path) -> None:
    first, second = folder / "captions-00000.safetensors", folder / "captions-00001.safetensors"
    content = second.read_bytes()
    for damage in (content[:-5], content[:40], b""):
        second.write_bytes(damage)
        with pytest.raises(InputError, match=r"'.*captions-00001\.safetensors' is truncated or damaged"):
            EncodedSource("captions", folder)
    save_file({"codes": torch.zeros(3)}, second)
    with pytest.raises(InputError, match="holds no encoded samples"):
        EncodedSource("captions", folder)
    second.unlink()
    with pytest.raises(InputError, match="1 of 2 shards are missing, number 1 first"):
        EncodedSource("captions", folder)
    first.unlink()
    with pytest.raises(InputError, match="has no shards of captions"):
        EncodedSource("captions", folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_tokenizer": "1" * 64}, "have image_tokenizer"),
        ({"resolution": 64}, "have resolution"),
        ({"shards": 3}, "have shards"),
        ({"kind": "dialogues"}, "have kind"),
    ],
)
def test_shards_of_several_encodings_are_refused(folder: Path, changes: dict, words: str) -> None:
    header = replace(HEADER, shard=1, **changes)
    write_shard(
        folder / "captions-00001.safetensors", header, [{"key": "a", "text": "b"}], torch.zeros(1, 1, 16).long()
    )
    with pytest.raises(InputError, match=words):
        EncodedSource("captions", folder)
