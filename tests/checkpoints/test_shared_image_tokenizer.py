"""A shipped model uses the image tokenizer of another one; what is saved from it is whole."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from showo_turbo.checkpoints.loading import locate
from showo_turbo.checkpoints.names import SHARED_IMAGE_TOKENIZER, SHIPPED_MODELS, resolve
from showo_turbo.errors import InputError
from showo_turbo.files import sha256_of_files
from showo_turbo.pipelines.pipeline import ShowoPipeline

PROMPT = "a red circle"
OWN = resolve("tiny") / "magvitv2"


def load(folder: Path | str, **options: object) -> ShowoPipeline:
    return ShowoPipeline.from_pretrained(folder, device="cpu", **options)


@pytest.fixture(scope="module")
def turbo() -> ShowoPipeline:
    return load("tiny-turbo")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the shipped model that has no image tokenizer of its own."""
    return Path(shutil.copytree(resolve("tiny-turbo"), tmp_path / "copy"))


def write_name(folder: Path, name: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {SHARED_IMAGE_TOKENIZER: name}))


def test_no_large_file_is_shipped_twice() -> None:
    files = [file for name in SHIPPED_MODELS for file in resolve(name).rglob("*") if file.stat().st_size > 100_000]
    digests = Counter(map(sha256_of_files, files))
    assert [file for file in files if digests[sha256_of_files(file)] > 1] == []


def test_the_image_tokenizer_of_the_named_model_is_loaded_and_hashed(turbo: ShowoPipeline) -> None:
    files = locate("tiny-turbo")
    assert files.image_tokenizer == OWN
    assert files.weights_sha256()["image_tokenizer"] == sha256_of_files(OWN / "model.safetensors")
    expected = load("tiny-turbo", image_tokenizer=OWN).image_tokenizer.state_dict()
    assert all(turbo.image_tokenizer.state_dict()[name].equal(expected[name]) for name in expected)


def test_a_copy_of_the_folder_draws_the_same(turbo: ShowoPipeline, copy: Path) -> None:
    assert load(copy).text_to_image(PROMPT, seed=0).images == turbo.text_to_image(PROMPT, seed=0).images


def test_a_saved_model_is_whole(turbo: ShowoPipeline, tmp_path: Path) -> None:
    turbo.save_pretrained(tmp_path / "saved")
    assert locate(tmp_path / "saved").image_tokenizer == tmp_path / "saved" / "magvitv2"
    assert SHARED_IMAGE_TOKENIZER not in json.loads((tmp_path / "saved" / "config.json").read_text())
    assert load(tmp_path / "saved").text_to_image(PROMPT, seed=0).images == turbo.text_to_image(PROMPT, seed=0).images


@pytest.mark.parametrize("name", ["tinny", "../tiny", "/etc", "showlab/magvitv2", "", 3, None, ["tiny"]])
def test_anything_but_a_shipped_model_is_refused(copy: Path, name: object) -> None:
    write_name(copy, name)
    with pytest.raises(InputError, match=r"shipped_image_tokenizer .*: expected a shipped model, tiny, tiny-turbo"):
        locate(copy)


def test_an_own_image_tokenizer_takes_precedence(copy: Path, tmp_path: Path) -> None:
    shutil.copytree(OWN, copy / "magvitv2")
    assert locate(copy).image_tokenizer == copy / "magvitv2"
    elsewhere = shutil.copytree(OWN, tmp_path / "images")
    assert locate("tiny-turbo", image_tokenizer=elsewhere).image_tokenizer == elsewhere


def test_another_codebook_is_refused(copy: Path) -> None:
    write_name(copy, "clipart")
    with pytest.raises(InputError, match="they do not belong together"):
        load(copy)
