"""A pipeline warns once, at the line of its user, of words that its model was never trained on."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.known_world import KnownWorld, UnknownWordsWarning

WORLD = KnownWorld(
    "shapes", "cars", frozenset({"a", "red", "car", "how", "many", "cars", "2"}), ("a red car",), ("How many cars?",)
)
CODES = torch.zeros(1, 16, dtype=torch.long)


@pytest.fixture
def pipe(random_pipe: ShowoPipeline) -> ShowoPipeline:
    return replace(random_pipe, known_world=WORLD)


CALLS: dict[str, Callable[[ShowoPipeline, str], object]] = {
    "text to image": lambda pipe, text: pipe.text_to_image(text, output_type="latent"),
    "vary": lambda pipe, text: pipe.vary(codes=CODES, prompt=text, output_type="latent"),
    "image to text": lambda pipe, text: pipe.image_to_text(codes=CODES, prompt=text, max_new_tokens=2),
    "chat": lambda pipe, text: pipe.chat(codes=CODES).ask(text, max_new_tokens=2),
}


@pytest.mark.parametrize("call", CALLS)
def test_unknown_words_cause_one_warning_that_names_the_line_of_the_user(pipe: ShowoPipeline, call: str) -> None:
    with pytest.warns(UnknownWordsWarning, match="trained on cars, and never saw 'dog': try") as warned:
        _ = [CALLS[call](pipe, text) for text in ("a red dog", "a cat")]
    assert [warning.filename for warning in warned] == [__file__]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("text", ["A RED car", "how many\u200b cars?!", "\uff12 cars", "“a red car”, (how many)…"])
def test_known_words_cause_none(pipe: ShowoPipeline, call: str, text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CALLS[call](pipe, text)


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("🔴🔵", ["🔴🔵"]),
        ("a red car ❤️", ["❤️"]),
        ("???", ["???"]),
        ("...", ["..."]),
        ("a_red_car", ["_"]),
        ("red+car", ["+"]),
        ("red-car", ["red-car"]),
        ("3 cars", ["3"]),
        ("voitures rouges", ["voitures", "rouges"]),
        ("赤い車", ["赤い車"]),
    ],
)
def test_words_of_any_kind_are_named(text: str, unknown: list[str]) -> None:
    assert WORLD.unknown_words([text]) == unknown
