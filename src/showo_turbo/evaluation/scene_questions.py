"""Are answers right, and are the facts in descriptions true? Asked about scenes that training never showed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from showo_turbo.evaluation.pope import PopeScores, score_pope
from showo_turbo.evaluation.statistics import Estimate, mean_of_groups
from showo_turbo.scenes.language import QuestionAnswer, described_facts, questions
from showo_turbo.scenes.scene import Scene
from showo_turbo.scenes.split import held_out_scene


@dataclass(frozen=True)
class Examination:
    """Scenes and what is asked about each; every scene is also to be described."""

    scenes: list[Scene]
    turns: list[list[QuestionAnswer]]


def make_examination(count: int, seed: int = 0) -> Examination:
    """Draw `count` held-out scenes with one question of every kind that each admits."""
    rng = random.Random(f"examination/{seed}")
    scenes = [held_out_scene(rng) for _ in range(count)]
    return Examination(scenes, [questions(scene, rng) for scene in scenes])


def is_right(answer: str, turn: QuestionAnswer) -> bool:
    """Whether an answer is the expected one, but for case, spaces and a final stop."""
    return answer.strip().rstrip(".").lower() == turn.answer


def true_facts(text: str, scene: Scene) -> list[float]:
    """For every fact a description states, 1.0 if it is true of the scene.

    Each object is three facts (there is something at its place; its colour; its shape), the background one. A text
    that states none counts as one false fact, so silence is no way to be right.
    """
    objects, background = described_facts(text)
    facts = []
    for said in objects:
        seen = scene.at(said.place)
        facts += [float(seen is not None), float(bool(seen) and seen.color == said.color)]
        facts.append(float(bool(seen) and seen.shape == said.shape))
    if background is not None:
        facts.append(float(background == scene.background))
    return facts or [0.0]


def objects_mentioned(text: str, scene: Scene) -> list[float]:
    """For every object of the scene, 1.0 if the description has it, with colour, shape and place."""
    said, _ = described_facts(text)
    return [float(thing in said) for thing in scene.objects]


@dataclass(frozen=True)
class UnderstandingScores:
    """Shares with 95 % intervals; a scene's questions and facts are one group.

    Attributes:
        by_kind: right answers per kind of question.
        questions: right answers of all kinds.
        facts: true among the facts stated in descriptions.
        recall: objects of the scenes that descriptions have, fully right.
        pope: the questions whether an object is there, judged as POPE does.
    """

    by_kind: dict[str, Estimate]
    questions: Estimate
    facts: Estimate
    recall: Estimate
    pope: PopeScores


def score_answers(
    examination: Examination, answers: Sequence[Sequence[str]], descriptions: Sequence[str]
) -> UnderstandingScores:
    """Judge the answers to every scene's questions, and every scene's description."""
    right = [
        [(turn.kind, float(is_right(answer, turn))) for turn, answer in zip(turns, given, strict=True)]
        for turns, given in zip(examination.turns, answers, strict=True)
    ]
    existence = [
        (answer, turn.answer == "yes")
        for turns, given in zip(examination.turns, answers, strict=True)
        for turn, answer in zip(turns, given, strict=True)
        if turn.kind == "existence"
    ]
    kinds = sorted({kind for row in right for kind, _ in row})
    described = list(zip(descriptions, examination.scenes, strict=True))
    return UnderstandingScores(
        by_kind={kind: mean_of_groups([[v for k, v in row if k == kind] for row in right]) for kind in kinds},
        questions=mean_of_groups([[value for _, value in row] for row in right]),
        facts=mean_of_groups([true_facts(text, scene) for text, scene in described]),
        recall=mean_of_groups([objects_mentioned(text, scene) for text, scene in described]),
        pope=score_pope([answer for answer, _ in existence], [label for _, label in existence]),
    )
