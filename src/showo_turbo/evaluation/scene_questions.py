"""Make questions about held-out scenes, and score answers and the facts in descriptions."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from showo_turbo.evaluation.benchmarks.pope import PopeScores, score_pope
from showo_turbo.evaluation.statistics import Estimate, mean_of_groups
from showo_turbo.scenes.language import Language, QuestionAnswer
from showo_turbo.scenes.scene import Scene
from showo_turbo.scenes.shapes.shape_world import SHAPES
from showo_turbo.scenes.world import World


@dataclass(frozen=True)
class QuestionSet:
    """Hold scenes and the questions about each; every scene is also described.

    Attributes:
        scenes: the scenes.
        turns: questions with their answers, one list per scene.
        world: the world of the scenes.
    """

    scenes: list[Scene]
    turns: list[list[QuestionAnswer]]
    world: World


def make_question_set(count: int, seed: int = 0, world: World = SHAPES) -> QuestionSet:
    """Sample `count` held-out scenes with one question of every kind that applies to each."""
    rng = random.Random(f"examination/{seed}")
    scenes = [world.held_out_scene(rng) for _ in range(count)]
    return QuestionSet(scenes, [world.language.questions(scene, rng) for scene in scenes], world)


def is_correct(answer: str, turn: QuestionAnswer) -> bool:
    """Return whether an answer equals the expected one, up to case, surrounding spaces and a final period."""
    return answer.strip().rstrip(".").lower() == turn.answer


def true_facts(text: str, scene: Scene, language: Language = SHAPES.language) -> list[float]:
    """Return 1.0 or 0.0 for every fact in a description: true or false of the scene.

    Each object is three facts (there is an object at its place; its color, unless it has none; its noun), the
    background is one. A text without facts counts as one false fact, so an empty description does not score.
    """
    objects, background = language.described_facts(text)
    facts = []
    for described in objects:
        actual = scene.at(described.place)
        facts.append(float(actual is not None))
        if described.color is not None:
            facts.append(float(actual is not None and actual.color == described.color))
        facts.append(float(actual is not None and actual.noun == described.noun))
    if background is not None:
        facts.append(float(background == scene.background))
    return facts or [0.0]


def objects_mentioned(text: str, scene: Scene, language: Language) -> list[float]:
    """Return 1.0 for every object of the scene that the description has with its color, noun and place, else 0.0."""
    described, _ = language.described_facts(text)
    return [float(thing in described) for thing in scene.objects]


@dataclass(frozen=True)
class UnderstandingScores:
    """Hold fractions with 95 % intervals; a scene's questions, and its facts, are one group.

    Attributes:
        by_kind: correct answers per kind of question.
        questions: correct answers of all kinds.
        facts: true facts among those in descriptions.
        recall: objects of the scenes that descriptions have with color, noun and place.
        pope: the questions about the existence of an object, scored as in POPE.
    """

    by_kind: dict[str, Estimate]
    questions: Estimate
    facts: Estimate
    recall: Estimate
    pope: PopeScores


def score_answers(
    question_set: QuestionSet, answers: Sequence[Sequence[str]], descriptions: Sequence[str]
) -> UnderstandingScores:
    """Score the answers to every scene's questions, and every scene's description."""
    correct = [
        [(turn.kind, float(is_correct(answer, turn))) for turn, answer in zip(turns, given, strict=True)]
        for turns, given in zip(question_set.turns, answers, strict=True)
    ]
    existence = [
        (answer, turn.answer == "yes")
        for turns, given in zip(question_set.turns, answers, strict=True)
        for turn, answer in zip(turns, given, strict=True)
        if turn.kind == "existence"
    ]
    language = question_set.world.language
    kinds = sorted({kind for row in correct for kind, _ in row})
    described = list(zip(descriptions, question_set.scenes, strict=True))
    return UnderstandingScores(
        by_kind={kind: mean_of_groups([[v for k, v in row if k == kind] for row in correct]) for kind in kinds},
        questions=mean_of_groups([[value for _, value in row] for row in correct]),
        facts=mean_of_groups([true_facts(text, scene, language) for text, scene in described]),
        recall=mean_of_groups([objects_mentioned(text, scene, language) for text, scene in described]),
        pope=score_pope([answer for answer, _ in existence], [label for _, label in existence]),
    )
