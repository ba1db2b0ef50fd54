"""Scores: GenEval's rules with the exact detector, answers, facts in descriptions, and confidence intervals."""

import json
import random
import re
from pathlib import Path

import pytest
from PIL import Image

from showo_turbo.errors import InputError
from showo_turbo.evaluation.geneval_rules import matches_prompt, score_images
from showo_turbo.evaluation.scene_questions import make_question_set, score_answers, true_facts
from showo_turbo.evaluation.statistics import Estimate, mean_of_estimates, mean_of_groups
from showo_turbo.scenes.benchmark import ScenePrompt, benchmark_prompts
from showo_turbo.scenes.scene import Scene, SceneObject
from showo_turbo.scenes.shapes.shape_world import SHAPES

RED_CIRCLE, BLUE_STAR = SceneObject(0, "circle", "red"), SceneObject(3, "star", "blue")
SCENE = Scene("white", (RED_CIRCLE, BLUE_STAR))


def scene_prompt(*include: dict, **more: object) -> ScenePrompt:
    return ScenePrompt("position", include, "a prompt", **more)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (scene_prompt({"class": "circle", "count": 1}), True),
        (scene_prompt({"class": "circle", "count": 2}), False),
        (scene_prompt({"class": "circle", "count": 1, "color": "red"}), True),
        (scene_prompt({"class": "circle", "count": 1, "color": "blue"}), False),
        (scene_prompt({"class": "circle", "count": 1, "place": "top left"}), True),
        (scene_prompt({"class": "circle", "count": 1, "place": "top right"}), False),
        (scene_prompt({"class": "circle", "count": 1}, background="black"), False),
        (scene_prompt({"class": "star", "count": 1}, {"class": "circle", "count": 1, "position": ["above", 0]}), True),
        (
            scene_prompt({"class": "star", "count": 1}, {"class": "circle", "count": 1, "position": ["right of", 0]}),
            False,
        ),
        (scene_prompt({"class": "star", "count": 1}, exclude=({"class": "star", "count": 2},)), True),
        (scene_prompt({"class": "star", "count": 1}, exclude=({"class": "star", "count": 1},)), False),
    ],
)
def test_matches_prompt(prompt: ScenePrompt, expected: bool) -> None:
    assert matches_prompt(SCENE, prompt) is expected


def test_correct_images_score_one_and_empty_images_zero() -> None:
    rng = random.Random(0)
    prompts = benchmark_prompts()[::12]
    images = []
    for prompt in prompts:
        while not matches_prompt(scene := SHAPES.held_out_scene(rng), prompt):
            pass
        images.append([SHAPES.render(scene)])
    assert score_images(prompts, images).overall.value == 1.0
    empty = [[SHAPES.render(Scene("white", ()))] for _ in prompts]
    assert score_images(prompts, empty).overall.value == 0.0


def test_correct_answers_score_one_and_a_constant_answer_does_not() -> None:
    question_set = make_question_set(30)
    answers = [[turn.answer.capitalize() + "." for turn in turns] for turns in question_set.turns]
    descriptions = [SHAPES.language.description(scene) for scene in question_set.scenes]
    correct = score_answers(question_set, answers, descriptions)
    assert correct.questions.value == correct.facts.value == correct.recall.value == 1.0
    constant = score_answers(question_set, [["yes"] * len(turns) for turns in question_set.turns], [""] * 30)
    assert constant.questions.value < 0.3
    assert constant.facts.value == constant.recall.value == 0.0


def test_facts_are_scored_one_by_one() -> None:
    text = "a red square in the top left and a red star in the top right on a white background"
    assert true_facts(text, SCENE) == [1, 1, 0, 0, 0, 0, 1]


def test_intervals_are_wider_for_correlated_groups() -> None:
    correlated = mean_of_groups([[1.0] * 4] * 8 + [[0.0] * 4] * 2)
    mixed = mean_of_groups([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]] * 4 + [[0.0, 1.0, 1.0, 0.0]] * 2)
    width = {one: one.interval[1] - one.interval[0] for one in (correlated, mixed)}
    assert correlated.value == 0.8
    assert width[correlated] > width[mixed]
    assert mean_of_groups([[1.0]] * 20).interval[0] < 0.9


def test_the_overall_score_is_the_mean_of_the_categories() -> None:
    parts = [Estimate(0.5, (0.4, 0.6)), Estimate(0.9, (0.8, 1.0))]
    overall = mean_of_estimates(parts)
    assert overall.value == pytest.approx(0.7)
    assert overall.interval == pytest.approx((0.7 - 0.1 / 2**0.5, 0.7 + 0.1 / 2**0.5))


def test_prompts_that_differ_in_wording_only_are_one_group() -> None:
    circle, star = ({"class": shape, "count": 1} for shape in ("circle", "star"))
    rendered = {shape: SHAPES.render(Scene("white", (SceneObject(0, shape, "red"),))) for shape in ("circle", "star")}
    images = [[rendered["circle"]]] * 4 + [[rendered["circle"]]] * 4
    wordings = [
        (item, opening) for item in (circle, star) for opening in ("a", "a photo of a", "a drawing of a", "one")
    ]
    prompts = [ScenePrompt("colors", (item,), f"{opening} {item['class']}") for item, opening in wordings]
    (estimate,) = score_images(prompts, images).by_tag.values()
    assert estimate == mean_of_groups([[1.0] * 4, [0.0] * 4])


def test_images_with_something_that_is_no_object_are_counted() -> None:
    clean = SHAPES.render(SCENE)
    blurred = clean.copy()
    blurred.paste(Image.effect_noise((20, 20), 90), (38, 6))  # in the empty top right
    scores = score_images([scene_prompt({"class": "circle", "count": 1})], [[clean, blurred, clean, clean]])
    assert scores.unrecognised.value == 0.25


STAR = {"class": "star", "count": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tag": "coutning"}, "tag is 'coutning'; the built-in world has single_object"),
        ({"include": [{"class": "clock", "count": 1}]}, "class is 'clock'"),
        ({"include": [{"class": "star"}]}, "is no item with a class and a count"),
        ({"include": STAR}, "is no item with a class"),
        ({"include": [STAR | {"color": "pink"}]}, "color is 'pink'"),
        ({"include": [STAR | {"position": ["beside", 0]}]}, "relation is 'beside'"),
        ({"include": [STAR | {"position": ["above", 1]}]}, "index is 1"),
        ({"include": [STAR | {"position": "above"}]}, "position is 'above'"),
        ({"exclude": [{"class": "star"}]}, "is no item with a class and a count"),
        ({"background": "grey"}, "background is 'grey'"),
        ({"background": ["grey"]}, "background is ['grey']"),
        ({"include": [STAR | {"class": []}]}, "class is []"),
        ({"include": [STAR | {"class": {"a": 1}}]}, "class is {'a': 1}"),
        ({"include": 3}, "not a GenEval prompt"),
        ({"prompt": 3}, "prompt is 3: expected a text"),
        ({"colour": "red"}, "unknown key colour"),
    ],
)
def test_invalid_prompts_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"tag": "colors", "include": [STAR], "prompt": "a star"} | changes))
    with pytest.raises(InputError, match=r"prompts\.jsonl, line 1: .*" + re.escape(message)):
        benchmark_prompts(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n", "holds no prompts"),
        (b"\xe9", "cannot be read"),
        (b"[]", "not a GenEval prompt (it is a list)"),
        (b"[" * 100_000, "not a GenEval prompt (it is nested too deeply)"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_files_without_prompts_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message)):
        benchmark_prompts(file)


def test_prompts_are_read_from_plain_files_only() -> None:
    with pytest.raises(InputError, match="'/dev/zero' cannot be read"):
        benchmark_prompts(Path("/dev/zero"))
