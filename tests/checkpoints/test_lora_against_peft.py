"""Adapters are merged, or refused, as PEFT does."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from showo_turbo.checkpoints.loading import load_showo, locate
from showo_turbo.errors import InputError
from showo_turbo.models.showo import Showo

pytestmark = pytest.mark.filterwarnings("default")

LAYER = "base_model.model.showo.model.layers"

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "alpha 0": {"lora_alpha": 0},
    "alpha -1.5": {"lora_alpha": -1.5},
    "alpha of a module 0": {"alpha_pattern": {"fc1": 0}},
    "alphas by layer": {"alpha_pattern": {"layers.0.mlp.fc1": 5, r".*\.1\..*": 7.5, "fc1": 3}},
    "alpha by an anchored name": {"alpha_pattern": {"^showo.model.layers.1.mlp.fc1": 5, "^layers.0.mlp.fc1": 9}},
    "rank-stabilised": {"use_rslora": True},
    "rank-stabilised, alpha 0": {"use_rslora": True, "lora_alpha": 0},
    "rank-stabilised, patterns": {"use_rslora": True, "alpha_pattern": {"dense": 1}, "rank_pattern": {"dense": 3}},
    "ranks by layer": {"rank_pattern": {"layers.0.mlp.fc1": 1, "fc1": 3}},
    "a rank for all modules in place of 0": {"r": 0, "rank_pattern": {".*": 2}},
    "fan_in_fan_out": {"fan_in_fan_out": True},
    "no bias": {"bias": "none"},
    "all biases": {"bias": "all"},
    "biases of layers": {"bias": "lora_only"},
    "bias of the update": {"lora_bias": True, "target_modules": ["fc1", "dense"]},
    "bias of the update, rank-stabilised": {"lora_bias": True, "use_rslora": True, "target_modules": ["fc1"]},
    "modules to save": {"modules_to_save": ["final_layernorm", "lm_head"]},
    "minor components": {"init_lora_weights": "mica"},
    "null for the defaults": {"rank_pattern": {}, "modules_to_save": None, "use_rslora": None, "lora_bias": None},
    "a key of a later version": {"use_something_new": None},
    "targets without some of the factors": {"target_modules": ["fc1"]},
    "targets by whole names": {"target_modules": ["showo.model.layers.1.mlp.fc1", "1.self_attn.dense", "ense"]},
    "targets by an expression": {"target_modules": r".*\.(fc1|embed_tokens)"},
    "targets by an expression of alternatives": {"target_modules": r".*fc1|.*dense"},
    "targets by an expression of the beginning": {"target_modules": r"showo\.model\.embed_tokens"},
    "other targets excluded": {"exclude_modules": ["dense", "layers.0.mlp.fc1"]},
    "targets excluded by an expression": {"exclude_modules": r".*\.0\..*"},
    "a layer": {"layers_to_transform": 1},
    "layers": {"layers_to_transform": [0, 7]},
    "no layers": {"layers_to_transform": []},
    "layers by their pattern": {"layers_to_transform": [1], "layers_pattern": ["blocks", "layers"]},
    "layers by one pattern": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "a target that is saved as well": {"modules_to_save": ["dense"], "target_modules": ["dense", "fc1"]},
    # refused
    "alpha null": {"lora_alpha": None},
    "alpha a text": {"lora_alpha": "16"},
    "rank 0": {"r": 0},
    "rank -1": {"r": -1},
    "rank null": {"r": None},
    "rank a text": {"r": "2"},
    "rank of a module 0": {"rank_pattern": {"fc1": 0}},
    "another rank than that of the factors": {"r": 3},
    "another rank of a module than that of its factors": {"rank_pattern": {"fc1": 4}},
    "pattern null": {"alpha_pattern": None},
    "pattern a list": {"rank_pattern": ["fc1"]},
    "an invalid pattern": {"alpha_pattern": {"((": 2}},
    "another invalid pattern": {"rank_pattern": {"*fc1": 2}},
    "an unknown initialization": {"init_lora_weights": "ones"},
    "invocation tokens": {"alora_invocation_tokens": [1, 2]},
    "a module to save that was not": {"modules_to_save": ["final_layernorm"]},
    "no targets": {"target_modules": []},
    "targets of another model": {"target_modules": ["to_q", "to_k"]},
    "targets by an expression of the end": {"target_modules": "fc1"},
    "targets by an invalid expression": {"target_modules": "(fc1"},
    "all targets excluded": {"exclude_modules": ["fc1", "dense", "embed_tokens"]},
    "no such layer": {"layers_to_transform": [7]},
    "layers beside an expression": {"target_modules": ".*fc1", "layers_to_transform": [1]},
    "a pattern of layers alone": {"layers_pattern": "layers"},
    "layers of another pattern": {"layers_to_transform": [1], "layers_pattern": "blocks"},
    "layers by text": {"layers_to_transform": ["1"]},
}

SAVED_WITH = {"rank_pattern", "bias", "lora_bias", "target_modules", "modules_to_save", "init_lora_weights"}
"""Fields that decide what PEFT writes, and not only how it reads."""

REFUSED = list(CONFIGS)[list(CONFIGS).index("alpha null") :]


def make_adapter(folder: Path, model: Showo, values: dict[str, Any]) -> None:
    """Write an adapter with PEFT, with random factors; then set the fields of its config."""
    import peft

    config = {"r": 2, "lora_alpha": 3, "target_modules": ["fc1", "dense", "embed_tokens"], "init_lora_weights": False}
    torch.manual_seed(0)
    adapted = peft.get_peft_model(model, peft.LoraConfig(**config | values))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name or "modules_to_save" in name or name.endswith("bias"):
            torch.nn.init.normal_(parameter.data)
    adapted.save_pretrained(folder)


def edit(folder: Path, values: dict[str, Any]) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def merge_with_peft(model: Showo, folder: Path) -> dict[str, torch.Tensor]:
    import peft

    return peft.PeftModel.from_pretrained(model, folder).merge_and_unload().state_dict()


@pytest.fixture
def model(random_checkpoint: Path) -> Callable[[], Showo]:
    pytest.importorskip("peft")
    return lambda: load_showo(locate(random_checkpoint))


@pytest.mark.parametrize("case", CONFIGS)
def test_peft_decides(model: Callable, random_checkpoint: Path, tmp_path: Path, case: str) -> None:
    values = CONFIGS[case]
    edited_only = case in REFUSED or case.startswith("targets")
    written_with = {} if edited_only else {name: one for name, one in values.items() if name in SAVED_WITH}
    if case == "a rank for all modules in place of 0":
        written_with |= {"r": 2}
    with warnings.catch_warnings(action="ignore"):
        make_adapter(tmp_path, model(), written_with)
        edit(tmp_path, values)
        try:
            expected = merge_with_peft(model(), tmp_path)
        except Exception:  # of any type
            expected = None
    assert (expected is None) == (case in REFUSED)
    if expected is None:
        with pytest.raises(InputError) as error:
            load_showo(locate(tmp_path, base=random_checkpoint))
        assert "\n" not in str(error.value)
        return
    found = load_showo(locate(tmp_path, base=random_checkpoint)).state_dict()
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5)
