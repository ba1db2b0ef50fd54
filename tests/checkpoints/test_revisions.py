"""Revisions of hub names: passed to the hub, and no part of the name otherwise."""

from pathlib import Path

import pytest

from showo_turbo.checkpoints.names import TEXT_TOKENIZER, resolve, with_revision
from showo_turbo.checkpoints.published import PUBLISHED, published_checkpoint
from showo_turbo.errors import InputError
from showo_turbo.pipelines.pipeline import ShowoPipeline


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, random_checkpoint: Path) -> list[tuple[str, str | None]]:
    """Return the names and revisions that are downloaded; each is a checkpoint with random weights."""
    found = []

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        found.append((name, revision))
        return str(random_checkpoint)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return found


@pytest.mark.parametrize("revision", ["main", "v1.0", "0" * 40, "refs/pr/3"])
def test_a_revision_is_passed_to_the_hub(downloads: list, revision: str) -> None:
    ShowoPipeline.from_pretrained("owner/name", revision=revision, device="cpu")
    ShowoPipeline.from_pretrained(f"owner/name@{revision}", device="cpu")
    resolve(f"owner/tokenizer@{revision}", TEXT_TOKENIZER)
    assert downloads == [("owner/name", revision), ("owner/name", revision), ("owner/tokenizer", revision)]


def test_without_a_revision_the_newest_is_downloaded(downloads: list) -> None:
    resolve("owner/name")
    assert downloads == [("owner/name", None)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_name_with_a_revision_implies_the_same(name: str) -> None:
    assert published_checkpoint(f"{name.lower()}@abc") is PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "revision"), [("tiny", "main"), ("owner/name@main", "main"), ("owner/name", "a b"), ("owner/name", "")]
)
def test_an_invalid_revision_is_refused(downloads: list, name: str, revision: str) -> None:
    with pytest.raises(InputError, match=r"revision is .*: expected a branch, tag or commit, and a hub name"):
        ShowoPipeline.from_pretrained(name, revision=revision)
    assert not downloads


def test_a_folder_has_no_revision(random_checkpoint: Path) -> None:
    with pytest.raises(InputError, match="expected a branch, tag or commit, and a hub name"):
        with_revision(random_checkpoint, "main")


@pytest.mark.parametrize("resolution", [256, 512])
def test_the_later_name_of_show_o_turbo_implies_the_same(resolution: int) -> None:
    former, later = (PUBLISHED[f"SJTU-Deng-Lab/{name}-{resolution}"] for name in ("Show-o-Turbo", "UniCMs"))
    assert vars(former) | {"name": later.name} == vars(later)
