"""Compiled layers give the same results, and no later call makes torch compile again."""

import copy
import pickle

import pytest
import torch
from every_request import answers

from showo_turbo import ShowoPipeline
from showo_turbo.backends import compiled_layers

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")


def compile_copy(pipe: ShowoPipeline) -> ShowoPipeline:
    torch._dynamo.reset()
    compiled = ShowoPipeline(copy.deepcopy(pipe.model), pipe.prompts, pipe.image_tokenizer, pipe.recommended)
    compiled.model.compile()
    return compiled


def check_compiled(pipe: ShowoPipeline, compiled: ShowoPipeline) -> None:
    torch._dynamo.utils.counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        assert answers(compiled) == answers(pipe)
    assert not torch._dynamo.utils.counters["stats"]


def test_no_step_compiles(random_pipe: ShowoPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a backend that compiles nothing, since it is torch's front end that decides when to compile."""
    compile_with = torch.compile
    monkeypatch.setattr(
        compiled_layers.torch,
        "compile",
        lambda function, dynamic, mode: compile_with(function, dynamic=dynamic, backend="eager"),
    )
    compiled = compile_copy(random_pipe)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs == 4 * 2  # functions, one row or several
    check_compiled(random_pipe, compiled)


@pytest.mark.slow
def test_compiled_code_gives_the_same_ids(random_pipe: ShowoPipeline) -> None:
    check_compiled(random_pipe, compile_copy(random_pipe))


def test_a_model_that_is_not_compiled_can_be_pickled(random_pipe: ShowoPipeline) -> None:
    assert pickle.loads(pickle.dumps(random_pipe.model)).layer_ops == random_pipe.model.layer_ops
