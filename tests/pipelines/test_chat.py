"""Chat: every turn is read after all before it, and nothing is computed twice."""

import pytest
import torch
from torch import Tensor

from showo_turbo import ShowoPipeline
from showo_turbo.errors import InputError
from showo_turbo.generation.text_decoder import TextDecoder
from showo_turbo.generation.trajectory import last_state

QUESTIONS = ["What is it?", "How many stars are there?", "Where?"]


@pytest.fixture(scope="session")
def codes() -> Tensor:
    return torch.randint(16, (16,), generator=torch.Generator().manual_seed(0))


def recomputed(pipe: ShowoPipeline, codes: Tensor, max_new_tokens: int) -> list[list[int]]:
    """Decode greedy answers one id at a time from the whole dialogue so far, without a KV cache."""
    end, encode = pipe.prompts.vocabulary.end_of_text_id, pipe.prompts.encode
    said, answers = pipe.prompts.image_prefix(codes), []
    for turn, question in enumerate(QUESTIONS):
        said += [end, *encode(f"USER: {'' if turn else chr(10)}{question} ASSISTANT:")]
        decoder = TextDecoder(pipe.model, pipe.prompts.vocabulary, [said], max_new_tokens, block_length=1)
        (ids,) = last_state(decoder.run(torch.zeros(1, max_new_tokens, dtype=torch.long))).ids.tolist()
        answers.append(ids[: ids.index(end)] if end in ids else ids)
        said += answers[-1]
    return answers


@pytest.mark.parametrize(
    "options", [{}, {"block_length": 3}, {"sliding_window": False}, {"drafts": False}, {"decoding": "autoregressive"}]
)
def test_turns_are_read_after_those_before(random_pipe: ShowoPipeline, codes: Tensor, options: dict) -> None:
    dialogue = random_pipe.chat(codes=codes)
    answers = [dialogue.ask(question, max_new_tokens=9, seed=0, **options) for question in QUESTIONS]
    assert [answer.token_ids[0] for answer in answers] == recomputed(random_pipe, codes, 9)
    assert [(turn.question, turn.answer) for turn in dialogue.turns] == [
        (question, answer.texts[0]) for question, answer in zip(QUESTIONS, answers, strict=True)
    ]


def test_the_first_turn_is_a_single_question(random_pipe: ShowoPipeline) -> None:
    image = random_pipe.text_to_image("a red car", seed=0).images[0]
    first = random_pipe.chat(image).ask("What?", max_new_tokens=9)
    assert first.token_ids == random_pipe.image_to_text(image, "What?", max_new_tokens=9).token_ids


def test_no_earlier_turn_is_computed_again(
    random_pipe: ShowoPipeline, codes: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    embed = random_pipe.model.embed
    monkeypatch.setattr(random_pipe.model, "embed", lambda ids: (lengths.append(ids.numel()), embed(ids))[1])
    dialogue = random_pipe.chat(codes=codes)
    for question in QUESTIONS:
        before = len(lengths)
        asked = len(random_pipe.prompts.next_turn(question))
        dialogue.ask(question, max_new_tokens=8, decoding="autoregressive")
        if before:
            assert lengths[before] <= asked + 1  # the last answer's last id, and the question
            assert set(lengths[before + 1 :]) <= {1}
    assert len(lengths) >= len(QUESTIONS)


def test_an_invalid_question_changes_nothing(random_pipe: ShowoPipeline, codes: Tensor) -> None:
    dialogue = random_pipe.chat(codes=codes)
    dialogue.ask("What is it?", max_new_tokens=8)
    for question, options, message in [
        ("", {}, "question is empty"),
        (3, {}, "question is 3: expected a text"),
        ("Why?", {"max_new_tokens": 300}, "but the model has 256 positions"),
        ("Why?", {"decoding": "guess"}, "decoding is 'guess'"),
    ]:
        with pytest.raises(InputError, match=message):
            dialogue.ask(question, **options)
    assert len(dialogue.turns) == 1
    again = random_pipe.chat(codes=codes)
    again.ask("What is it?", max_new_tokens=8)
    assert dialogue.ask("Where?", max_new_tokens=8).texts == again.ask("Where?", max_new_tokens=8).texts


def test_an_interruption_leaves_the_chat_unchanged(random_pipe: ShowoPipeline, codes: Tensor) -> None:
    class Interrupting:
        def put(self, value: Tensor) -> None:
            raise KeyboardInterrupt

        def end(self) -> None:
            pass

    dialogue, other = random_pipe.chat(codes=codes), random_pipe.chat(codes=codes)
    for one in (dialogue, other):
        one.ask("What is it?", max_new_tokens=8)
    with pytest.raises(KeyboardInterrupt):
        dialogue.ask("Where?", max_new_tokens=8, streamer=Interrupting())
    assert len(dialogue.turns) == 1
    assert dialogue.ask("Why?", max_new_tokens=8).token_ids == other.ask("Why?", max_new_tokens=8).token_ids


def test_a_chat_is_about_one_image(random_pipe: ShowoPipeline, codes: Tensor) -> None:
    with pytest.raises(InputError, match="give either image or codes to chat"):
        random_pipe.chat()
    with pytest.raises(InputError, match="about one image, but there are 2"):
        random_pipe.chat(codes=torch.stack([codes, codes]))


def test_a_chat_that_exceeds_the_positions_raises(random_pipe: ShowoPipeline, codes: Tensor) -> None:
    dialogue = random_pipe.chat(codes=codes)
    for _ in range(3):
        dialogue.ask("How many stars are there?", max_new_tokens=16)
    with pytest.raises(InputError, match=r"dialogue so far and question take .* but the model has 256 positions"):
        dialogue.ask("Why? " * 30, max_new_tokens=16)
