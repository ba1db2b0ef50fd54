"""Compiled layers give the same answers, and nothing that comes later makes torch compile again."""

import copy
import pickle

import pytest
import torch

from showo_turbo import ImageRequest, ShowoPipeline, TextRequest
from showo_turbo.models import row_math

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

REQUESTS = [
    ImageRequest("a red circle", seed=0, output_type="latent"),
    ImageRequest(["a dog", "two cats"], 5, 1.75, num_images_per_prompt=3, seed=1, output_type="latent"),
    ImageRequest("a cow", 9, early_exit=0.3, seed=2, output_type="latent"),
    TextRequest(codes=torch.arange(16), prompt="What?", max_new_tokens=9, seed=3),
    TextRequest(codes=torch.arange(16), prompt=["Where is it?", "What?"], max_new_tokens=9, block_length=3, seed=4),
    TextRequest(codes=torch.arange(16), prompt="Why?", decoding="autoregressive", max_new_tokens=9, seed=5),
]
"""One row and many, prompts and images together, guided or not."""


def ids(pipe: ShowoPipeline) -> list:
    """What the requests give one by one, and what they give together."""
    outputs = [
        (pipe.text_to_image if isinstance(one, ImageRequest) else pipe.image_to_text)(**vars(one)) for one in REQUESTS
    ]
    outputs += [update.output() for update in pipe.engine(max_sequences=12).run(REQUESTS) if update.done]
    return [one.codes.tolist() if hasattr(one, "codes") else one.token_ids for one in outputs]


def compile_copy(pipe: ShowoPipeline) -> ShowoPipeline:
    torch._dynamo.reset()
    return ShowoPipeline(copy.deepcopy(pipe.model), pipe.prompts, pipe.image_tokenizer, pipe.recommended).compile()


def check_compiled(pipe: ShowoPipeline, compiled: ShowoPipeline) -> None:
    torch._dynamo.utils.counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        assert ids(compiled) == ids(pipe)
    assert not torch._dynamo.utils.counters["stats"]


def test_no_step_compiles(random_pipe: ShowoPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a backend that compiles nothing, since it is torch's front end that decides when to compile."""
    compile_with = torch.compile
    monkeypatch.setattr(
        row_math.torch,
        "compile",
        lambda function, dynamic, mode: compile_with(function, dynamic=dynamic, backend="eager"),
    )
    compiled = compile_copy(random_pipe)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs == 3 * 2  # functions, one row or several
    check_compiled(random_pipe, compiled)


@pytest.mark.slow
def test_compiled_code_gives_the_same_ids(random_pipe: ShowoPipeline) -> None:
    check_compiled(random_pipe, compile_copy(random_pipe))


def test_a_model_that_is_not_compiled_can_be_pickled(random_pipe: ShowoPipeline) -> None:
    assert pickle.loads(pickle.dumps(random_pipe.model)).row_math == random_pipe.model.row_math
