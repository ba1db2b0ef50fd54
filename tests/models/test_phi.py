"""The language model equals transformers' `PhiForCausalLM`, bit by bit, and its config transformers' `PhiConfig`."""

from typing import Any

import pytest
import torch
from transformers import PhiConfig, PhiForCausalLM

from showo_turbo.configuration import BackboneConfig, load_phi_config
from showo_turbo.files import write_json
from showo_turbo.library_configs import create_config
from showo_turbo.models.phi import PhiLanguageModel, PhiRotaryEmbedding

SIZES = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def both_models(**options: Any) -> tuple[PhiForCausalLM, PhiLanguageModel]:
    config = PhiConfig(**SIZES, max_position_embeddings=64, hidden_act="gelu_pytorch_tanh", **options)
    torch.manual_seed(0)
    theirs = PhiForCausalLM(config)
    torch.manual_seed(0)
    return theirs, PhiLanguageModel(config)


@pytest.mark.parametrize("options", [{}, {"qk_layernorm": True}, {"pad_token_id": 3}, {"num_key_value_heads": 2}])
def test_initial_weights_equal_those_of_transformers(options: dict[str, Any]) -> None:
    theirs, ours = (model.state_dict() for model in both_models(**options))
    assert list(ours) == list(theirs)
    assert all(ours[name].equal(theirs[name]) for name in theirs)


@pytest.mark.parametrize("options", [{}, {"qk_layernorm": True}, {"rope_theta": 500.0, "partial_rotary_factor": 0.25}])
@pytest.mark.parametrize("length", [1, 5, 31])
def test_hidden_states_and_gradients_equal_those_of_transformers(options: dict[str, Any], length: int) -> None:
    theirs, ours = both_models(**options)
    inputs = torch.randn(2, length, 32)
    open_mask = torch.rand(2, 1, length, length) > 0.3
    for mask in (None, open_mask | torch.eye(length, dtype=torch.bool)):
        for positions in (None, torch.arange(length)[None] + 7):
            given = {"attention_mask": mask, "position_ids": positions}
            expected = theirs.model(inputs_embeds=inputs, use_cache=False, **given).last_hidden_state
            found = ours.model(inputs_embeds=inputs, **given).last_hidden_state
            assert found.equal(expected)
            for model, hidden in ((theirs, expected), (ours, found)):
                model.zero_grad()
                model.lm_head(hidden).square().sum().backward()
            pairs = zip(theirs.parameters(), ours.parameters(), strict=True)
            assert all(their.grad is our.grad is None or their.grad.equal(our.grad) for their, our in pairs)


def test_recomputed_activations_have_the_same_gradients() -> None:
    _, model = both_models(qk_layernorm=True)
    inputs, grads = torch.randn(2, 9, 32), []
    for recompute in (False, True):
        model.model.gradient_checkpointing = recompute
        model.zero_grad()
        model.train().model(inputs).last_hidden_state.sum().backward()
        grads.append([weight.grad.clone() for weight in model.model.layers.parameters()])
    assert all(map(torch.equal, *grads))


def test_scaled_rotary_embeddings_are_those_of_transformers() -> None:
    scaling = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    theirs, ours = both_models(rope_parameters=scaling)
    assert not isinstance(ours.model.rotary_emb, PhiRotaryEmbedding)
    inputs = torch.randn(1, 8, 32)
    assert ours.model(inputs).last_hidden_state.equal(theirs.model(inputs_embeds=inputs).last_hidden_state)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"rope_theta": 5e3, "partial_rotary_factor": 0.25},
        {"rope_parameters": {"rope_type": "default"}},
        {"rope_parameters": {"rope_theta": 3e3}, "rope_theta": 5e3},
        {"rope_parameters": None, "rope_scaling": None},
        {"num_key_value_heads": None, "eos_token_id": None, "unknown": 1},
    ],
)
def test_plain_configs_equal_those_of_transformers(values: dict[str, Any]) -> None:
    plain = BackboneConfig.from_plain(values)
    assert plain is not None
    expected = create_config(PhiConfig, dict(values)).to_dict()
    assert plain.to_dict() == {name: expected[name] for name in plain.to_dict()}


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": "3"},
        {"hidden_size": 3.0},
        {"layer_norm_eps": 1},
        {"rope_parameters": [1]},
        {"qk_layernorm": 1},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
    ],
)
def test_other_configs_are_left_to_transformers(values: dict[str, Any]) -> None:
    assert BackboneConfig.from_plain(values) is None


def test_a_scaled_config_is_read_by_transformers(tmp_path) -> None:
    write_json(tmp_path / "config.json", SIZES | {"rope_scaling": {"type": "linear", "factor": 2.0}})
    config = load_phi_config(tmp_path, 60)
    assert isinstance(config, PhiConfig)
    assert (config.vocab_size, config.qk_layernorm, config.rope_parameters["factor"]) == (60, True, 2.0)
