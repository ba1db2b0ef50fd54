"""Files of a text tokenizer: plain, bounded in size and depth, and without unbounded growth of texts."""

import json
import os
import shutil
from pathlib import Path

import pytest

from showo_turbo.errors import InputError
from showo_turbo.processing.prompts import load_text_tokenizer

DOUBLING = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}


@pytest.fixture
def folder(random_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(random_checkpoint / "phi", tmp_path / "phi"))


def change(folder: Path, **values: object) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("step", ["normalizer", "decoder"])
@pytest.mark.parametrize(
    "sequence",
    [
        [DOUBLING] * 40,
        [{"type": "Sequence", "normalizers": [DOUBLING] * 10, "decoders": [DOUBLING] * 10}] * 4,
        [{"type": "Replace", "pattern": {"Regex": ""}, "content": "a" * 10**6}],
        [{"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 10**6}],
        [{"type": "Prepend", "prepend": "a" * 10**6}],
    ],
)
def test_steps_that_lengthen_texts_without_bound_are_refused(folder: Path, step: str, sequence: list) -> None:
    change(folder, **{step: {"type": "Sequence", f"{step}s": sequence}})
    with pytest.raises(InputError, match=r"tokenizer\.json' makes texts more than 1,000 times as long") as raised:
        load_text_tokenizer(folder)
    assert len(str(raised.value)) < 400


def test_steps_of_other_tokenizers_are_read(folder: Path) -> None:
    steps = [
        {"type": "Lowercase"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Prepend", "prepend": "x"},
        *(
            {"type": "Replace", "pattern": {"Regex": rf"(?<=x|yy){word}\b"}, "content": word}
            for word in ["What", "Is"] * 20
        ),
    ]
    change(folder, normalizer={"type": "Sequence", "normalizers": steps})
    assert load_text_tokenizer(folder).encode("A  b", add_special_tokens=False, verbose=False)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "added_tokens.json"]
)
@pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "huge"])
def test_files_that_are_no_plain_files_are_refused(folder: Path, name: str, kind: str) -> None:
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(2**40)
    else:
        path.symlink_to(kind)
    with pytest.raises(InputError, match="text tokenizer"):
        load_text_tokenizer(folder)


@pytest.mark.parametrize("text", ["[" * 10**5, '{"normalizer":' * 10**5, "null", "[]"])
def test_a_tokenizer_of_another_structure_is_refused(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(InputError, match="text tokenizer"):
        load_text_tokenizer(folder)
