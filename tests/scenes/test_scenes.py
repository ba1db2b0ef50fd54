"""The built-in world: renders are detected again, and held-out combinations never occur in training scenes."""

import random
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from showo_turbo.errors import InputError
from showo_turbo.scenes.benchmark import TAGS, benchmark_prompts
from showo_turbo.scenes.detector import detect
from showo_turbo.scenes.language import caption, described_facts, description, questions
from showo_turbo.scenes.render import RGB, render, render_array
from showo_turbo.scenes.scene import BACKGROUNDS, COLORS, PLACES, RELATIONS, SHAPES, Scene, SceneObject, random_scene
from showo_turbo.scenes.split import combinations_in, held_out_scene, is_held_out, is_training_scene, training_scene


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = random.Random(3)
    return [random_scene(rng) for _ in range(600)]


def test_the_world_has_enough_shapes_colors_and_relations(scenes: list[Scene]) -> None:
    assert len(SHAPES) >= 5
    assert len(COLORS) >= 6
    assert len(BACKGROUNDS) == 2
    assert set(RELATIONS) == {"left of", "right of", "above", "below"}
    assert {len(scene.objects) for scene in scenes} == {1, 2, 3, 4}


def test_the_detector_recognises_at_least_99_percent_of_renders(scenes: list[Scene]) -> None:
    found = [detect(render(scene)) for scene in scenes]
    exact = sum(one.scene == scene and not one.unrecognised for one, scene in zip(found, scenes, strict=True))
    assert exact >= 0.99 * len(scenes)


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


def test_the_detector_refuses_other_sizes() -> None:
    with pytest.raises(InputError, match="64 x 64"):
        detect(Image.new("RGB", (32, 32)))


def test_descriptions_state_every_fact(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert described_facts(description(scene)) == (list(scene.objects), scene.background)


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
        answers |= {turn.question: turn.answer for turn in questions(scene, random.Random(seed))}
    assert expected.items() <= answers.items()
    assert all(answer == "no" for question, answer in answers.items() if "Is there a" in question and answer != "yes")


def test_captions_count_equal_objects_together() -> None:
    scene = Scene("white", tuple(SceneObject(place, "cross", "green") for place in range(3)))
    captions = {caption(scene, random.Random(seed)) for seed in range(300)}
    assert {"three crosses", "three green crosses", "a photo of three crosses on a white background"} <= captions


def test_training_scenes_contain_no_held_out_combination() -> None:
    rng = random.Random(5)
    for _ in range(300):
        assert not any(is_held_out(one) for one in combinations_in(training_scene(rng)))
        assert any(is_held_out(one) for one in combinations_in(held_out_scene(rng)))


def test_the_script_reproduces_the_benchmark_file() -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "make_scene_benchmark.py"))
    prompts = benchmark_prompts()
    assert prompts == script["make_benchmark"]()
    assert "".join(prompt.to_json() + "\n" for prompt in prompts) == script["OUTPUT"].read_text()
    assert len(prompts) >= 300
    assert {prompt.tag for prompt in prompts} == set(TAGS)
    assert len({prompt.prompt for prompt in prompts}) == len(prompts)


def test_no_training_scene_satisfies_a_single_object_prompt() -> None:
    required = {
        (prompt.include[0]["class"], prompt.include[0]["place"], prompt.background)
        for prompt in benchmark_prompts()
        if prompt.tag == "single_object"
    }
    for shape, place, background in required:
        for color in COLORS:
            assert not is_training_scene(Scene(background, (SceneObject(PLACES.index(place), shape, color),)))
