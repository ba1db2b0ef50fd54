"""Judge the images and answers of the demo with the exact detector of a world."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from showo_turbo.evaluation.geneval_rules import shows_prompt
from showo_turbo.evaluation.scene_questions import is_correct
from showo_turbo.scenes.benchmark import benchmark_prompts
from showo_turbo.scenes.language import Language, QuestionAnswer
from showo_turbo.scenes.scene import Scene
from showo_turbo.scenes.world import World

_PROMPTS = "demo.jsonl"
"""File with the prompts of a world's demo, beside its benchmark and in the same format."""

_ATTEMPTS = 500


@dataclass(frozen=True)
class DemoVerdict:
    """Hold what is wrong with an image and the answer about it.

    Attributes:
        shown: description of the image if it does not show its prompt, or else None.
        expected: the right answer if another one was given, or else None.
    """

    shown: str | None
    expected: str | None


def judge_demo(world: World, images: Sequence[Image.Image], answers: Sequence[str]) -> list[DemoVerdict]:
    """Judge the images of a world's demo prompts, and the answers to its questions about them.

    An answer about an image in which something is unrecognised is not judged.
    """
    prompts = benchmark_prompts(world.benchmark.with_name(_PROMPTS), world)
    verdicts = []
    for prompt, question, image, answer in zip(prompts, world.demo.values(), images, answers, strict=True):
        detection = world.detect(image)
        found = [world.language.description(detection.scene)] if detection.scene.objects else []
        found += ["something that is not recognised"] if detection.unrecognised else []
        shown = None if shows_prompt(detection, prompt) else " and ".join(found) or "nothing"
        turn = None if detection.unrecognised else expected_turn(world.language, detection.scene, question)
        verdicts.append(DemoVerdict(shown, turn.answer if turn and not is_correct(answer, turn) else None))
    return verdicts


def expected_turn(language: Language, scene: Scene, question: str) -> QuestionAnswer | None:
    """Return a question about a scene with its answer, or None if the language has no such question about it."""
    if not scene.objects:
        return None
    for attempt in range(_ATTEMPTS):
        rng = random.Random(attempt)
        for turn in (language.description_question(scene, rng), *language.questions(scene, rng)):
            if turn.question == question:
                return turn
    return None
