"""Dialogues in the engine: answers are those of `Chat`, whatever is stored of earlier turns."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from showo_turbo import InputError, ShowoPipeline
from showo_turbo.pipelines.chat import ChatTurn
from showo_turbo.serving.dialogues import ChatOutput, ChatRequest, DialogueCache, prepare_dialogue
from showo_turbo.serving.engine import Engine

QUESTIONS = ["How many stars are there?", "Where is the star?", "Describe the image.", "What color is the background?"]
NOISE = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)) for seed in range(3)
]


def ask(pipe: ShowoPipeline, cache: DialogueCache, requests: list[ChatRequest]) -> list[ChatOutput]:
    engine: Engine[Any] = Engine(pipe.model, lambda request: prepare_dialogue(pipe, cache, request))
    outputs = {update.ticket: update.output() for update in engine.run(requests) if update.done}
    return [outputs[ticket] for ticket in sorted(outputs)]


@pytest.mark.parametrize("options", [{}, {"decoding": "autoregressive"}, {"sliding_window": False, "drafts": False}])
def test_answers_do_not_depend_on_what_is_stored(random_pipe: ShowoPipeline, options: dict[str, Any]) -> None:
    """Turn by turn; each turn finds all before it in the cache but the last id of the answer."""
    cache, turns = DialogueCache(1 << 24), []
    for question in QUESTIONS[:3]:
        request = ChatRequest(NOISE[0], tuple(turns), question, max_new_tokens=9, seed=0, **options)
        [answer] = ask(random_pipe, cache, [request])
        [without] = ask(random_pipe, DialogueCache(0), [request])
        assert (answer.text, answer.token_ids) == (without.text, without.token_ids)
        assert answer.forward_passes == without.forward_passes
        assert without.cached_tokens == 0
        turns.append(ChatTurn(question, answer.text))
    assert cache.hits == 2
    assert cache.lookups == 3
    assert 0 < cache.cached_tokens < cache.prompt_tokens
    assert turns[0].answer == random_pipe.chat(NOISE[0]).ask(QUESTIONS[0], max_new_tokens=9, **options).texts[0]


def test_answers_of_a_trained_model_are_those_of_a_chat(tiny_turbo: ShowoPipeline) -> None:
    image = tiny_turbo.text_to_image("a red circle and a blue star", seed=0).images[0]
    cache, chat, turns = DialogueCache(1 << 24), tiny_turbo.chat(image), []
    for question in QUESTIONS:
        expected = chat.ask(question, max_new_tokens=24)
        [answer] = ask(tiny_turbo, cache, [ChatRequest(image, tuple(turns), question, max_new_tokens=24)])
        assert answer.text == expected.texts[0]
        assert answer.token_ids == expected.token_ids[0]
        turns.append(ChatTurn(question, answer.text))
    assert cache.hits == 3
    [again] = ask(tiny_turbo, cache, [ChatRequest(image, tuple(turns[:-1]), QUESTIONS[-1], max_new_tokens=24)])
    assert again.text == turns[-1].answer
    assert again.cached_tokens == again.prompt_tokens


def test_dialogues_beside_each_other_do_not_mix(random_pipe: ShowoPipeline) -> None:
    """Two continue the same start, others have other images; with a cache for two dialogues of the random model."""
    start = [ChatRequest(image, (), QUESTIONS[0], max_new_tokens=5) for image in NOISE]
    alone = [ask(random_pipe, DialogueCache(0), [request])[0].text for request in start]
    follow = [
        ChatRequest(NOISE[number % 3], (ChatTurn(QUESTIONS[0], alone[number % 3]),), question, max_new_tokens=7)
        for number, question in enumerate([*QUESTIONS[1:], *QUESTIONS[1:3]])
    ]
    expected = [ask(random_pipe, DialogueCache(0), [request])[0].text for request in follow]
    for size in (1 << 24, 200_000, 1):
        cache = DialogueCache(size)
        assert [answer.text for answer in ask(random_pipe, cache, start)] == alone
        assert [answer.text for answer in ask(random_pipe, cache, follow)] == expected
        assert cache.stored_bytes <= size
    assert cache.hits == 0


def test_what_is_stored_is_counted_and_the_oldest_is_dropped(random_pipe: ShowoPipeline) -> None:
    cache = DialogueCache(1 << 24)
    ask(random_pipe, cache, [ChatRequest(NOISE[0], (), QUESTIONS[0], max_new_tokens=5)])
    one = cache.stored_bytes
    small = DialogueCache(int(2.5 * one))
    for image in NOISE:
        ask(random_pipe, small, [ChatRequest(image, (), QUESTIONS[0], max_new_tokens=5)])
    assert one < small.stored_bytes <= 2.5 * one
    ask(random_pipe, small, [ChatRequest(NOISE[2], (), QUESTIONS[1], max_new_tokens=5)])
    assert small.hits == 1
    ask(random_pipe, small, [ChatRequest(NOISE[0], (), QUESTIONS[1], max_new_tokens=5)])
    assert small.hits == 1


def test_a_failed_or_cancelled_dialogue_stores_nothing(random_pipe: ShowoPipeline) -> None:
    cache = DialogueCache(1 << 24)
    engine: Engine[Any] = Engine(random_pipe.model, lambda request: prepare_dialogue(random_pipe, cache, request))
    ticket = engine.submit(ChatRequest(NOISE[0], (), QUESTIONS[0], max_new_tokens=9))
    images = cache.stored_bytes
    engine.step()
    engine.cancel(ticket)
    assert engine.step() == []
    assert cache.stored_bytes == images


@pytest.mark.parametrize(
    ("turns", "question", "message"),
    [
        ((), " ", "question is empty"),
        ((ChatTurn("a", "<|eoi|>"),), "b", "answer holds '<|eoi|>'"),
        ((ChatTurn("", "a"),), "b", "question is empty"),
        ((ChatTurn("a", "b " * 300),), "b", "image, dialogue so far and question take"),
    ],
)
def test_invalid_dialogues_raise(random_pipe: ShowoPipeline, turns: tuple, question: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("|", r"\|")):
        prepare_dialogue(random_pipe, DialogueCache(0), ChatRequest(NOISE[0], turns, question))
