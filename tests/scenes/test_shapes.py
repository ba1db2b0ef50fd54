"""The world of shapes: its size, its detector on damaged images, and its texts."""

import random

import numpy as np

from showo_turbo.scenes.benchmark import benchmark_prompts
from showo_turbo.scenes.scene import PLACES, Scene, SceneObject
from showo_turbo.scenes.shapes.shape_detector import detect
from showo_turbo.scenes.shapes.shape_renderer import COLORS, RGB, render_array
from showo_turbo.scenes.shapes.shape_world import SHAPES


def test_the_world_has_enough_shapes_and_colors() -> None:
    assert len(SHAPES.language.nouns) >= 5
    assert len(SHAPES.language.colors) >= 6
    assert len(SHAPES.backgrounds) == 2


def test_the_detector_reports_damaged_objects_as_unrecognised() -> None:
    scene = Scene("white", (SceneObject(0, "circle", "red"), SceneObject(3, "star", "blue")))
    half_drawn = render_array(scene).copy()
    half_drawn[:16, :32] = 255
    wrong_color = render_array(scene).copy()
    wrong_color[wrong_color[..., 2] < 100] = 128

    assert detect(half_drawn).scene.objects == scene.objects[1:]
    assert detect(half_drawn).unrecognised == (0,)
    assert detect(wrong_color).unrecognised == (0,)
    assert detect(np.full((64, 64, 3), RGB["black"], dtype=np.uint8)).scene == Scene("black", ())


def test_answers_match_the_scene() -> None:
    scene = Scene("black", (SceneObject(0, "circle", "red"), SceneObject(3, "star", "blue")))
    expected = {
        "How many stars are there?": "one",
        "How many crosses are there?": "zero",
        "How many objects are there?": "two",
        "What color is the star?": "blue",
        "What colour is the background?": "black",
        "What shape is the red object?": "circle",
        "Where is the star?": "bottom right",
        "Is there a red circle?": "yes",
        "Is the circle left of the star?": "yes",
        "Is the circle below the star?": "no",
        "What is in the top left?": "a red circle",
        "What is in the top right?": "nothing",
    }
    answers = {}
    for seed in range(400):
        answers |= {turn.question: turn.answer for turn in SHAPES.language.questions(scene, random.Random(seed))}
    assert expected.items() <= answers.items()
    assert all(answer == "no" for question, answer in answers.items() if "Is there a" in question and answer != "yes")


def test_captions_count_equal_objects_together() -> None:
    scene = Scene("white", tuple(SceneObject(place, "cross", "green") for place in range(3)))
    captions = {SHAPES.language.caption(scene, random.Random(seed)) for seed in range(300)}
    assert {"three crosses", "three green crosses", "a photo of three crosses on a white background"} <= captions


def test_no_training_scene_satisfies_a_single_object_prompt() -> None:
    required = {
        (prompt.include[0]["class"], prompt.include[0]["place"], prompt.background)
        for prompt in benchmark_prompts()
        if prompt.tag == "single_object"
    }
    for shape, place, background in required:
        for color in COLORS:
            scene = Scene(background, (SceneObject(PLACES.index(place), shape, color),))
            assert not SHAPES.split.is_training_scene(scene)
