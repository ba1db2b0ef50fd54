"""The world of clip-art: looks, the judge on damaged images, and its texts."""

import random

import numpy as np
import pytest

from showo_turbo.checkpoints.loading import locate
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.scenes.clipart.clipart_language import SYNONYMS
from showo_turbo.scenes.clipart.clipart_world import CLIPART, render_array
from showo_turbo.scenes.clipart.sprite_judge import detect
from showo_turbo.scenes.clipart.sprites import COLORS_OF, FOLDER, LOOKS, sprite
from showo_turbo.scenes.language import plural
from showo_turbo.scenes.scene import MIDDLE, Scene, SceneObject


def test_the_world_has_enough_classes_and_colors() -> None:
    assert len(COLORS_OF) >= 60
    assert sum(len(colors) >= 4 for colors in COLORS_OF.values()) >= 8
    assert sum(file.stat().st_size for file in FOLDER.glob("*.png")) < 0.4e6
    assert "MIT" in (FOLDER / "LICENSE").read_text()


def test_halves_of_two_things_are_refused() -> None:
    rng, refused, count = random.Random(0), 0, 1000
    for _ in range(count):
        first, second = rng.sample(LOOKS, 2)
        size, across = rng.choice((64, 128)), rng.random() < 0.5
        a, b = sprite(*first, size), sprite(*second, size)
        half = size // 2
        mixed = np.concatenate([a[:, :half], b[:, half:]], 1) if across else np.concatenate([a[:half], b[half:]])
        image = np.full((128, 128, 3), 255, dtype=np.uint8)
        image[:size, :size] = mixed
        refused += not detect(image).scene.objects
    assert refused >= 0.99 * count


def test_noise_and_gray_are_no_things_and_white_is_empty() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert detect(noise).scene.objects == detect(np.full_like(noise, 128)).scene.objects == ()
    assert detect(noise).unrecognised == (0, 1, 2, 3)
    assert detect(np.full_like(noise, 255)).scene.objects == detect(np.full_like(noise, 255)).unrecognised == ()


def test_answers_match_the_scene() -> None:
    scene = Scene("white", (SceneObject(0, "dog", None), SceneObject(1, "car", "red"), SceneObject(3, "car", "blue")))
    expected = {
        "How many cars are there?": "two",
        "How many automobiles are there?": "two",
        "How many objects are there?": "three",
        "Where is the dog?": "top left",
        "Where is the blue car?": "bottom right",
        "Is there a red car?": "yes",
        "Is there a green car?": "no",
        "What is in the top right?": "a red car",
        "What is in the bottom left?": "nothing",
    }
    answers = {}
    for seed in range(3000):
        answers |= {turn.question: turn.answer for turn in CLIPART.language.questions(scene, random.Random(seed))}
    assert expected.items() <= answers.items()
    assert not any(question.startswith("What color is the car") for question in answers)


def test_captions_take_many_forms() -> None:
    scene = Scene("white", (SceneObject(0, "dog", None), SceneObject(1, "bicycle", "red")))
    captions = {CLIPART.language.caption(scene, random.Random(seed)) for seed in range(4000)}
    assert {
        "a dog left of a bicycle",
        "a dog and a red bicycle",
        "a bike to the right of a dog",
        "a dog on the left and a bicycle on the right",
        "a dog in the top left and a red bicycle in the top right.",
    } <= captions


def test_synonyms_belong_to_one_noun_each() -> None:
    words = [word for words in SYNONYMS.values() for word in words]
    assert len(set(words)) == len(words)
    assert set(SYNONYMS) <= set(COLORS_OF)
    assert not set(words) & set(COLORS_OF)


def test_a_large_thing_fills_the_image() -> None:
    scene = Scene("white", (SceneObject(MIDDLE, "rocket", None),))
    assert np.array_equal(render_array(scene), sprite("rocket", None, 128))
    assert detect(render_array(scene)).scene == scene


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("butterfly", "butterflies"),
        ("big lorry", "big lorries"),
        ("toy", "toys"),
        ("bus", "buses"),
        ("knife", "knives"),
    ],
)
def test_plurals_are_spelled_as_in_a_dictionary(noun: str, expected: str) -> None:
    assert plural(noun) == expected


def test_the_shipped_model_reads_every_plural_as_one_word() -> None:
    files = locate("clipart")
    prompts = PromptBuilder.from_pretrained(files.text_tokenizer, files.config)
    for noun in COLORS_OF:
        words = f"two {plural(noun)}".split()
        assert len(prompts.tokenizer.tokenize(" ".join(words))) == len(words), noun
