"""The text loop: Jacobi decoding is greedy decoding, whatever the model, prompts, block length and guesses."""

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.drafts import Drafts
from showo_turbo.generation.text_decoder import TextDecoder, draw_guesses, greedy, sampler, visible_ids
from showo_turbo.generation.trajectory import State, last_state
from showo_turbo.models.omni_attention import understanding_mask
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.scenes.shapes.shape_world import SHAPES
from showo_turbo.vocabulary import Vocabulary

MakeModel = Callable[[int], Showo]
few = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 1000)
questions = st.lists(st.integers(0, 18), min_size=1, max_size=6)
batches = st.lists(questions, min_size=1, max_size=3)


def prompt_of(question: list[int], vocabulary: Vocabulary) -> list[int]:
    image = [vocabulary.image_offset + code for code in (3, 1, 4, 1)]
    return [vocabulary.mmu_id, vocabulary.soi_id, *image, vocabulary.eoi_id, vocabulary.end_of_text_id, *question]


def greedy_without_cache(model: Showo, vocabulary: Vocabulary, prompt: list[int], max_new_tokens: int) -> list[int]:
    """Decode one id at a time without a cache; after the end of text all ids are end of text."""
    ids = list(prompt)
    while len(ids) < len(prompt) + max_new_tokens:
        row = torch.tensor([ids])
        with torch.no_grad():
            token = int(model.logits(model(row, understanding_mask(row, vocabulary)))[0, -1].argmax())
        ids.append(token)
        if token == vocabulary.end_of_text_id:
            break
    answer = ids[len(prompt) :]
    return answer + [vocabulary.end_of_text_id] * (max_new_tokens - len(answer))


def text_model(make_random_model: MakeModel, vocabulary: Vocabulary, seed: int) -> Showo:
    """Make a random model that predicts text ids only, sometimes the end of text."""
    model = make_random_model(seed % 5)
    with torch.no_grad():
        model.showo.lm_head.bias[vocabulary.llm_vocab_size :] -= 40
        model.showo.lm_head.bias[vocabulary.end_of_text_id] += 1
    return model


def count_rows(model: Showo, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of rows of each following pass."""
    rows: list[int] = []
    embed = model.embed
    monkeypatch.setattr(model, "embed", lambda ids: (rows.append(ids.numel()), embed(ids))[1])
    return rows


def random_guesses(rows: int, length: int, seed: int, vocabulary: Vocabulary) -> Tensor:
    return torch.randint(vocabulary.size, (rows, length), generator=torch.Generator().manual_seed(seed))


@few
@given(
    seed=seeds,
    rows=batches,
    max_new_tokens=st.integers(1, 20),
    block_length=st.integers(1, 24),
    sliding_window=st.booleans(),
    drafts=st.booleans(),
)
def test_jacobi_is_greedy(
    make_random_model: MakeModel,
    random_vocabulary: Vocabulary,
    seed: int,
    rows: list[list[int]],
    max_new_tokens: int,
    block_length: int,
    sliding_window: bool,
    drafts: bool,
) -> None:
    model = text_model(make_random_model, random_vocabulary, seed)
    prompts = [prompt_of(question, random_vocabulary) for question in rows]
    options = {"sliding_window": sliding_window, "drafts": Drafts() if drafts else None}
    decoder = TextDecoder(model, random_vocabulary, prompts, max_new_tokens, block_length, **options)
    states = list(decoder.run(random_guesses(len(rows), max_new_tokens, seed, random_vocabulary)))

    expected = [greedy_without_cache(model, random_vocabulary, prompt, max_new_tokens) for prompt in prompts]
    assert states[-1].ids.tolist() == expected
    assert states[-1].forward_passes == len(states) - 1 <= max_new_tokens
    for before, after in pairwise(states):
        assert after.settled.sum(1).min() > before.settled.sum(1).min()
        assert after.ids[before.settled].equal(before.ids[before.settled])


@few
@given(seed=seeds, rows=batches, block_length=st.integers(1, 8))
def test_a_step_depends_on_its_state_only(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, seed: int, rows: list[list[int]], block_length: int
) -> None:
    """Steps out of order, with any content of the KV cache, give the same states as in order."""
    model = text_model(make_random_model, random_vocabulary, seed)
    prompts = [prompt_of(question, random_vocabulary) for question in rows]
    decoder = TextDecoder(model, random_vocabulary, prompts, 12, block_length)
    other = list(decoder.run(random_guesses(len(rows), 12, seed + 1, random_vocabulary)))
    states = list(decoder.run(random_guesses(len(rows), 12, seed, random_vocabulary)))
    for before, after in reversed([*pairwise(states), *pairwise(other)]):
        again = decoder.advance(before)
        assert again.ids.equal(after.ids)
        assert again.settled.equal(after.settled)


@pytest.mark.parametrize(
    ("sliding", "settled", "passes", "window"),
    [
        (False, 1, 1, range(1, 4)),
        (True, 0, 0, range(0, 4)),  # first guesses are random
        (True, 1, 1, range(1, 9)),  # what became of them is not known
        (True, 3, 3, range(3, 11)),  # two ids in two passes are good guesses
        (True, 2, 3, range(2, 6)),
        (True, 6, 4, range(6, 10)),  # a guess ends the answer
        (True, 9, 4, range(9, 12)),
    ],
)
def test_the_next_block_starts_before_this_one_has_settled_if_guesses_are_good(
    make_random_model: MakeModel,
    random_vocabulary: Vocabulary,
    sliding: bool,
    settled: int,
    passes: int,
    window: range,
) -> None:
    ids = torch.full((1, 12), 5)
    ids[0, 9] = random_vocabulary.end_of_text_id
    prompt = prompt_of([1], random_vocabulary)
    decoder = TextDecoder(make_random_model(0), random_vocabulary, [prompt], 12, 4, sliding_window=sliding)
    assert decoder.windows(State(ids, torch.arange(12)[None] < settled, passes)) == [window]


def test_a_sliding_window_saves_a_distilled_model_passes() -> None:
    pipe = ShowoPipeline.from_pretrained("tiny-turbo", device="cpu")
    rng = random.Random(0)
    pictures = [SHAPES.render(SHAPES.held_out_scene(rng)) for _ in range(24)]
    answers = [
        [
            pipe.image_to_text(picture, "Describe the image.", sliding_window=sliding, seed=seed)
            for seed, picture in enumerate(pictures)
        ]
        for sliding in (False, True)
    ]
    assert [one.texts for one in answers[0]] == [one.texts for one in answers[1]]
    plain, windows = (sum(one.forward_passes for one in row) for row in answers)
    assert plain >= 1.2 * windows


def test_good_guesses_settle_in_one_pass(make_random_model: MakeModel, random_vocabulary: Vocabulary) -> None:
    model = text_model(make_random_model, random_vocabulary, 0)
    prompt = prompt_of([1, 2], random_vocabulary)
    answer = greedy_without_cache(model, random_vocabulary, prompt, 12)
    decoder = TextDecoder(model, random_vocabulary, [prompt], 12, 12)
    assert last_state(decoder.run(torch.tensor([answer]))).forward_passes == 1


def test_one_pass_computes_the_unsettled_part_of_the_block_only(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_random_model(0)
    model.showo.lm_head.bias.data[random_vocabulary.end_of_text_id] -= 50
    lengths = count_rows(model, monkeypatch)
    prompt = prompt_of([1, 2], random_vocabulary)
    decoder = TextDecoder(model, random_vocabulary, [prompt], 8, 4)
    states = list(decoder.run(random_guesses(1, 8, 0, random_vocabulary)))
    firsts = [int(state.settled.sum()) for state in states[:-1]]
    assert lengths == [len(prompt) + 3, *((first // 4 + 1) * 4 - first for first in firsts[1:])]


@few
@given(seed=seeds, rows=batches, block_length=st.integers(1, 8))
def test_a_guessed_image_border_is_an_ordinary_guess(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, seed: int, rows: list[list[int]], block_length: int
) -> None:
    """Only the prompt determines where an image ends."""
    model = text_model(make_random_model, random_vocabulary, seed)
    decoder = TextDecoder(model, random_vocabulary, rows, 10, block_length)
    final = last_state(decoder.run(torch.full((len(rows), 10), random_vocabulary.eoi_id)))
    assert final.ids.tolist() == [greedy_without_cache(model, random_vocabulary, row, 10) for row in rows]


def test_an_image_is_prefilled_once_and_finished_answers_are_not_computed(
    make_random_model: MakeModel, random_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = text_model(make_random_model, random_vocabulary, 4)
    prompts = [prompt_of(question, random_vocabulary) for question in ([1, 2], [3], [4, 5, 6])]
    beginning = prompts[0].index(random_vocabulary.eoi_id) + 1
    rows = count_rows(model, monkeypatch)
    states = list(TextDecoder(model, random_vocabulary, prompts, 12, 1).run(torch.zeros(3, 12, dtype=torch.long)))
    still_open = [int((~state.settled.all(1)).sum()) for state in states[:-1]]
    assert rows == [sum(map(len, prompts)) - 2 * beginning, *still_open[1:]]
    assert min(still_open) < 3


def test_blocks_of_one_sample_and_longer_ones_do_not(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    model, prompt = make_random_model(0), prompt_of([1, 2], random_vocabulary)
    with pytest.raises(InputError, match="block_length is 2, but only greedy"):
        TextDecoder(model, random_vocabulary, [prompt], 4, 2, sampler())
    runs = [
        last_state(decoder.run(torch.zeros(2, 6, dtype=torch.long))).ids
        for decoder in (
            TextDecoder(
                model, random_vocabulary, [prompt] * 2, 6, 1, sampler(generator=torch.Generator().manual_seed(s))
            )
            for s in (0, 0, 1)
        )
    ]
    assert runs[0].equal(runs[1])
    assert not runs[0].equal(runs[2])


def test_a_cold_sampler_is_greedy() -> None:
    scores = torch.randn(3, 2, 11, generator=torch.Generator().manual_seed(0))
    assert sampler(temperature=1e-4)(scores).equal(greedy(scores))
    assert sampler(top_k=1)(scores).equal(greedy(scores))


def test_greedy_takes_the_lowest_of_equals() -> None:
    assert greedy(torch.tensor([[1.0, 5.0, 5.0, 2.0, 5.0]])).tolist() == [1]


@pytest.mark.parametrize(
    ("options", "message"), [({"temperature": 0.0}, "temperature is 0"), ({"top_k": 0}, "top_k is 0")]
)
def test_invalid_samplers_raise(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sampler(**options)


def test_invalid_numbers_raise(make_random_model: MakeModel, random_vocabulary: Vocabulary) -> None:
    model, prompt = make_random_model(0), prompt_of([1, 2], random_vocabulary)
    with pytest.raises(InputError, match="max_new_tokens is 0"):
        TextDecoder(model, random_vocabulary, [prompt], 0)
    with pytest.raises(InputError, match="block_length 0"):
        TextDecoder(model, random_vocabulary, [prompt], 4, 0)
    with pytest.raises(InputError, match="prompt ends with the image"):
        TextDecoder(model, random_vocabulary, [prompt[:-3]], 4)
    with pytest.raises(InputError, match=r"prompt of 10 and max_new_tokens of 87 exceed the model's 96 .* at most 86"):
        TextDecoder(model, random_vocabulary, [prompt], 87)


def test_guesses_are_text_of_the_rows_own_prompt(random_vocabulary: Vocabulary) -> None:
    prompts = [prompt_of([1, 2], random_vocabulary), prompt_of([3], random_vocabulary)]
    guesses = [draw_guesses(prompts, 50, random_vocabulary, torch.Generator().manual_seed(0)) for _ in range(2)]
    assert guesses[0].equal(guesses[1])
    end = random_vocabulary.end_of_text_id
    assert [set(row) for row in guesses[0].tolist()] == [{1, 2, end}, {3, end}]


def test_the_longest_answer_fits_exactly(make_random_model: MakeModel, random_vocabulary: Vocabulary) -> None:
    prompt = prompt_of([1, 2], random_vocabulary)
    decoder = TextDecoder(make_random_model(0), random_vocabulary, [prompt], 86, 86)
    state = last_state(decoder.run(draw_guesses([prompt], 86, random_vocabulary)))
    assert isinstance(state, State)
    assert state.done


@pytest.mark.parametrize(
    ("ids", "num_settled", "visible"),
    [
        ([4, 5, 6, 7, 8], 0, ([4, 5], 0, False)),
        ([4, 5, 6, 7, 8], 2, ([4, 5, 6, 7], 2, False)),
        ([4, 5, 9, 7, 8], 1, ([4, 5], 1, False)),  # a guess that the answer ends
        ([4, 5, 9, 9, 9], 5, ([4, 5], 3, True)),
        ([9, 9, 9, 9, 9], 5, ([], 1, True)),
    ],
)
def test_visible_ids_are_settled_ones_and_a_few_guesses(ids: list[int], num_settled: int, visible: tuple) -> None:
    state = State(torch.tensor([ids]), torch.arange(5)[None] < num_settled)
    assert visible_ids(state, 0, 9, num_guesses=2) == visible
