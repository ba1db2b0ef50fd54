"""Published names imply tokenizers and sampling options; a cached download is used without network."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PhiConfig

from showo_turbo.checkpoints.loading import load_sampling_options, locate
from showo_turbo.checkpoints.published import PUBLISHED, published_checkpoint
from showo_turbo.configuration import ShowoConfig
from showo_turbo.errors import InputError
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty hub cache, with the network disabled."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def fill(cache: Path, name: str, source: Path) -> Path:
    """Copy a folder into the cache as a finished download, and return its path."""
    repository, revision = cache / f"models--{name.replace('/', '--')}", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    return Path(shutil.copytree(source, repository / "snapshots" / revision))


def test_the_table_is_consistent() -> None:
    for name, checkpoint in PUBLISHED.items():
        assert checkpoint.name == name
        assert checkpoint.resolution**2 == checkpoint.num_vq_tokens * 16**2
        UnmaskingScheduler.from_options(checkpoint.sampling, 8192, checkpoint.num_vq_tokens)


@pytest.mark.parametrize(
    ("name", "top_k"),
    [
        ("SJTU-Deng-Lab/Show-o-Turbo-256", {None: 200, 2: 200, 4: 200, 8: None, 16: None}),
        ("sjtu-deng-lab/show-o-turbo-512", {None: 500, 2: 200, 4: 500, 8: None, 16: None}),
        ("showlab/show-o", {None: None, 4: None, 16: None}),
    ],
)
def test_top_k_is_recommended_for_few_steps_only(
    random_pipe: ShowoPipeline, name: str, top_k: dict[int | None, int | None]
) -> None:
    recommended = published_checkpoint(name).sampling
    pipe = ShowoPipeline(random_pipe.model, random_pipe.prompts, recommended=recommended)
    for steps, expected in top_k.items():
        options = pipe.recommended.override(num_inference_steps=steps)
        assert options.top_k == expected
        assert options.num_inference_steps == steps or steps is None
    assert pipe.recommended.override(num_inference_steps=8, top_k=7).top_k == 7


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_cached_download_is_used_with_its_tokenizers(cache: Path, name: str, random_checkpoint: Path) -> None:
    published = PUBLISHED[name]
    model = fill(cache, name, random_checkpoint)
    text_tokenizer = fill(cache, published.text_tokenizer, model / "phi")
    image_tokenizer = fill(cache, published.image_tokenizer, model / "magvitv2")
    for folder in ("phi", "magvitv2"):
        shutil.rmtree(model / folder)
    (model / "generation.json").unlink()
    files = locate(name)
    assert (files.folder, files.backbone, files.text_tokenizer) == (model, text_tokenizer, text_tokenizer)
    assert files.image_tokenizer == image_tokenizer
    assert files.config.num_vq_tokens == published.num_vq_tokens
    assert load_sampling_options(files) == published.sampling


def test_a_cached_download_loads(cache: Path, random_checkpoint: Path) -> None:
    fill(cache, "somebody/model", random_checkpoint)
    loaded = ShowoPipeline.from_pretrained("somebody/model", device="cpu").model.state_dict()
    stored = load_file(random_checkpoint / "model.safetensors")
    assert all(loaded[name].equal(stored[name]) for name in stored)


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_network_files_and_folder_are_named(cache: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"model '{name}' .*pytorch_model\.bin.*in folder '{name}' here"):
        locate(name)


def test_without_network_each_component_is_named(cache: Path, random_checkpoint: Path) -> None:
    model = fill(cache, "showlab/show-o", random_checkpoint)
    shutil.rmtree(model / "magvitv2")
    (model / "phi").rename(model / "texts")
    with pytest.raises(InputError, match=r"text tokenizer 'microsoft/phi-1_5' .*merges\.txt.*path as text_tokenizer"):
        locate("showlab/show-o")
    with pytest.raises(InputError, match=r"image tokenizer 'showlab/magvitv2' .*path as image_tokenizer"):
        locate("showlab/show-o", text_tokenizer=model / "texts")


def test_a_folder_with_a_published_name_is_that_checkpoint(
    tmp_path: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(random_checkpoint, "showlab/show-o-512x512"))
    (folder / "generation.json").unlink()
    files = locate("showlab/show-o-512x512", text_tokenizer=folder / "phi")
    assert files.config.num_vq_tokens == 1024
    assert load_sampling_options(files).num_inference_steps == 50


def test_a_folder_of_shards_loads(random_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(random_checkpoint, tmp_path / "sharded"))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    stored = load_file(folder / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(stored, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = ShowoPipeline.from_pretrained(folder, device="cpu").model.state_dict()
    assert all(loaded[name].equal(stored[name]) for name in stored)
    assert len(locate(folder).weights_sha256()["transformer"]) == 64


def test_the_full_size_model_has_the_published_names_and_shapes(golden: Path) -> None:
    phi = PhiConfig(hidden_size=2048, intermediate_size=8192, qk_layernorm=True, vocab_size=ShowoConfig().vocab_size)
    with torch.device("meta"):
        state = Showo(ShowoConfig(), phi).state_dict()
    published = json.loads((golden / "showo_full_state_dict_shapes.json").read_text())
    assert {name: list(tensor.shape) for name, tensor in state.items()} == published
