"""Trajectories are independent of models: here a counter settles one position per step."""

import torch

from showo_turbo.generation.trajectory import State, last_state, trajectory


def settle_next(state: State) -> State:
    settled = state.settled.clone()
    settled[:, state.forward_passes] = True
    return State(torch.where(settled, state.ids + 1, state.ids), settled, state.forward_passes + 1)


def test_a_trajectory_runs_from_the_start_until_all_is_settled() -> None:
    start = State(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.bool))
    states = list(trajectory(start, settle_next))
    assert states[0] is start
    assert [state.done for state in states] == [False, False, False, True]
    assert last_state(trajectory(start, settle_next)).ids.tolist() == [[3, 2, 1]] * 2


def test_a_settled_start_is_its_own_end() -> None:
    start = State(torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3, dtype=torch.bool))
    assert list(trajectory(start, settle_next)) == [start]


def test_unsettled_ids_are_masked() -> None:
    state = State(torch.tensor([[4, 5, 6]]), torch.tensor([[True, False, True]]))
    assert state.mask_unsettled(9).tolist() == [[4, 9, 6]]
