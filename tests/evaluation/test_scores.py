"""The judge: GenEval's rules over the exact detector, and truth of sentences."""

import json
import random
import re
from pathlib import Path

import pytest

from showo_turbo.errors import InputError
from showo_turbo.evaluation.geneval_rules import fulfils, score_pictures
from showo_turbo.evaluation.scene_questions import make_examination, score_answers, true_facts
from showo_turbo.evaluation.statistics import Estimate, mean_of_estimates, mean_of_groups
from showo_turbo.scenes.benchmark import ScenePrompt, benchmark_prompts
from showo_turbo.scenes.language import description
from showo_turbo.scenes.render import render
from showo_turbo.scenes.scene import Scene, SceneObject
from showo_turbo.scenes.split import held_out_scene

RED_CIRCLE, BLUE_STAR = SceneObject(0, "circle", "red"), SceneObject(3, "star", "blue")
SCENE = Scene("white", (RED_CIRCLE, BLUE_STAR))


def asked(*include: dict, **more: object) -> ScenePrompt:
    return ScenePrompt("position", include, "a prompt", **more)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (asked({"class": "circle", "count": 1}), True),
        (asked({"class": "circle", "count": 2}), False),
        (asked({"class": "circle", "count": 1, "color": "red"}), True),
        (asked({"class": "circle", "count": 1, "color": "blue"}), False),
        (asked({"class": "circle", "count": 1, "place": "top left"}), True),
        (asked({"class": "circle", "count": 1, "place": "top right"}), False),
        (asked({"class": "circle", "count": 1}, background="black"), False),
        (asked({"class": "star", "count": 1}, {"class": "circle", "count": 1, "position": ["above", 0]}), True),
        (asked({"class": "star", "count": 1}, {"class": "circle", "count": 1, "position": ["right of", 0]}), False),
        (asked({"class": "star", "count": 1}, exclude=({"class": "star", "count": 2},)), True),
        (asked({"class": "star", "count": 1}, exclude=({"class": "star", "count": 1},)), False),
    ],
)
def test_fulfils(prompt: ScenePrompt, expected: bool) -> None:
    assert fulfils(SCENE, prompt) is expected


def test_true_pictures_of_every_prompt_score_one_and_empty_ones_nothing() -> None:
    rng = random.Random(0)
    prompts = benchmark_prompts()[::12]
    pictures = []
    for prompt in prompts:
        while not fulfils(scene := held_out_scene(rng), prompt):
            pass
        pictures.append([render(scene)])
    assert score_pictures(prompts, pictures).overall.value == 1.0
    empty = [[render(Scene("white", ()))] for _ in prompts]
    assert score_pictures(prompts, empty).overall.value == 0.0


def test_the_answer_key_scores_one_and_one_answer_for_all_does_not() -> None:
    examination = make_examination(30)
    answers = [[turn.answer.capitalize() + "." for turn in turns] for turns in examination.turns]
    told = [description(scene) for scene in examination.scenes]
    key = score_answers(examination, answers, told)
    assert key.questions.value == key.facts.value == key.recall.value == 1.0
    lazy = score_answers(examination, [["yes"] * len(turns) for turns in examination.turns], [""] * 30)
    assert lazy.questions.value < 0.3
    assert lazy.facts.value == lazy.recall.value == 0.0


def test_facts_are_judged_one_by_one() -> None:
    said = "a red square in the top left and a red star in the top right on a white background"
    assert true_facts(said, SCENE) == [1, 1, 0, 0, 0, 0, 1]


def test_intervals_know_that_cases_of_a_group_are_alike() -> None:
    alike = mean_of_groups([[1.0] * 4] * 8 + [[0.0] * 4] * 2)
    unlike = mean_of_groups([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]] * 4 + [[0.0, 1.0, 1.0, 0.0]] * 2)
    width = {one: one.interval[1] - one.interval[0] for one in (alike, unlike)}
    assert alike.value == 0.8
    assert width[alike] > width[unlike]
    assert mean_of_groups([[1.0]] * 20).interval[0] < 0.9


def test_the_overall_score_is_the_mean_of_its_parts() -> None:
    parts = [Estimate(0.5, (0.4, 0.6)), Estimate(0.9, (0.8, 1.0))]
    overall = mean_of_estimates(parts)
    assert overall.value == pytest.approx(0.7)
    assert overall.interval == pytest.approx((0.7 - 0.1 / 2**0.5, 0.7 + 0.1 / 2**0.5))


def test_other_words_for_the_same_are_no_independent_cases() -> None:
    circle, star = ({"class": shape, "count": 1} for shape in ("circle", "star"))
    rendered = {shape: render(Scene("white", (SceneObject(0, shape, "red"),))) for shape in ("circle", "star")}
    pictures = [[rendered["circle"]]] * 4 + [[rendered["circle"]]] * 4
    wordings = [
        (item, opening) for item in (circle, star) for opening in ("a", "a photo of a", "a drawing of a", "one")
    ]
    asked_again = [ScenePrompt("colors", (item,), f"{opening} {item['class']}") for item, opening in wordings]
    (estimate,) = score_pictures(asked_again, pictures).by_tag.values()
    assert estimate == mean_of_groups([[1.0] * 4, [0.0] * 4])


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
        ({"prompt": 3}, "prompt is 3: expected a text"),
        ({"colour": "red"}, "unknown key colour"),
    ],
)
def test_prompts_that_cannot_be_judged_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"tag": "colors", "include": [STAR], "prompt": "a star"} | changes))
    with pytest.raises(InputError, match=r"prompts\.jsonl, line 1: .*" + re.escape(message)):
        benchmark_prompts(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\n", "holds no prompts"), (b"\xe9", "cannot be read"), (b"[]", "not a GenEval prompt (it is a list)")],
)
def test_files_without_prompts_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message)):
        benchmark_prompts(file)
