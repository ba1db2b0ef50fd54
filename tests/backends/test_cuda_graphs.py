"""Recorded and replayed forward passes give the results of eager ones."""

import copy
from collections.abc import Callable

import pytest
import torch
from every_request import answers
from torch import Tensor

from showo_turbo import InputError, ShowoPipeline, TextRequest
from showo_turbo.backends import cuda_graphs
from showo_turbo.backends.cuda_graphs import CudaGraphRunner


class Repeats:
    """Replay a call by calling it again with the same tensors, as a CUDA graph does, on any device."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, call: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        result = torch.full_like(call(), torch.nan)
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            result.copy_(call())

        return replay, result


class Owner:
    """Own buffers."""


def test_replayed_passes_give_the_same_results(random_pipe: ShowoPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the third call on, every pass is replayed."""
    expected, repeats = answers(random_pipe), Repeats()
    monkeypatch.setattr(random_pipe.model, "cuda_graphs", CudaGraphRunner(repeats))
    passes = []
    run = random_pipe.model.cuda_graphs.run
    monkeypatch.setattr(random_pipe.model.cuda_graphs, "run", lambda *given: passes.append(1) or run(*given))
    for _ in range(3):
        assert answers(random_pipe) == expected
    recorded, replayed = repeats.recorded, repeats.replayed
    passes.clear()
    assert answers(random_pipe) == expected
    assert repeats.recorded == recorded
    assert repeats.replayed - replayed == len(passes) > 50


def test_prompts_of_other_lengths_share_recordings(random_pipe: ShowoPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """All passes but the first, which has the prefill."""
    repeats = Repeats()
    monkeypatch.setattr(random_pipe.model, "cuda_graphs", CudaGraphRunner(repeats))
    for prompt in ("a red circle", "a dog", "two cats"):
        random_pipe.text_to_image(prompt, 5, seed=0, output_type="latent")
    assert repeats.recorded == 4


def test_graphs_may_be_enabled_while_requests_are_running(
    random_pipe: ShowoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = TextRequest(codes=torch.arange(16), prompt="what is it?", decoding="autoregressive", max_new_tokens=4)
    expected = random_pipe.image_to_text(**vars(request)).token_ids
    engine = random_pipe.engine()
    engine.submit(request)
    engine.step()
    monkeypatch.setattr(random_pipe.model, "cuda_graphs", CudaGraphRunner(Repeats()))
    *_, last = engine.run()
    assert last.output().token_ids == expected


@pytest.mark.parametrize(
    ("bound", "value"), [("_MAX_SIGNATURES", 2), ("_MAX_RECORDED_BYTES", 10**5), ("_MAX_FREE_BYTES", 10**5)]
)
def test_dropped_recordings_change_no_result(
    random_pipe: ShowoPipeline, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    """With small limits, many passes run eagerly."""
    monkeypatch.setattr(cuda_graphs, bound, value)
    expected, repeats = answers(random_pipe), Repeats()
    monkeypatch.setattr(random_pipe.model, "cuda_graphs", CudaGraphRunner(repeats))
    for _ in range(2):
        assert answers(random_pipe) == expected


def test_a_buffer_is_reused_once_its_owner_is_deleted() -> None:
    runner, like = CudaGraphRunner(Repeats()), torch.zeros(0)
    first, second = Owner(), Owner()
    address = runner.allocate(first, (2, 3), like).data_ptr()
    assert runner.allocate(second, (2, 3), like).data_ptr() != address
    del first
    third = Owner()
    assert runner.allocate(third, (2, 4), like).data_ptr() != address
    again = runner.allocate(third, (2, 3), like)
    assert again.data_ptr() == address
    runner.release(again)
    assert runner.allocate(second, (2, 3), like).data_ptr() == address


def test_a_reused_buffer_is_zeroed() -> None:
    """Masked columns have a weight of 0, and 0 times NaN is NaN."""
    runner, like, owner = CudaGraphRunner(Repeats()), torch.zeros(0), Owner()
    runner.allocate(owner, (2, 3), like).fill_(torch.nan)
    del owner
    assert runner.allocate(Owner(), (2, 3), like).equal(torch.zeros(2, 3))


def test_inference_mode_outside_does_not_matter(random_pipe: ShowoPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_pipe.model, "cuda_graphs", CudaGraphRunner(Repeats()))
    options = {"guidance_scale": 2.0, "seed": 0, "output_type": "latent"}
    with torch.inference_mode():
        inside = [random_pipe.text_to_image("a dog", 3, **options).codes for _ in range(3)]
    outside = [random_pipe.text_to_image("a dog", 3, **options).codes for _ in range(3)]
    assert all(codes.equal(inside[0]) for codes in inside + outside)


def test_passes_run_eagerly_when_one_cannot_be_recorded(
    random_pipe: ShowoPipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = []

    def no_memory(call: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        attempts.append(call)
        raise torch.OutOfMemoryError("no memory")

    expected = random_pipe.text_to_image("a dog", 3, seed=0, output_type="latent").codes
    monkeypatch.setattr(random_pipe.model, "cuda_graphs", CudaGraphRunner(no_memory))
    for _ in range(4):
        assert random_pipe.text_to_image("a dog", 3, seed=0, output_type="latent").codes.equal(expected)
    assert len(attempts) == 1
    assert "no more forward passes are recorded, they run eagerly: no memory" in caplog.text


def test_moving_a_model_drops_its_recordings(random_pipe: ShowoPipeline) -> None:
    pipe = copy.deepcopy(random_pipe)
    pipe.model.cuda_graphs = CudaGraphRunner(Repeats())
    pipe.to("cpu")
    assert pipe.model.cuda_graphs is None


def test_a_chat_releases_outgrown_buffers(random_pipe: ShowoPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = CudaGraphRunner(Repeats())
    monkeypatch.setattr(random_pipe.model, "cuda_graphs", runner)
    released = []
    release = runner.release
    monkeypatch.setattr(runner, "release", lambda buffer: released.append(buffer.shape[3]) or release(buffer))
    chat = random_pipe.chat(codes=torch.arange(16))
    for _ in range(4):
        chat.ask("What?", max_new_tokens=20)
    assert released == sorted(set(released))
    assert len(released) >= 2


def test_graphs_need_a_gpu(random_pipe: ShowoPipeline) -> None:
    with pytest.raises(InputError, match="CUDA graphs need a CUDA device, but the model is on cpu"):
        random_pipe.use_cuda_graphs()
    assert random_pipe.model.cuda_graphs is None


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_compile_modes_with_cuda_graphs_raise(random_pipe: ShowoPipeline, mode: str) -> None:
    with pytest.raises(InputError, match=f"mode '{mode}' records CUDA graphs of single functions.*use_cuda_graphs"):
        random_pipe.compile(mode)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a CUDA device")
def test_cuda_graphs_give_the_same(random_pipe: ShowoPipeline) -> None:
    pipe = copy.deepcopy(random_pipe).to("cuda")
    expected = answers(pipe)
    pipe.use_cuda_graphs()
    for _ in range(4):
        assert answers(pipe) == expected
