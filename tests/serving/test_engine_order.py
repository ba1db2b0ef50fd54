"""The order in which waiting requests start: short ones overtake long ones, and none waits forever."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine import Drawing

from showo_turbo.generation.options import SamplingOptions
from showo_turbo.serving.batching import Job
from showo_turbo.serving.engine import Engine, virtual_finish


@dataclass(frozen=True)
class Arrival:
    """Hold a request and the step before which it arrives."""

    step: int
    steps: int
    images: int


arrivals = st.lists(
    st.builds(Arrival, st.integers(0, 12), st.integers(1, 7), st.integers(1, 3)), min_size=1, max_size=9
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(arrivals=arrivals, places=st.integers(3, 5))
def test_short_requests_overtake_and_none_waits_forever(
    make_random_model, random_vocabulary, arrivals: list[Arrival], places: int
) -> None:
    """A request that starts later than another has a later virtual finish, or found no place before it arrived."""
    model = make_random_model(0)

    def prepare(arrival: Arrival) -> Job:
        options = SamplingOptions(num_inference_steps=arrival.steps)
        job = Drawing([1], options, arrival.images).prepare(model, random_vocabulary)
        return Job(job.decoder, job.start, job.output, job.batch_key, arrival.steps)

    engine = Engine(model, prepare, places, virtual_finish)
    waiting, started, finished, running = sorted(arrivals, key=lambda one: one.step), {}, {}, set()
    tickets: dict[int, Arrival] = {}
    for number in range(1000):
        while waiting and waiting[0].step <= number:
            arrival = waiting.pop(0)
            tickets[engine.submit(arrival)] = arrival
        if not waiting and not engine.pending:
            break
        updates = engine.step()
        assert running <= {update.ticket for update in updates}, "a running request always continues"
        assert engine.occupied == sum(tickets[update.ticket].images for update in updates) <= places
        for update in updates:
            started.setdefault(update.ticket, number)
            if update.done:
                finished[update.ticket] = number
        running = {update.ticket for update in updates if not update.done}
    assert set(finished) == set(range(len(arrivals)))

    rank = {ticket: (arrival.step + arrival.steps, ticket) for ticket, arrival in tickets.items()}
    for one, arrival in tickets.items():
        for other, later in tickets.items():
            if later.step > arrival.step + arrival.steps:
                assert started[one] <= started[other], "no request overtakes that arrives after the virtual finish"
            if arrival.step == later.step and rank[one] < rank[other]:
                assert started[one] <= started[other]
