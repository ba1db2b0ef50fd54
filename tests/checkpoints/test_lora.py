"""LoRA adapters: merged while loading as PEFT merges them, into a base that is given or named by the adapter."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from showo_turbo.checkpoints.loading import load_sampling_options, locate
from showo_turbo.checkpoints.published import PUBLISHED
from showo_turbo.errors import InputError
from showo_turbo.pipelines.pipeline import ShowoPipeline

LINEAR = "showo.model.layers.0.mlp.fc1"
EMBEDDING = "showo.model.embed_tokens"


@pytest.fixture
def adapter(tmp_path: Path, random_checkpoint: Path) -> Path:
    """Return an adapter of rank 2 on a linear layer, the embeddings and one bias."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    torch.manual_seed(0)
    ids = load_file(random_checkpoint / "model.safetensors")[f"{EMBEDDING}.weight"].shape[0]
    tensors = {
        f"{LINEAR}.lora_A.weight": torch.randn(2, 32),
        f"{LINEAR}.lora_B.weight": torch.randn(64, 2),
        f"{EMBEDDING}.lora_embedding_A": torch.randn(2, ids),
        f"{EMBEDDING}.lora_embedding_B": torch.randn(32, 2),
        "showo.lm_head.bias": torch.randn(ids),
    }
    save_file(
        {f"base_model.model.{key}": value for key, value in tensors.items()}, folder / "adapter_model.safetensors"
    )
    write_config(folder)
    return folder


def write_config(folder: Path, **values: object) -> None:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "base_model_name_or_path": None}
    (folder / "adapter_config.json").write_text(json.dumps(config | values))


def load(folder: Path, **options: object) -> ShowoPipeline:
    return ShowoPipeline.from_pretrained(folder, device="cpu", **options)


def changes(pipe: ShowoPipeline, base: Path) -> dict[str, torch.Tensor]:
    """Return the differences from the base, by name."""
    state, before = pipe.model.state_dict(), load_file(base / "model.safetensors")
    return {name: state[name] - before[name] for name in before if not state[name].equal(before[name])}


@pytest.mark.parametrize(
    ("values", "linear", "embedding"),
    [
        ({}, 3 / 2, 3 / 2),
        ({"use_rslora": True}, 3 / math.sqrt(2), 3 / math.sqrt(2)),
        ({"alpha_pattern": {"fc1": 8}}, 4, 3 / 2),
        ({"alpha_pattern": {"fc": 8}}, 3 / 2, 3 / 2),
    ],
)
def test_an_adapter_updates_its_weights(
    adapter: Path, random_checkpoint: Path, values: dict, linear: float, embedding: float
) -> None:
    write_config(adapter, **values)
    changed = changes(load(adapter, base=random_checkpoint), random_checkpoint)
    factors = {
        key.removeprefix("base_model.model."): value
        for key, value in load_file(adapter / "adapter_model.safetensors").items()
    }
    assert changed.keys() == {f"{LINEAR}.weight", f"{EMBEDDING}.weight", "showo.lm_head.bias"}
    product = factors[f"{LINEAR}.lora_B.weight"] @ factors[f"{LINEAR}.lora_A.weight"]
    torch.testing.assert_close(changed[f"{LINEAR}.weight"], linear * product, atol=1e-5, rtol=1e-5)
    product = factors[f"{EMBEDDING}.lora_embedding_A"].T @ factors[f"{EMBEDDING}.lora_embedding_B"].T
    torch.testing.assert_close(changed[f"{EMBEDDING}.weight"], embedding * product, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", ["bin", "backbone", "default"])
def test_every_format_of_an_adapter_loads_the_same(adapter: Path, random_checkpoint: Path, layout: str) -> None:
    expected = load(adapter, base=random_checkpoint).model.state_dict()
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    file.unlink()
    if layout == "bin":
        torch.save(tensors, adapter / "adapter_model.bin")
    elif layout == "backbone":
        save_file({key.replace(".showo.", "."): value for key, value in tensors.items()}, file)
    else:
        named = {key.replace("_A.weight", "_A.default.weight"): value for key, value in tensors.items()}
        save_file({key.replace("head.bias", "head.modules_to_save.default.bias"): v for key, v in named.items()}, file)
    found = load(adapter, base=random_checkpoint).model.state_dict()
    assert all(found[name].equal(expected[name]) for name in expected)


@pytest.mark.parametrize("beside", [True, False])
def test_an_adapter_finds_the_base_in_its_config(adapter: Path, random_checkpoint: Path, beside: bool) -> None:
    if beside:
        shutil.copytree(random_checkpoint, adapter.parent / "base")
    write_config(adapter, base_model_name_or_path="../base" if beside else str(random_checkpoint))
    pipe = load(adapter, dtype="bfloat16")
    assert pipe.recommended.num_inference_steps == 4
    assert pipe.model.dtype == torch.bfloat16
    (adapter / "generation.json").write_text('{"num_inference_steps": 2}')
    assert load(adapter).recommended.num_inference_steps == 2


def test_an_adapter_with_a_published_name_has_its_sampling_options(
    adapter: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of its base: guidance is distilled into it."""
    shutil.copytree(random_checkpoint, adapter.parent / "showlab" / "show-o")
    (adapter.parent / "showlab" / "show-o" / "generation.json").unlink()
    write_config(adapter, base_model_name_or_path="showlab/show-o")
    (adapter.parent / "SJTU-Deng-Lab").mkdir()
    adapter.rename(adapter.parent / "SJTU-Deng-Lab" / "Show-o-Turbo-256")
    monkeypatch.chdir(adapter.parent)
    own = random_checkpoint / "magvitv2", random_checkpoint / "phi"
    files = locate("SJTU-Deng-Lab/Show-o-Turbo-256", *own)
    assert load_sampling_options(files) == PUBLISHED["SJTU-Deng-Lab/Show-o-Turbo-256"].sampling
    assert load_sampling_options(locate("showlab/show-o", *own)) == PUBLISHED["showlab/show-o"].sampling


def test_adapters_that_cannot_be_merged_are_refused(adapter: Path, random_checkpoint: Path, tiny_folder: Path) -> None:
    with pytest.raises(InputError, match="does not name its base: name it as base"):
        load(adapter)
    with pytest.raises(InputError, match=r"there it is \(\d+, 64\): name the base it was made for"):
        load(adapter, base=tiny_folder)
    with pytest.raises(InputError, match=r"is not an adapter: it has no adapter_config\.json"):
        load(random_checkpoint, base=random_checkpoint)
    for values, kind in (({"use_dora": True}, "DORA"), ({"peft_type": "IA3"}, "IA3")):
        write_config(adapter, **values)
        with pytest.raises(InputError, match=f"is of kind '{kind}': only LORA"):
            load(adapter, base=random_checkpoint)
    write_config(adapter, init_lora_weights="pissa")
    with pytest.raises(InputError, match=r"was initialized as 'pissa' .*, which replaces its base's weights"):
        load(adapter, base=random_checkpoint)


def test_an_adapter_of_an_adapter_is_refused(adapter: Path, random_checkpoint: Path, tmp_path: Path) -> None:
    write_config(adapter, base_model_name_or_path=str(random_checkpoint))
    for folder, base in ((shutil.copytree(adapter, tmp_path / "second"), "../adapter"), (adapter, ".")):
        write_config(folder, base_model_name_or_path=base)
        with pytest.raises(InputError, match="which is an adapter itself"):
            load(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("base_model.model.lora.weight", "there is no such weight"),
        (f"base_model.model.{LINEAR}.lora_magnitude_vector", "there is no such weight"),
        ("base_model.model.showo.lm_head.lora_A.weight", "no fitting pair of LoRA factors for showo.lm_head"),
    ],
)
def test_unknown_tensors_are_named(adapter: Path, random_checkpoint: Path, name: str, message: str) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file(load_file(file) | {name: torch.zeros(2, 2)}, file)
    with pytest.raises(InputError, match=message):
        load(adapter, base=random_checkpoint)


@pytest.mark.parametrize("field", ["alpha_pattern", "rank_pattern"])
@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(\w|\d|[a-z_.]|.)+[#$]", "takes too long to match"),
        (r"(\w|.|[a-z])+(\w|.|[0-9])+[#$]", "takes too long to match"),
        ("((", "is no regular expression"),
        ("(" * 400 + ")" * 400, "is no regular expression"),
        ("[z-a]", "is no regular expression"),
        ("(?<=a*)b", "is no regular expression"),
        ("a" * 5000, r"is no regular expression \(it has 5,000 characters"),
    ],
)
def test_patterns_that_hang_or_are_invalid_are_named(
    adapter: Path, random_checkpoint: Path, field: str, pattern: str, message: str
) -> None:
    write_config(adapter, **{field: {pattern: 2}})
    with pytest.raises(InputError, match=rf"adapter'.* has {field}.*{message}|adapter'.* has pattern.*{message}"):
        load(adapter, base=random_checkpoint)


@pytest.mark.parametrize("pattern", [r"([a-z0-9_.]+)+X", r"(.*)*(.*)*(.*)*(.*)*X", r"((\w+\.?)+)+[XY]"])
def test_patterns_that_hang_elsewhere_match_nothing(adapter: Path, random_checkpoint: Path, pattern: str) -> None:
    expected = load(adapter, base=random_checkpoint).model.state_dict()
    write_config(adapter, alpha_pattern={pattern: 2})
    found = load(adapter, base=random_checkpoint).model.state_dict()
    assert all(found[name].equal(expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lora_alpha": 10**400}, "lora_alpha of .* choose a finite number"),
        ({"lora_alpha": math.nan}, "lora_alpha of .* is nan: choose a finite number"),
        ({"r": 10**6}, "LoRA factors of rank 2 and 2 for .* its config says 1000000"),
        ({"trainable_token_indices": [1, 2]}, "uses trainable_token_indices, which cannot be merged here"),
        ({"layer_replication": [[0, 2]]}, "uses layer_replication, which cannot be merged here"),
        ({"base_model_name_or_path": ["a"]}, r"has base_model_name_or_path \['a'\]: expected a text"),
        ({"modules_to_save": [1]}, "has modules_to_save 1: expected a text"),
        ({"target_modules": ["q_proj"]}, "holds LoRA factors of other modules than its target_modules"),
        ({"target_modules": r"(\w|.|[a-z])+(\w|.|[0-9])+[#$]"}, "has pattern .* which takes too long to match"),
        ({"exclude_modules": 3}, "has exclude_modules 3: expected a list of texts"),
        ({"modules_to_save": ["final_layernorm"]}, "says that it replaces final_layernorm"),
    ],
)
def test_an_invalid_field_of_the_config_is_named(
    adapter: Path, random_checkpoint: Path, values: dict, message: str
) -> None:
    write_config(adapter, **values)
    with pytest.raises(InputError, match=rf"adapter.*{message}"):
        load(adapter, base=random_checkpoint)


def test_the_bias_of_an_update_needs_its_field(adapter: Path, random_checkpoint: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file(load_file(file) | {f"base_model.model.{LINEAR}.lora_B.bias": torch.ones(64)}, file)
    with pytest.raises(InputError, match=r"holds a lora_B\.bias, but its config does not set lora_bias"):
        load(adapter, base=random_checkpoint)


def test_an_adapter_without_weights_is_refused(adapter: Path, random_checkpoint: Path) -> None:
    save_file({}, adapter / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"adapter_model\.safetensors' holds no weights"):
        load(adapter, base=random_checkpoint)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("use_rslora", [False, True])
def test_the_merge_equals_that_of_peft(random_checkpoint: Path, tmp_path: Path, use_rslora: bool) -> None:
    peft = pytest.importorskip("peft")
    model = load(random_checkpoint).model
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        use_rslora=use_rslora,
        target_modules=["q_proj", "dense", "fc1", "embed_tokens"],
        rank_pattern={"fc1": 3},
        alpha_pattern={"layers.0.mlp.fc1": 5},
        modules_to_save=["final_layernorm"],
        init_lora_weights=False,
    )
    tuned = peft.get_peft_model(model, config)
    tuned.save_pretrained(tmp_path / "adapter")
    expected = tuned.merge_and_unload().state_dict()
    found = load(tmp_path / "adapter", base=random_checkpoint).model.state_dict()
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-6)
