"""Continuous batching: the states of a request do not depend on the requests beside it; on random models."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from threading import Barrier, Thread
from weakref import WeakSet, ref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation import image_denoiser, scheduler, text_forward
from showo_turbo.generation import trajectory as steps
from showo_turbo.generation.drafts import Drafts
from showo_turbo.generation.image_denoiser import ImageDenoiser, masked_state
from showo_turbo.generation.kv_cache import allocate_kv_buffer
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.generation.text_decoder import TextDecoder, greedy, sampler
from showo_turbo.generation.trajectory import ForwardInput, State, Step, trajectory
from showo_turbo.models.showo import Showo
from showo_turbo.serving.engine import Engine, Job, Update
from showo_turbo.vocabulary import Vocabulary

MakeModel = Callable[[int], Showo]
NUM_CODES = 16
few = settings(max_examples=40, deadline=None, derandomize=True)
questions = st.lists(st.integers(0, 18), min_size=1, max_size=5)


@dataclass(frozen=True)
class Drawing:
    """Request images."""

    prompt: list[int]
    options: SamplingOptions = field(default_factory=lambda: SamplingOptions(num_inference_steps=4))
    images: int = 1
    seed: int = 0

    def prepare(self, model: Showo, vocabulary: Vocabulary) -> Job:
        scheduler = UnmaskingScheduler.from_options(self.options, vocabulary.codebook_size, NUM_CODES)
        begin, end = [vocabulary.t2i_id, vocabulary.end_of_text_id], [vocabulary.end_of_text_id]
        prompts, generator = [[*begin, *self.prompt, *end]] * self.images, torch.Generator().manual_seed(self.seed)
        scale = self.options.guidance_scale
        denoiser = ImageDenoiser(model, vocabulary, scheduler, prompts, NUM_CODES, [*begin, *end], scale, generator)
        start, batch_key = masked_state(self.images, NUM_CODES, vocabulary), (self.options, self.images)
        return Job(denoiser, start, vocabulary_codes(vocabulary), batch_key)


@dataclass(frozen=True)
class Answering:
    """Request answers, one per question."""

    questions: list[list[int]]
    max_new_tokens: int = 10
    block_length: int = 4
    sliding_window: bool = False
    drafts: bool = False
    temperature: float = 0.0
    seed: int = 0

    def prepare(self, model: Showo, vocabulary: Vocabulary) -> Job:
        image = [vocabulary.soi_id, *(vocabulary.image_offset + code for code in (3, 1, 4, 1)), vocabulary.eoi_id]
        prompts = [[vocabulary.mmu_id, *image, vocabulary.end_of_text_id, *question] for question in self.questions]
        generator = torch.Generator().manual_seed(self.seed)
        choose = sampler(self.temperature, generator=generator) if self.temperature else greedy
        length = 1 if self.temperature else self.block_length
        drafts, window = Drafts() if self.drafts else None, self.sliding_window
        decoder = TextDecoder(
            model, vocabulary, prompts, self.max_new_tokens, length, choose, sliding_window=window, drafts=drafts
        )
        guesses = torch.randint(vocabulary.size, (len(prompts), self.max_new_tokens), generator=generator)
        options = self.max_new_tokens, length, self.sliding_window, self.drafts
        batch_key = None if self.temperature else options
        return Job(decoder, decoder.start(guesses), vocabulary_codes(vocabulary), batch_key)


Request = Drawing | Answering


def vocabulary_codes(vocabulary: Vocabulary) -> Callable[[State], Tensor]:
    return lambda state: vocabulary.ids_to_codes(state.ids)


def make_engine(model: Showo, vocabulary: Vocabulary, max_sequences: int = 32) -> Engine[Request]:
    return Engine(model, lambda request: request.prepare(model, vocabulary), max_sequences)


def states_of_single(request: Request, model: Showo, vocabulary: Vocabulary) -> list[State]:
    job = request.prepare(model, vocabulary)
    return list(trajectory(job.start, job.decoder.advance))[1:]


def assert_same(states: list[State], expected: list[State]) -> None:
    assert len(states) == len(expected)
    for state, one in zip(states, expected, strict=True):
        assert state.ids.equal(one.ids)
        assert state.settled.equal(one.settled)
        assert state.forward_passes == one.forward_passes


drawings = st.builds(
    Drawing,
    prompt=st.lists(st.integers(0, 18), max_size=6),
    options=st.builds(
        SamplingOptions,
        num_inference_steps=st.integers(1, 6),
        guidance_scale=st.sampled_from([0.0, 0.0, 1.75, 5.0]),
        top_k=st.sampled_from([None, 3]),
        temperature=st.sampled_from([0.0, 1.0, 2.5]),
        schedule=st.sampled_from(["cosine", "linear"]),
        order=st.sampled_from(["confidence", "halton", "bayer"]),
        sampled_steps=st.sampled_from([None, None, 0, 2]),
        sampled_codes=st.sampled_from([None, 1, 3]),
    ),
    images=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
answerings = st.builds(
    Answering,
    questions=st.lists(questions, min_size=1, max_size=2),
    max_new_tokens=st.integers(1, 10),
    block_length=st.integers(1, 6),
    sliding_window=st.booleans(),
    drafts=st.booleans(),
    temperature=st.sampled_from([0.0, 0.0, 1.0]),
    seed=st.integers(0, 1000),
)
arrivals = st.lists(st.tuples(st.integers(0, 6), drawings | answerings), min_size=1, max_size=6)


def run_arrivals(engine: Engine[Request], arrivals: list[tuple[int, Request]]) -> Iterator[list[Update[Request]]]:
    """Yield the updates of every step while requests arrive before given steps."""
    waiting, number = sorted(arrivals, key=lambda arrival: arrival[0]), 0
    while waiting or engine.pending:
        while waiting and waiting[0][0] <= number:
            engine.submit(waiting.pop(0)[1])
        yield engine.step()
        number += 1


@few
@given(model_seed=st.integers(0, 2), arrivals=arrivals, max_sequences=st.integers(4, 12))
def test_states_equal_those_of_a_single_request(
    make_random_model: MakeModel,
    random_vocabulary: Vocabulary,
    model_seed: int,
    arrivals: list[tuple[int, Request]],
    max_sequences: int,
) -> None:
    """Images and texts with all options arrive at any time; no request overtakes, pauses, or exceeds the limit."""
    model = make_random_model(model_seed)
    updates: dict[int, list[Update[Request]]] = {}
    last_steps: dict[int, int] = {}
    for number, step in enumerate(run_arrivals(make_engine(model, random_vocabulary, max_sequences), arrivals)):
        tickets = [update.ticket for update in step]
        jobs = [update.request.prepare(model, random_vocabulary) for update in step]
        assert tickets == sorted(tickets)
        assert sum(job.decoder.sequences for job in jobs) <= max_sequences
        for update in step:
            assert update.ticket == len(updates) or last_steps[update.ticket] == number - 1
            updates.setdefault(update.ticket, []).append(update)
            last_steps[update.ticket] = number

    assert len(updates) == len(arrivals)
    for own in updates.values():
        assert [update.done for update in own] == [*[False] * (len(own) - 1), True]
        assert_same([update.state for update in own], states_of_single(own[0].request, model, random_vocabulary))


def test_requests_share_one_forward_pass(make_random_model: MakeModel, random_vocabulary: Vocabulary) -> None:
    """Logits of a fully masked unconditional image are computed once per model, in one more pass."""
    model = make_random_model(0)
    passes = []
    model.showo.model.final_layernorm.register_forward_hook(lambda *_: passes.append(1))
    engine = make_engine(model, random_vocabulary)
    guided = SamplingOptions(num_inference_steps=5, guidance_scale=2.0)
    updates = list(engine.run([Drawing([1, 2]), Drawing([3], guided), Answering([[4], [5, 6]]), Answering([[7]])]))
    assert len(passes) == 1 + max(update.state.forward_passes for update in updates)


def test_equal_requests_get_their_own_results(make_random_model: MakeModel, random_vocabulary: Vocabulary) -> None:
    model, request = make_random_model(0), Drawing([1, 2], seed=3)
    done = [update for update in make_engine(model, random_vocabulary).run([request, request]) if update.done]
    assert [update.ticket for update in done] == [0, 1]
    for update in done:
        assert_same([update.state], states_of_single(request, model, random_vocabulary)[-1:])


def test_a_large_request_is_not_overtaken_by_small_ones(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    engine = make_engine(make_random_model(0), random_vocabulary, max_sequences=4)
    steps = [SamplingOptions(num_inference_steps=count) for count in (2, 3)]
    large, small = Drawing([1], steps[1], images=4), Drawing([2], steps[0])
    for request in (small, large, small):
        engine.submit(request)
    taken = [[update.ticket for update in engine.step()] for _ in range(7)]
    assert taken == [[0], [0], [1], [1], [1], [2], [2]]
    assert engine.step() == []


def test_a_cancelled_request_gets_no_further_updates(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    """For a running request and a waiting one; the others are not affected, and the places are free again."""
    model = make_random_model(0)
    engine = make_engine(model, random_vocabulary, max_sequences=3)
    kept, other = Drawing([1]), Answering([[2], [3]])
    tickets = [engine.submit(request) for request in (kept, other, other, kept)]
    received = engine.step()
    assert [update.ticket for update in received] == tickets[:2]
    engine.cancel(tickets[1])
    engine.cancel(tickets[2])
    received += list(engine.run())
    engine.cancel(tickets[0])
    for ticket in (tickets[0], tickets[3]):
        states = [update.state for update in received if update.ticket == ticket]
        assert_same(states, states_of_single(kept, model, random_vocabulary))
    assert len(received) == 1 + 2 * 4
    assert engine.pending == 0


def test_a_request_cancelled_during_a_step_gets_no_further_updates(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    model = make_random_model(0)
    engine = make_engine(model, random_vocabulary)
    kept, cancelled = engine.submit(Drawing([1])), engine.submit(Drawing([2]))
    hook = model.showo.model.final_layernorm.register_forward_hook(lambda *_: engine.cancel(cancelled))
    assert [update.ticket for update in engine.step()] == [kept]
    hook.remove()
    assert {update.ticket for update in engine.run()} == {kept}


def test_a_request_cancelled_between_updates_gets_no_further_updates(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    engine = make_engine(make_random_model(0), random_vocabulary)
    received = []
    for update in engine.run([Drawing([1]), Drawing([2])]):
        received.append(update.ticket)
        engine.cancel(1)
    assert set(received) == {0}


def test_cancelling_while_another_request_finishes_affects_no_other(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    """Another thread cancels a request while the engine handles its last step."""
    model = make_random_model(0)
    engine = make_engine(model, random_vocabulary)

    class Requests(dict):
        def __contains__(self, ticket: object) -> bool:
            found = super().__contains__(ticket)
            if found and self[ticket].state.forward_passes == 3 and ticket == cancelled:
                engine.cancel(ticket)
            return found

    engine._requests = Requests()
    cancelled, kept = engine.submit(Drawing([1])), engine.submit(Drawing([2], seed=1))
    received = list(engine.run())
    assert_same(
        [update.state for update in received if update.ticket == kept],
        states_of_single(Drawing([2], seed=1), model, random_vocabulary),
    )
    assert [update.state.forward_passes for update in received if update.ticket == cancelled] == [1, 2, 3]


def run_in_thread(function: Callable[[], object]) -> list[object]:
    """Return the result of a function in another thread, or its error."""
    results: list[object] = []

    def call() -> None:
        try:
            results.append(function())
        except InputError as error:
            results.append(error)

    thread = Thread(target=call)
    thread.start()
    thread.join()
    return results


def test_a_step_during_a_step_of_another_thread_raises(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    model = make_random_model(0)
    engine, errors = make_engine(model, random_vocabulary), []
    request = Drawing([1])
    engine.submit(request)
    hook = model.showo.model.final_layernorm.register_forward_hook(lambda *_: errors.extend(run_in_thread(engine.step)))
    received = engine.step()
    hook.remove()
    assert "another thread steps this engine" in str(errors[0])
    received += list(engine.run())
    assert_same([update.state for update in received], states_of_single(request, model, random_vocabulary))
    assert run_in_thread(engine.step) == [[]]


def test_an_unfinished_run_is_not_robbed_by_another_thread(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    """Not even between its steps, and neither by steps nor by another run."""
    model = make_random_model(0)
    engine, received, mine = make_engine(model, random_vocabulary), [], [Drawing([1]), Answering([[2], [3]])]
    other = Drawing([4])
    for update in engine.run(mine):
        received.append(update)
        for attempt in (engine.step, lambda: list(engine.run([other]))):
            assert "another thread steps this engine" in str(run_in_thread(attempt)[0])
    assert {update.ticket for update in received} == {0, 1}
    for ticket, request in enumerate(mine):
        states = [update.state for update in received if update.ticket == ticket]
        assert_same(states, states_of_single(request, model, random_vocabulary))
    assert run_in_thread(engine.step) == [[]]


def test_two_threads_with_an_engine_each_get_the_results_of_single_requests(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    """With one engine, one thread's requests or an error: never a wrong result."""
    model, barrier = make_random_model(0), Barrier(2)
    requests = [Drawing([seed], seed=seed) for seed in range(6)] + [Answering([[seed]], seed=seed) for seed in range(6)]
    for engines in ([make_engine(model, random_vocabulary)] * 2, [make_engine(model, random_vocabulary) for _ in "ab"]):
        done: dict[int, State] = {}
        errors: list[InputError] = []

        def work(engine: Engine[Request], own: range, done=done, errors=errors) -> None:
            barrier.wait()
            try:
                for update in engine.run(requests[number] for number in own):
                    if update.done:
                        done[requests.index(update.request)] = update.state
            except InputError as error:
                errors.append(error)

        threads = [Thread(target=work, args=(engine, range(n, 12, 2))) for n, engine in enumerate(engines)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(errors) <= (engines[0] is engines[1])
        assert len(done) >= (6 if errors else 12)
        for number, state in done.items():
            assert_same([state], states_of_single(requests[number], model, random_vocabulary)[-1:])


@pytest.mark.parametrize("request_kind", [Drawing([1, 2]), Answering([[1, 2]])], ids=["images", "texts"])
def test_the_kv_cache_of_a_request_is_freed_with_it(
    make_random_model: MakeModel,
    random_vocabulary: Vocabulary,
    monkeypatch: pytest.MonkeyPatch,
    request_kind: Request,
) -> None:
    """Even while its updates are referenced; a waiting request has no KV cache yet."""
    model, decoders, buffers = make_random_model(0), [], []
    for module in (image_denoiser, text_forward):
        monkeypatch.setattr(
            module, "allocate_kv_buffer", lambda *a, **k: buffers.append(1) or allocate_kv_buffer(*a, **k)
        )

    def prepare(request: Request) -> Job:
        job = request.prepare(model, random_vocabulary)
        decoders.append(ref(job.decoder))
        return job

    engine = Engine(model, prepare, max_sequences=1)
    for _ in range(3):
        engine.submit(request_kind)
    assert buffers == []
    updates = engine.step()
    assert buffers
    engine.cancel(2)
    updates += list(engine.run())
    gc.collect()
    assert [decoder() for decoder in decoders] == [None] * 3
    assert all(isinstance(update.output(), Tensor) for update in updates)


@dataclass(frozen=True)
class Broken:
    """Fail in the second step: before, in or after the forward pass."""

    decoder: ImageDenoiser
    where: str

    @property
    def sequences(self) -> int:
        return self.decoder.sequences

    def step(self, state: State) -> Step[State]:
        if state.forward_passes == 0:
            return (yield from self.decoder.step(state))
        if self.where == "before":
            raise ArithmeticError("broken")
        logits = yield from self._ask(state)
        raise ArithmeticError(f"broken, given {logits.shape}")

    def _ask(self, state: State) -> Step[Tensor]:
        step = self.decoder.step(state)
        given = next(step)
        return (yield replace(given, embeddings=given.embeddings[:, 1:]) if self.where == "in" else given)


@pytest.mark.parametrize("where", ["before", "in", "after"])
def test_a_request_that_fails_affects_no_other(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, where: str
) -> None:
    model = make_random_model(0)
    engine = make_engine(model, random_vocabulary)
    requests = [Drawing([1, 2], seed=1), Drawing([3]), Answering([[4, 5]], drafts=True)]

    def prepare(request: Request) -> Job:
        job = request.prepare(model, random_vocabulary)
        return replace(job, decoder=Broken(job.decoder, where), batch_key=None) if request is requests[1] else job

    engine = Engine(model, prepare)
    updates = list(engine.run(requests))
    for ticket in (0, 2):
        states = [update.state for update in updates if update.ticket == ticket]
        assert_same(states, states_of_single(requests[ticket], model, random_vocabulary))
    first, failed = (update for update in updates if update.ticket == 1)
    assert not first.done
    assert failed.done
    assert failed.state is first.state
    with pytest.raises(RuntimeError if where == "in" else ArithmeticError):
        failed.output()


def test_if_a_shared_pass_runs_out_of_memory_each_request_runs_by_itself(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, requests = make_random_model(0), [Drawing([1, 2]), Answering([[4, 5]]), Drawing([3], images=2)]
    compute_logits = steps.compute_logits

    def compute_one(model: Showo, inputs: list[ForwardInput]) -> list[Tensor]:
        if len(inputs) > 1:
            raise MemoryError
        return compute_logits(model, inputs)

    monkeypatch.setattr(steps, "compute_logits", compute_one)
    updates = list(make_engine(model, random_vocabulary).run(requests))
    for ticket, request in enumerate(requests):
        states = [update.state for update in updates if update.ticket == ticket]
        assert_same(states, states_of_single(request, model, random_vocabulary))


def test_an_invalid_request_raises_and_affects_no_other(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    model, good = make_random_model(0), Drawing([1, 2])
    engine = make_engine(model, random_vocabulary, max_sequences=3)
    engine.submit(good)
    states = [engine.step()[0].state]
    guided = SamplingOptions(num_inference_steps=2, guidance_scale=1.0)
    with pytest.raises(InputError, match=r"takes 4 sequences at a time .* max_sequences is 3"):
        engine.submit(Drawing([1], guided, images=2))
    with pytest.raises(InputError, match="num_inference_steps is 17"):
        engine.submit(Drawing([1], SamplingOptions(num_inference_steps=17)))
    with pytest.raises(InputError, match="max_new_tokens is 0"):
        engine.run([good, Answering([[1]], max_new_tokens=0)])
    assert engine.pending == 1
    states += [update.state for update in engine.run()]
    assert_same(states, states_of_single(good, model, random_vocabulary))


@pytest.mark.parametrize("limit", [0, True, 2.0])
def test_invalid_limits_raise(make_random_model: MakeModel, random_vocabulary: Vocabulary, limit: object) -> None:
    with pytest.raises(InputError, match=r"max_sequences is .*: choose a whole number, 1 or more"):
        make_engine(make_random_model(0), random_vocabulary, limit)


def test_other_threads_may_submit_while_one_steps(make_random_model: MakeModel, random_vocabulary: Vocabulary) -> None:
    model = make_random_model(0)
    engine = make_engine(model, random_vocabulary, max_sequences=4)
    requests = [Drawing([number], seed=number) for number in range(8)]
    threads = [
        Thread(target=lambda own=own: [engine.submit(one) for one in own]) for own in (requests[::2], requests[1::2])
    ]
    for thread in threads:
        thread.start()
    finals: dict[int, State] = {}
    while len(finals) < len(requests):
        finals |= {update.request.seed: update.state for update in engine.step() if update.done}
    for thread in threads:
        thread.join()
    for request in requests:
        assert_same([finals[request.seed]], states_of_single(request, model, random_vocabulary)[-1:])


similar_arrivals = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.builds(
            Answering,
            questions=st.lists(questions, min_size=1, max_size=2),
            max_new_tokens=st.just(9),
            block_length=st.just(3),
            sliding_window=st.just(True),
            drafts=st.booleans(),
            seed=st.integers(0, 1000),
        )
        | st.builds(
            Drawing,
            prompt=st.lists(st.integers(0, 18), max_size=4),
            options=st.sampled_from(
                [SamplingOptions(4), SamplingOptions(5, 1.75, top_k=3), SamplingOptions(6, early_exit=0.9)]
            ),
            images=st.integers(1, 2),
            seed=st.integers(0, 1000),
        ),
    ),
    min_size=2,
    max_size=8,
)


@few
@given(
    model_seed=st.integers(0, 2),
    arrivals=similar_arrivals,
    cancelled=st.sets(st.tuples(st.integers(0, 7), st.integers(1, 4))),
)
def test_requests_that_share_a_decoder_have_the_states_of_single_requests(
    make_random_model: MakeModel,
    random_vocabulary: Vocabulary,
    model_seed: int,
    arrivals: list[tuple[int, Request]],
    cancelled: set[tuple[int, int]],
) -> None:
    """Some leave early, cancelled or by early exit; the requests that started with them are not affected."""
    model = make_random_model(model_seed)
    engine = make_engine(model, random_vocabulary, max_sequences=64)
    received: dict[int, list[Update[Request]]] = {}
    for step in run_arrivals(engine, arrivals):
        for update in step:
            received.setdefault(update.ticket, []).append(update)
        for ticket, own in received.items():
            if (ticket, len(own)) in cancelled:
                engine.cancel(ticket)
    for ticket, own in received.items():
        expected = states_of_single(own[0].request, model, random_vocabulary)
        early = [passes for number, passes in cancelled if number == ticket and passes < len(expected)]
        assert_same([update.state for update in own], expected[: min(early, default=len(expected))])


def test_requests_that_start_together_are_one_group_of_a_pass(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, counts = make_random_model(0), []
    run = model.packed_forward
    monkeypatch.setattr(model, "packed_forward", lambda *given: counts.append(len(given[-1])) or run(*given))
    engine = make_engine(model, random_vocabulary)
    drawings = [Drawing([number], seed=number) for number in range(5)]
    answerings = [Answering([[number]], max_new_tokens=4, block_length=1, seed=number) for number in range(5)]
    list(engine.run([*drawings, *answerings]))
    assert counts == [4, 2, 2, 2]  # prompts, images, prefixes and continuations; then images and continuations


@pytest.mark.parametrize("lacking", ["buffers", "pass", "sampler"])
@pytest.mark.parametrize("since", [0, 2])
def test_if_a_group_runs_out_of_memory_each_member_runs_by_itself(
    make_random_model: MakeModel,
    random_vocabulary: Vocabulary,
    monkeypatch: pytest.MonkeyPatch,
    lacking: str,
    since: int,
) -> None:
    """Wherever memory runs out, from the first step or a later one on; random numbers of a failed step are redrawn."""
    model = make_random_model(0)
    requests = [Drawing([number], seed=number) for number in range(3)] + [Answering([[5]]), Answering([[6]])]
    engine = make_engine(model, random_vocabulary)
    for request in requests:
        engine.submit(request)
    updates = [update for _ in range(since) for update in engine.step()]
    broken = {
        "buffers": (image_denoiser, "allocate_kv_buffer", lambda *given, **_: given[2] > 1),
        "pass": (
            steps,
            "compute_logits",
            lambda model, inputs: sum(g.scored_layout.size for one in inputs for g in one.groups) > NUM_CODES,
        ),
        "sampler": (scheduler, "draw_codes", lambda probabilities, *_: len(probabilities) > NUM_CODES),
    }
    module, name, is_much = broken[lacking]
    sound = getattr(module, name)

    def lack(*given: object, **named: object) -> object:
        if is_much(*given, **named):
            raise MemoryError(lacking)
        return sound(*given, **named)

    monkeypatch.setattr(module, name, lack)
    updates += engine.run()
    for ticket, request in enumerate(requests):
        states = [update.state for update in updates if update.ticket == ticket]
        assert_same(states, states_of_single(request, model, random_vocabulary))


def test_a_group_member_that_fails_affects_no_other(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, requests = make_random_model(0), [Drawing([number], seed=number) for number in range(3)]
    draw_noise = scheduler.draw_noise

    def fail_for_one(masked: Tensor, choices: int, generator: torch.Generator, device: torch.device) -> object:
        if generator.initial_seed() == 1:
            raise ArithmeticError
        return draw_noise(masked, choices, generator, device)

    engine = make_engine(model, random_vocabulary)
    tickets = [engine.submit(request) for request in requests]
    updates = engine.step()
    monkeypatch.setattr(scheduler, "draw_noise", fail_for_one)
    updates += engine.run()
    monkeypatch.undo()
    assert [update.ticket for update in updates if update.error is not None] == [1]
    for ticket in (tickets[0], tickets[2]):
        states = [update.state for update in updates if update.ticket == ticket]
        assert_same(states, states_of_single(requests[ticket], model, random_vocabulary))


@pytest.mark.parametrize("kind", [Drawing, Answering])
def test_memory_is_bounded_whichever_request_leaves(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    """All but one of each group are cancelled and replaced by others."""
    buffers: WeakSet[Tensor] = WeakSet()

    def noted(*given: object, **named: object) -> Tensor:
        buffer = allocate_kv_buffer(*given, **named)
        buffers.add(buffer)
        return buffer

    for module in (image_denoiser, text_forward):
        monkeypatch.setattr(module, "allocate_kv_buffer", noted)
    engine = make_engine(make_random_model(0), random_vocabulary, max_sequences=8)
    options = SamplingOptions(num_inference_steps=16)
    stays: list[int] = []
    for number in range(6):
        fresh = [
            Drawing([number, seed], options) if kind is Drawing else Answering([[number, seed]], 16, 1)
            for seed in range(8 - len(stays))
        ]
        tickets = [engine.submit(request) for request in fresh]
        engine.step()
        for ticket in tickets[1:]:
            engine.cancel(ticket)
        stays.append(tickets[0])
        gc.collect()
        assert sum(buffer.shape[2] for buffer in buffers if len(buffer) > 1) <= 8 + len(stays)
