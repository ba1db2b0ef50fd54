"""The text decoder reproduces the published iterates and texts: 19 Jacobi runs, greedy and sampled decoding."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from showo_turbo.generation.text_decoder import TextDecoder, draw_guesses, sampler
from showo_turbo.generation.trajectory import State, last_state
from showo_turbo.models.omni_attention import understanding_mask
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.vocabulary import Vocabulary

MMU = dict(np.load(Path(__file__).parents[1] / "golden" / "mmu.npz"))
CASES = sorted({key.split("/")[0] for key in MMU})
PLAIN_CASES = [case for case in CASES if not case.startswith("bias")]
RUNS = sorted({"/".join(key.split("/")[:2]) for key in MMU if "/jac_" in key})
LONGEST = 48


def model_of(case: str, tiny_model: Showo) -> Showo:
    """Return the tiny model, with the bias of the head changed as in the case."""
    if f"{case}/bias_token" not in MMU:
        return tiny_model
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        model.showo.lm_head.bias[int(MMU[f"{case}/bias_token"])] += float(MMU[f"{case}/bias_add"])
    return model


def answer(ids: Tensor | np.ndarray, vocabulary: Vocabulary) -> list[int]:
    """Return the ids up to and including the first end of text."""
    row = list(map(int, ids))
    end = vocabulary.end_of_text_id
    return row[: row.index(end) + 1] if end in row else row


def blocks(run: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the (guess, iterates) of every block of a golden run."""
    names = [f"{run}/b{index}" for index in range(LONGEST) if f"{run}/b{index}/guess" in MMU]
    return [(MMU[f"{name}/guess"], MMU[f"{name}/iterates"]) for name in names]


def run_of_block(states: list[State], first: int, end: int) -> list[State]:
    """Return the states from the first with all ids before `first` settled to the one that settles the block."""
    started = next(index for index, state in enumerate(states) if state.settled[0, :first].all())
    ended = next(index for index, state in enumerate(states) if state.settled[0, :end].all())
    return states[started : ended + 1]


def test_all_golden_runs_are_present() -> None:
    assert len(RUNS) == 19


@pytest.mark.parametrize("run", RUNS)
def test_iterates(run: str, tiny_model: Showo, tiny_vocabulary: Vocabulary) -> None:
    case = run.split("/")[0]
    block_length = len(blocks(run)[0][0])
    guesses = torch.zeros(1, LONGEST, dtype=torch.long)
    drawn = np.concatenate([guess for guess, _ in blocks(run)])
    guesses[0, : len(drawn)] = torch.from_numpy(drawn)
    decoder = TextDecoder(
        model_of(case, tiny_model), tiny_vocabulary, MMU[f"{case}/prompt_ids"].tolist(), LONGEST, block_length
    )
    states = list(decoder.run(guesses))

    assert answer(states[-1].ids[0], tiny_vocabulary) == answer(MMU[f"{run}/generated"], tiny_vocabulary)
    for index, (_, iterates) in enumerate(blocks(run)):
        first, end = index * block_length, (index + 1) * block_length
        ours = run_of_block(states, first, end)
        ended_early = bool((ours[-1].ids[0, first:end] == tiny_vocabulary.end_of_text_id).any())
        assert len(ours) in (len(iterates), len(iterates) + 1) or (ended_early and len(ours) < len(iterates))
        for state, published in zip(ours, [*iterates, iterates[-1]], strict=False):
            ids, settled = state.ids[0, first:end], state.settled[0, first:end]
            followed = ~((ids == tiny_vocabulary.end_of_text_id) & settled).cumsum(0).bool()
            np.testing.assert_array_equal(ids[followed], published[followed])
            np.testing.assert_array_equal(ids[followed & settled], iterates[-1][followed & settled])


@pytest.mark.parametrize("run", [run for run in RUNS if f"{run}/b0/final_logits_new" in MMU])
def test_logits_of_the_first_block(run: str, tiny_model: Showo, tiny_vocabulary: Vocabulary) -> None:
    case = run.split("/")[0]
    prompt = MMU[f"{case}/prompt_ids"].tolist()
    fixed_point = torch.from_numpy(MMU[f"{run}/b0/iterates"][-1:]).long()
    decoder = TextDecoder(model_of(case, tiny_model), tiny_vocabulary, prompt, fixed_point.shape[1])
    logits = decoder.logits(decoder.start(fixed_point))[0]
    np.testing.assert_allclose(logits, MMU[f"{run}/b0/final_logits_new"], atol=3e-5)


@pytest.mark.parametrize("block_length", [1, 16, 48])
@pytest.mark.parametrize("case", CASES)
def test_greedy(case: str, block_length: int, tiny_model: Showo, tiny_vocabulary: Vocabulary) -> None:
    prompt = MMU[f"{case}/prompt_ids"].tolist()
    decoder = TextDecoder(model_of(case, tiny_model), tiny_vocabulary, prompt, LONGEST, block_length)
    guesses = draw_guesses(prompt, LONGEST, tiny_vocabulary, torch.Generator().manual_seed(0))
    state = last_state(decoder.run(guesses))
    expected = answer(MMU[f"{case}/greedy48"], tiny_vocabulary)
    assert answer(state.ids[0], tiny_vocabulary) == expected
    assert (state.ids[0, len(expected) :] == tiny_vocabulary.end_of_text_id).all()
    assert expected == MMU.get(f"{case}/greedy48_stop_at_eos", np.array(expected)).tolist()
    assert state.forward_passes <= len(expected)
    assert block_length > 1 or state.forward_passes == len(expected)


@pytest.mark.parametrize("case", PLAIN_CASES)
def test_sampling(case: str, tiny_model: Showo, tiny_vocabulary: Vocabulary) -> None:
    expected = answer(MMU[f"{case}/sample_topk5_temp0.7_seed9"], tiny_vocabulary)
    choose = sampler(temperature=0.7, top_k=5, generator=torch.Generator().manual_seed(9))
    decoder = TextDecoder(tiny_model, tiny_vocabulary, MMU[f"{case}/prompt_ids"].tolist(), 16, 1, choose)
    state = last_state(decoder.run(torch.zeros(1, 16, dtype=torch.long)))
    assert answer(state.ids[0], tiny_vocabulary) == expected


@pytest.mark.parametrize("case", PLAIN_CASES)
def test_prompts_and_masks(case: str, tiny_prompts: PromptBuilder, tiny_vocabulary: Vocabulary) -> None:
    question = "Describe the image." if case == "c3" else "What scene does this image depict"
    prompt = tiny_prompts.understanding(MMU[f"{case}/codes"][0], tiny_prompts.check_question(question))
    assert prompt == MMU[f"{case}/prompt_ids"][0].tolist()
    mask = understanding_mask(torch.tensor([prompt]), tiny_vocabulary)
    np.testing.assert_array_equal(mask, MMU[f"{case}/attention_mask"] == 0)


@pytest.mark.parametrize("run", [run for run in RUNS if f"{run}/text_utf8" in MMU])
def test_texts(run: str, tiny_prompts: PromptBuilder, tiny_vocabulary: Vocabulary) -> None:
    """Published texts contain a generated `<|soi|>`; ours omit special tokens."""
    published = MMU[f"{run}/text_utf8"].tobytes().decode().replace("<|soi|>", "")
    assert tiny_prompts.decode(MMU[f"{run}/generated"]) == published
