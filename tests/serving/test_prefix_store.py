"""Requests about the same picture share its KV cache, with the answers that they have alone."""

import pytest
import torch

from showo_turbo import ShowoPipeline, TextRequest
from showo_turbo.errors import InputError
from showo_turbo.generation.prefix_store import PrefixStore
from showo_turbo.models import showo
from showo_turbo.models.showo import Showo

QUESTIONS = ["How many stars are there?", "Describe the image.", "Where is the red circle?"]


@pytest.fixture
def pipe() -> ShowoPipeline:
    return ShowoPipeline.from_pretrained("tiny-turbo", device="cpu")


def draw_codes(pipe: ShowoPipeline, count: int) -> torch.Tensor:
    return pipe.text_to_image(["a star"] * count, seed=0, num_inference_steps=2, output_type="latent").codes


def count_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts: list[int] = []
    plain = showo.packed_forward
    monkeypatch.setattr(
        showo,
        "packed_forward",
        lambda phi, ops, rows, groups: (counts.append(len(rows)), plain(phi, ops, rows, groups))[1],
    )
    return counts


def run_in_turn(engine, requests: list[TextRequest]) -> list[list[list[int]]]:
    return [next(update.output().token_ids for update in engine.run([one]) if update.done) for one in requests]


def test_later_questions_start_from_the_picture(pipe: ShowoPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = draw_codes(pipe, 2)
    requests = [TextRequest(codes=one, prompt=question, seed=0) for question in QUESTIONS for one in codes]
    expected = [pipe.image_to_text(**vars(one)).token_ids for one in requests]
    engine, rows = pipe.engine(), count_rows(monkeypatch)
    assert run_in_turn(engine, requests) == expected
    assert (engine.store.lookups, engine.store.hits) == (6, 4)
    assert engine.store.cached_tokens == 4 * (codes.shape[1] + 3)  # mmu, soi, eoi
    shared = sum(rows)
    rows.clear()
    assert run_in_turn(pipe.engine(prefix_cache_size=0), requests) == expected
    assert sum(rows) - shared == engine.store.cached_tokens


def test_requests_that_run_together_share_too(pipe: ShowoPipeline) -> None:
    codes = draw_codes(pipe, 1)
    requests = [
        TextRequest(codes=codes, prompt=question, seed=0, decoding=decoding)
        for question in QUESTIONS
        for decoding in ("jacobi", "autoregressive")
    ]
    expected = [pipe.image_to_text(**vars(one)).token_ids for one in requests]
    engine = pipe.engine()
    for hits in (0, len(requests)):
        before = engine.store.hits
        outputs = {update.ticket: update.output().token_ids for update in engine.run(requests) if update.done}
        assert [outputs[ticket] for ticket in sorted(outputs)] == expected
        assert engine.store.hits - before == hits


def test_a_change_of_weights_drops_what_is_stored(pipe: ShowoPipeline) -> None:
    request = TextRequest(codes=draw_codes(pipe, 1), prompt=QUESTIONS[1], seed=0)
    engine = pipe.engine()
    run_in_turn(engine, [request])
    with torch.no_grad():
        pipe.model.showo.model.layers[0].mlp.fc1.weight.mul_(-1)
    assert run_in_turn(engine, [request]) == [pipe.image_to_text(**vars(request)).token_ids]
    assert engine.store.hits == 0


def test_the_least_recently_used_prefixes_are_dropped(tiny_model: Showo) -> None:
    store, values = PrefixStore(tiny_model, 100), torch.zeros(10)
    store.add([1], values)
    store.add([2], values)
    assert store.find([1]) is not None
    store.add([3], values)
    assert [store.find([one]) is not None for one in (1, 2, 3)] == [True, False, True]
    assert store.stored_bytes == 80
    store.add([4], torch.zeros(26))
    assert store.find([4]) is None
    assert store.stored_bytes == 80


def test_the_size_is_checked(pipe: ShowoPipeline) -> None:
    with pytest.raises(InputError, match="prefix_cache_size is -1"):
        pipe.engine(prefix_cache_size=-1)
