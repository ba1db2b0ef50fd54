"""The engine: a request's states are those it has alone, whatever runs beside it; on random models."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from threading import Thread
from weakref import WeakSet, ref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation import image_passes, scheduler, scoring, text_passes
from showo_turbo.generation.drafts import Drafts
from showo_turbo.generation.image_denoiser import ImageDenoiser, masked_state
from showo_turbo.generation.kv_cache import room_for_key_values
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.generation.scoring import Scoring, Work
from showo_turbo.generation.text_decoder import TextDecoder, greedy, sampler
from showo_turbo.generation.trajectory import State, trajectory
from showo_turbo.models.showo import Showo
from showo_turbo.serving.engine import Engine, Job, Update
from showo_turbo.vocabulary import Vocabulary

MakeModel = Callable[[int], Showo]
NUM_CODES = 16
few = settings(max_examples=40, deadline=None, derandomize=True)
questions = st.lists(st.integers(0, 18), min_size=1, max_size=5)


@dataclass(frozen=True)
class Drawing:
    """A request for images."""

    prompt: list[int]
    options: SamplingOptions = field(default_factory=lambda: SamplingOptions(num_inference_steps=4))
    images: int = 1
    seed: int = 0

    def prepare(self, model: Showo, vocabulary: Vocabulary) -> Job:
        scheduler = self.options.scheduler(vocabulary.codebook_size, NUM_CODES)
        begin, end = [vocabulary.t2i_id, vocabulary.end_of_text_id], [vocabulary.end_of_text_id]
        prompts, generator = [[*begin, *self.prompt, *end]] * self.images, torch.Generator().manual_seed(self.seed)
        scale = self.options.guidance_scale
        denoiser = ImageDenoiser(model, vocabulary, scheduler, prompts, NUM_CODES, [*begin, *end], scale, generator)
        start, alike = masked_state(self.images, NUM_CODES, vocabulary), (self.options, self.images)
        return Job(denoiser, start, vocabulary_codes(vocabulary), alike)


@dataclass(frozen=True)
class Answering:
    """A request for answers, one a question."""

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
        alike = None if self.temperature else options
        return Job(decoder, decoder.start(guesses), vocabulary_codes(vocabulary), alike)


Request = Drawing | Answering


def vocabulary_codes(vocabulary: Vocabulary) -> Callable[[State], Tensor]:
    return lambda state: vocabulary.ids_to_codes(state.ids)


def make_engine(model: Showo, vocabulary: Vocabulary, max_sequences: int = 32) -> Engine[Request]:
    return Engine(model, lambda request: request.prepare(model, vocabulary), max_sequences)


def states_alone(request: Request, model: Showo, vocabulary: Vocabulary) -> list[State]:
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
        order=st.sampled_from(["confidence", "halton"]),
        sampled_steps=st.sampled_from([None, None, 0, 2]),
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
    """What every step says while requests arrive before steps of given numbers."""
    waiting, number = sorted(arrivals, key=lambda arrival: arrival[0]), 0
    while waiting or engine.pending:
        while waiting and waiting[0][0] <= number:
            engine.submit(waiting.pop(0)[1])
        yield engine.step()
        number += 1


@few
@given(model_seed=st.integers(0, 2), arrivals=arrivals, max_sequences=st.integers(4, 12))
def test_states_are_those_of_a_request_alone(
    make_random_model: MakeModel,
    random_vocabulary: Vocabulary,
    model_seed: int,
    arrivals: list[tuple[int, Request]],
    max_sequences: int,
) -> None:
    """Images and texts of all options, arriving at any time; and nobody overtakes, pauses, or exceeds the limit."""
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
        assert_same([update.state for update in own], states_alone(own[0].request, model, random_vocabulary))


def test_all_share_one_pass(make_random_model: MakeModel, random_vocabulary: Vocabulary) -> None:
    """What an unconditional image scores is a constant, which takes one pass more, once."""
    model = make_random_model(0)
    passes = []
    model.showo.model.final_layernorm.register_forward_hook(lambda *_: passes.append(1))
    engine = make_engine(model, random_vocabulary)
    guided = SamplingOptions(num_inference_steps=5, guidance_scale=2.0)
    updates = list(engine.run([Drawing([1, 2]), Drawing([3], guided), Answering([[4], [5, 6]]), Answering([[7]])]))
    assert len(passes) == 1 + max(update.state.forward_passes for update in updates)


def test_equal_requests_are_not_one(make_random_model: MakeModel, random_vocabulary: Vocabulary) -> None:
    model, request = make_random_model(0), Drawing([1, 2], seed=3)
    done = [update for update in make_engine(model, random_vocabulary).run([request, request]) if update.done]
    assert [update.ticket for update in done] == [0, 1]
    for update in done:
        assert_same([update.state], states_alone(request, model, random_vocabulary)[-1:])


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


def test_a_cancelled_request_is_heard_of_no_more(make_random_model: MakeModel, random_vocabulary: Vocabulary) -> None:
    """One under way and one that waits; those beside it do not notice, and its room is free."""
    model = make_random_model(0)
    engine = make_engine(model, random_vocabulary, max_sequences=3)
    kept, other = Drawing([1]), Answering([[2], [3]])
    tickets = [engine.submit(request) for request in (kept, other, other, kept)]
    heard = engine.step()
    assert [update.ticket for update in heard] == tickets[:2]
    engine.cancel(tickets[1])
    engine.cancel(tickets[2])
    heard += list(engine.run())
    engine.cancel(tickets[0])
    for ticket in (tickets[0], tickets[3]):
        states = [update.state for update in heard if update.ticket == ticket]
        assert_same(states, states_alone(kept, model, random_vocabulary))
    assert len(heard) == 1 + 2 * 4
    assert engine.pending == 0


def test_a_request_cancelled_during_a_step_is_heard_of_no_more(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    model = make_random_model(0)
    engine = make_engine(model, random_vocabulary)
    kept, cancelled = engine.submit(Drawing([1])), engine.submit(Drawing([2]))
    hook = model.showo.model.final_layernorm.register_forward_hook(lambda *_: engine.cancel(cancelled))
    assert [update.ticket for update in engine.step()] == [kept]
    hook.remove()
    assert {update.ticket for update in engine.run()} == {kept}


def test_a_request_cancelled_between_updates_is_heard_of_no_more(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    engine = make_engine(make_random_model(0), random_vocabulary)
    heard = []
    for update in engine.run([Drawing([1]), Drawing([2])]):
        heard.append(update.ticket)
        engine.cancel(1)
    assert set(heard) == {0}


def test_a_request_cancelled_while_another_is_concluded_disturbs_none(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    """The last step of one, as another thread cancels it where its end is noted."""
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
    heard = list(engine.run())
    assert_same(
        [update.state for update in heard if update.ticket == kept],
        states_alone(Drawing([2], seed=1), model, random_vocabulary),
    )
    assert [update.state.forward_passes for update in heard if update.ticket == cancelled] == [1, 2, 3]


@pytest.mark.parametrize("request_kind", [Drawing([1, 2]), Answering([[1, 2]])], ids=["images", "texts"])
def test_what_is_kept_for_a_request_goes_with_it(
    make_random_model: MakeModel,
    random_vocabulary: Vocabulary,
    monkeypatch: pytest.MonkeyPatch,
    request_kind: Request,
) -> None:
    """Also while its updates are held; and one that waits has no room for keys and values yet."""
    model, decoders, rooms = make_random_model(0), [], []
    for module in (image_passes, text_passes):
        monkeypatch.setattr(
            module, "room_for_key_values", lambda *a, **k: rooms.append(1) or room_for_key_values(*a, **k)
        )

    def prepare(request: Request) -> Job:
        job = request.prepare(model, random_vocabulary)
        decoders.append(ref(job.decoder))
        return job

    engine = Engine(model, prepare, max_sequences=1)
    for _ in range(3):
        engine.submit(request_kind)
    assert rooms == []
    updates = engine.step()
    assert rooms
    engine.cancel(2)
    updates += list(engine.run())
    gc.collect()
    assert [decoder() for decoder in decoders] == [None] * 3
    assert all(isinstance(update.output(), Tensor) for update in updates)


@dataclass(frozen=True)
class Broken:
    """A decoder that fails in its second step: before, in or after the pass."""

    decoder: ImageDenoiser
    where: str

    @property
    def sequences(self) -> int:
        return self.decoder.sequences

    def step(self, state: State) -> Scoring[State]:
        if state.forward_passes == 0:
            return (yield from self.decoder.step(state))
        if self.where == "before":
            raise ArithmeticError("broken")
        scores = yield from self._ask(state)
        raise ArithmeticError(f"broken, given {scores.shape}")

    def _ask(self, state: State) -> Scoring[Tensor]:
        step = self.decoder.step(state)
        work = next(step)
        return (yield replace(work, embeddings=work.embeddings[:, 1:]) if self.where == "in" else work)


@pytest.mark.parametrize("where", ["before", "in", "after"])
def test_a_request_that_fails_takes_no_other_with_it(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, where: str
) -> None:
    model = make_random_model(0)
    engine = make_engine(model, random_vocabulary)
    requests = [Drawing([1, 2], seed=1), Drawing([3]), Answering([[4, 5]], drafts=True)]

    def prepare(request: Request) -> Job:
        job = request.prepare(model, random_vocabulary)
        return replace(job, decoder=Broken(job.decoder, where), alike=None) if request is requests[1] else job

    engine = Engine(model, prepare)
    updates = list(engine.run(requests))
    for ticket in (0, 2):
        states = [update.state for update in updates if update.ticket == ticket]
        assert_same(states, states_alone(requests[ticket], model, random_vocabulary))
    first, failed = (update for update in updates if update.ticket == 1)
    assert not first.done
    assert failed.done
    assert failed.state is first.state
    with pytest.raises(RuntimeError if where == "in" else ArithmeticError):
        failed.output()


def test_without_memory_for_all_each_request_goes_by_itself(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, requests = make_random_model(0), [Drawing([1, 2]), Answering([[4, 5]]), Drawing([3], images=2)]
    score = scoring.score

    def score_one(model: Showo, works: list[Work]) -> list[Tensor]:
        if len(works) > 1:
            raise MemoryError
        return score(model, works)

    monkeypatch.setattr(scoring, "score", score_one)
    updates = list(make_engine(model, random_vocabulary).run(requests))
    for ticket, request in enumerate(requests):
        states = [update.state for update in updates if update.ticket == ticket]
        assert_same(states, states_alone(request, model, random_vocabulary))


def test_a_bad_request_is_refused_and_disturbs_no_other(
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
    assert_same(states, states_alone(good, model, random_vocabulary))


@pytest.mark.parametrize("limit", [0, True, 2.0])
def test_limits_that_cannot_be_are_refused(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, limit: object
) -> None:
    with pytest.raises(InputError, match=r"max_sequences is .*: choose a whole number, 1 or more"):
        make_engine(make_random_model(0), random_vocabulary, limit)


def test_other_threads_submit_while_one_steps(make_random_model: MakeModel, random_vocabulary: Vocabulary) -> None:
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
        assert_same([finals[request.seed]], states_alone(request, model, random_vocabulary)[-1:])


alike = st.lists(
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
@given(model_seed=st.integers(0, 2), arrivals=alike, cancelled=st.sets(st.tuples(st.integers(0, 7), st.integers(1, 4))))
def test_requests_that_advance_as_one_have_the_states_they_have_alone(
    make_random_model: MakeModel,
    random_vocabulary: Vocabulary,
    model_seed: int,
    arrivals: list[tuple[int, Request]],
    cancelled: set[tuple[int, int]],
) -> None:
    """Some leave early, cancelled or sure of all codes; those that started with them do not notice."""
    model = make_random_model(model_seed)
    engine = make_engine(model, random_vocabulary, max_sequences=64)
    heard: dict[int, list[Update[Request]]] = {}
    for step in run_arrivals(engine, arrivals):
        for update in step:
            heard.setdefault(update.ticket, []).append(update)
        for ticket, own in heard.items():
            if (ticket, len(own)) in cancelled:
                engine.cancel(ticket)
    for ticket, own in heard.items():
        expected = states_alone(own[0].request, model, random_vocabulary)
        early = [passes for number, passes in cancelled if number == ticket and passes < len(expected)]
        assert_same([update.state for update in own], expected[: min(early, default=len(expected))])


def test_a_pass_has_one_part_for_all_that_started_together(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, parts = make_random_model(0), []
    run = model.runner.run
    monkeypatch.setattr(model.runner, "run", lambda *given: parts.append(len(given[-1])) or run(*given))
    engine = make_engine(model, random_vocabulary)
    drawings = [Drawing([number], seed=number) for number in range(5)]
    answerings = [Answering([[number]], max_new_tokens=4, block_length=1, seed=number) for number in range(5)]
    list(engine.run([*drawings, *answerings]))
    assert parts == [4, 2, 2, 2]  # prompts and images, beginnings and what follows; then the second of each


@pytest.mark.parametrize("lacking", ["rooms", "pass", "sampler"])
@pytest.mark.parametrize("since", [0, 2])
def test_without_memory_for_a_group_each_of_it_goes_by_itself(
    make_random_model: MakeModel,
    random_vocabulary: Vocabulary,
    monkeypatch: pytest.MonkeyPatch,
    lacking: str,
    since: int,
) -> None:
    """Wherever it lacks, from the first step or a later one on; random numbers drawn in vain are drawn again."""
    model = make_random_model(0)
    requests = [Drawing([number], seed=number) for number in range(3)] + [Answering([[5]]), Answering([[6]])]
    engine = make_engine(model, random_vocabulary)
    for request in requests:
        engine.submit(request)
    updates = [update for _ in range(since) for update in engine.step()]
    broken = {
        "rooms": (image_passes, "room_for_key_values", lambda *given, **_: given[2] > 1),
        "pass": (scoring, "score", lambda model, works: sum(work.asked for work in works) > NUM_CODES),
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
        assert_same(states, states_alone(request, model, random_vocabulary))


def test_one_of_a_group_that_fails_takes_no_other_with_it(
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
        assert_same(states, states_alone(requests[ticket], model, random_vocabulary))


@pytest.mark.parametrize("kind", [Drawing, Answering])
def test_what_is_kept_is_bounded_whoever_leaves(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    """All but one of each group are cancelled and others come in their place."""
    rooms: WeakSet[Tensor] = WeakSet()

    def noted(*given: object, **named: object) -> Tensor:
        room = room_for_key_values(*given, **named)
        rooms.add(room)
        return room

    for module in (image_passes, text_passes):
        monkeypatch.setattr(module, "room_for_key_values", noted)
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
        assert sum(room.shape[2] for room in rooms if len(room) > 1) <= 8 + len(stays)
