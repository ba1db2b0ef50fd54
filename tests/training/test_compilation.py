"""A compiled training has the losses and weights of one that is not compiled."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from test_loop import Regression, config, same
from test_sharding import STEPS, check_same, launch
from torch._dynamo.utils import counters
from train_sharded import NextToken, train_next_token

from showo_turbo.errors import InputError
from showo_turbo.training.compilation import compile_layers
from showo_turbo.training.loop import train

pytestmark = pytest.mark.filterwarnings("default")  # torch's own, when it compiles


@pytest.mark.slow
def test_compiled_layers_have_the_losses_of_plain_ones(tmp_path: Path) -> None:
    train_next_token(tmp_path / "plain", STEPS)
    counters.clear()
    train_next_token(tmp_path / "compiled", STEPS, compile=True)
    assert counters["stats"]["unique_graphs"] > 0
    check_same(tmp_path / "compiled", tmp_path / "plain")


@pytest.mark.slow
def test_a_compiled_run_is_resumed_without_compilation(tmp_path: Path) -> None:
    train_next_token(tmp_path / "plain", STEPS)
    train_next_token(tmp_path / "run", 3, compile=True)
    train_next_token(tmp_path / "run", STEPS)
    check_same(tmp_path / "run", tmp_path / "plain")


@pytest.mark.slow
def test_sharded_layers_are_compiled(tmp_path: Path) -> None:
    train_next_token(tmp_path / "plain", STEPS)
    launch(tmp_path / "compiled", STEPS, "fsdp2", 2, "compile")
    check_same(tmp_path / "compiled", tmp_path / "plain")


def test_a_model_without_such_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"loop.compile is true, but this training has no layers of a transformer"):
        train(Regression(), config(tmp_path, compile=True))


def test_names_of_weights_stay() -> None:
    compiled, plain = NextToken().model, NextToken().model
    compile_layers(compiled)
    assert same(compiled.state_dict(), plain.state_dict())


def test_a_copy_of_a_compiled_model_computes_with_its_own_weights() -> None:
    model = NextToken().model
    compile_layers(model)
    copy = deepcopy(model)
    ids = torch.arange(6)[None]
    with torch.no_grad():
        expected = copy(ids)
        for parameter in model.showo.model.layers.parameters():
            parameter.zero_()
        assert copy(ids).equal(expected)
