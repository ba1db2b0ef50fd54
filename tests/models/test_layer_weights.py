"""Packed and transposed weights of a layer: the same results, the same names, and in memory once."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from showo_turbo.backends import linear
from showo_turbo.backends.linear import PackedLinears, SeparateLinears, linear_modules, pack_layers, upcast
from showo_turbo.backends.quantization import quantized_layers, use_quantized_linear
from showo_turbo.configuration import BackboneConfig
from showo_turbo.models.packed_forward import combine
from showo_turbo.models.phi import PhiLanguageModel, PhiLayer

WIDTH, MLP = 32, 64


def make_model(**options: object) -> PhiLanguageModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": WIDTH, "intermediate_size": MLP, "num_hidden_layers": 2}
    config = BackboneConfig.from_plain(sizes | {"num_attention_heads": 4, "hidden_act": "gelu_new"} | options)
    model = PhiLanguageModel(config).eval()
    for bias in (one for name, one in model.named_parameters() if name.endswith("bias")):
        nn.init.normal_(bias)
    upcast(model)
    return model


def packed_model(**options: object) -> PhiLanguageModel:
    model = make_model(**options)
    assert pack_layers(model.model)
    return model


def products(layer: PhiLayer) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    normed, hidden, mixed = (torch.randn(7, WIDTH, generator=generator) for _ in range(3))
    with torch.no_grad():
        parts = [layer.linears.attention(normed, parts) for parts in (slice(-2), slice(-2, None))]
        output = combine(layer, hidden, normed, mixed)
        return layer.linears.attention(normed, slice(None)), torch.cat(parts), output


def separate_products(layer: PhiLayer) -> tuple[Tensor, ...]:
    own, layer.linears = layer.linears, SeparateLinears(layer)
    result = products(layer)
    layer.linears = own
    return result


def storages(model: nn.Module) -> dict[int, int]:
    stores = [weight.untyped_storage() for weight in model.parameters()]
    return {store.data_ptr(): store.nbytes() for store in stores}


@pytest.mark.parametrize("options", [{}, {"num_key_value_heads": 2}])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_products_equal_separate_ones(
    options: dict, large: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_MIN_LARGE_WEIGHTS", 0 if large else 2**20)
    model = make_model(**options).to(dtype)
    expected = [separate_products(layer) for layer in model.model.layers]
    pack_layers(model.model)
    for layer, products_before in zip(model.model.layers, expected, strict=True):
        assert isinstance(layer.linears, PackedLinears)
        torch.testing.assert_close(products(layer), products_before, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(separate_products(layer), products_before, rtol=1e-5, atol=1e-5)


def test_small_matrices_are_transposed_in_memory() -> None:
    modules = linear_modules(packed_model().model.layers[0])
    assert all(module.weight.t().is_contiguous() for module in modules)


@pytest.mark.parametrize("options", [{"num_key_value_heads": 2}, {"intermediate_size": 2**15}])
def test_large_or_grouped_matrices_stay_as_they_are(options: dict) -> None:
    layer = packed_model(**options).model.layers[0]
    assert not layer.linears.is_transposed
    assert all(module.weight.is_contiguous() for module in linear_modules(layer))


@pytest.mark.parametrize("large", [False, True])
def test_packing_keeps_names_values_and_memory(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_MIN_LARGE_WEIGHTS", 0 if large else 2**20)
    plain, model = make_model(), packed_model()
    states = plain.state_dict(), model.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(states[0][name].equal(states[1][name]) for name in states[0])
    assert sum(storages(model).values()) == sum(storages(plain).values())
    assert len(storages(plain)) - len(storages(model)) == 2 * (2 + 2)  # q, k and v with their biases
    ids = torch.randn(1, 5, WIDTH)
    with torch.no_grad():
        torch.testing.assert_close(model.model(ids).last_hidden_state, plain.model(ids).last_hidden_state)


@pytest.mark.parametrize("name", ["fc1", "q_proj", "v_proj", "dense", "fc2"])
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_write_into_a_parameter_is_seen(name: str, part: str) -> None:
    model = packed_model()
    layer = model.model.layers[0]
    before = products(layer)
    with torch.no_grad():
        (parameter,) = [one for own, one in layer.named_parameters() if own.endswith(f"{name}.{part}")]
        parameter.add_(1)
    assert not pack_layers(model.model)
    assert not all(map(torch.equal, products(layer), before))
    torch.testing.assert_close(products(layer), separate_products(layer), rtol=1e-5, atol=1e-5)


def replace_by_state_dict(model: PhiLanguageModel) -> None:
    model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()}, assign=True)


def replace_a_bias(model: PhiLanguageModel) -> None:
    model.model.layers[1].mlp.fc2.bias = nn.Parameter(torch.ones(WIDTH))


def replace_a_module(model: PhiLanguageModel) -> None:
    model.model.layers[1].self_attn.q_proj = nn.Linear(WIDTH, WIDTH)


@pytest.mark.parametrize("replace", [replace_by_state_dict, replace_a_bias, replace_a_module, nn.Module.double])
def test_replaced_weights_are_packed_again(replace: Callable[[PhiLanguageModel], object]) -> None:
    model = packed_model()
    replace(model)
    assert pack_layers(model.model)
    assert not pack_layers(model.model)
    layer = model.float().model.layers[1]
    pack_layers(model.model)
    torch.testing.assert_close(products(layer), separate_products(layer), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_have_weights_of_their_own(copied: Callable[[PhiLanguageModel], PhiLanguageModel]) -> None:
    model = packed_model()
    other = copied(model)
    pack_layers(other.model)
    pack_layers(model.model)
    assert not storages(model).keys() & storages(other).keys()
    assert sum(storages(other).values()) == sum(storages(model).values())


def test_training_has_contiguous_parameters_of_its_own() -> None:
    model = packed_model()
    model.train()
    assert all(one.is_contiguous() and one.untyped_storage().nbytes() == one.nbytes for one in model.parameters())
    assert not pack_layers(model.model)
    assert isinstance(model.model.layers[0].linears, SeparateLinears)
    model.eval()
    assert pack_layers(model.model)


def test_weights_with_gradients_stay_where_they_are() -> None:
    """An optimizer may hold state for them."""
    model = make_model()
    model.model(torch.randn(1, 3, WIDTH)).last_hidden_state.sum().backward()
    assert not pack_layers(model.model)


def test_adapters_fall_back_to_separate_products() -> None:
    peft = pytest.importorskip("peft")
    model = packed_model()
    layer, plain = model.model.layers[0], products(model.model.layers[0])
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "fc2"], init_lora_weights=False)
    peft.inject_adapter_in_model(config, model)
    assert not pack_layers(model.model)
    assert isinstance(layer.linears, SeparateLinears)
    for changed, before in zip(products(layer), plain, strict=True):
        assert not changed.equal(before)
    normed = torch.randn(3, WIDTH)
    with torch.no_grad():
        expected = torch.stack([module(normed) for module in linear_modules(layer)[:3]])
        assert layer.linears.attention(normed, slice(None)).equal(expected)


@pytest.mark.parametrize("quantization", ["int8", "float8"])
def test_quantized_weights_fall_back_to_separate_products(quantization: str) -> None:
    pytest.importorskip("torchao")
    model = make_model()
    use_quantized_linear(model.model.layers, quantization)
    for module in quantized_layers(model.model.layers).values():
        module.weight = nn.Parameter(module.quantize(module.weight.detach()), requires_grad=False)
    assert not pack_layers(model.model)
    assert isinstance(model.model.layers[0].linears, SeparateLinears)
    assert all(product.isfinite().all() for product in products(model.model.layers[0]))
