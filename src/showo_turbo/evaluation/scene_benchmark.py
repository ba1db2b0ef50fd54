"""Run a pipeline over the held-out prompts and pictures, and judge what it draws and says."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from PIL import Image
from tqdm import tqdm

from showo_turbo.evaluation.geneval_rules import TextToImageScores, score_pictures
from showo_turbo.evaluation.scene_questions import Examination, UnderstandingScores, score_answers
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.outputs import TextOutput
from showo_turbo.pipelines.image_to_text import DecodingOptions
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.scenes.benchmark import ScenePrompt
from showo_turbo.scenes.language import DESCRIBE
from showo_turbo.scenes.render import check_resolution, render

LONG = 20
"""Ids of a description from which on it counts as long."""


@dataclass(frozen=True)
class TextToImageResult:
    """What the pictures are worth.

    Attributes:
        scores: the judge's.
        seconds_per_image: wall time, drawn in batches.
    """

    scores: TextToImageScores
    seconds_per_image: float


@dataclass(frozen=True)
class UnderstandingResult:
    """What the answers are worth and what they cost.

    Attributes:
        scores: the judge's.
        tokens_per_pass: ids per pass of the transformer, over the descriptions, which are decoded one by one.
        tokens_per_pass_long: the same, over those of `LONG` ids or more; None if there are none.
        tokens_per_second: ids of descriptions per second of wall time.
    """

    scores: UnderstandingScores
    tokens_per_pass: float
    tokens_per_pass_long: float | None
    tokens_per_second: float


def draw_benchmark(
    pipe: ShowoPipeline,
    prompts: Sequence[ScenePrompt],
    options: SamplingOptions,
    images_per_prompt: int = 4,
    seed: int = 0,
    batch_size: int = 16,
) -> list[list[Image.Image]]:
    """The pictures of every prompt.

    Prompt i is drawn with a generator of its own, seeded by `seed * 100003 + i`, so pictures do not depend on the
    `batch_size` (in prompts).
    """
    pictures = []
    numbered = list(enumerate(prompts))
    for batch in _batches(numbered, batch_size, f"{options.num_inference_steps} steps"):
        output = pipe.text_to_image(
            [prompt.prompt for _, prompt in batch],
            **asdict(options),
            num_images_per_prompt=images_per_prompt,
            generator=[torch.Generator().manual_seed(_seed_of(seed, number)) for number, _ in batch],
        )
        starts = range(0, len(output.images), images_per_prompt)
        pictures += [output.images[start : start + images_per_prompt] for start in starts]
    return pictures


def evaluate_text_to_image(
    pipe: ShowoPipeline,
    prompts: Sequence[ScenePrompt],
    options: SamplingOptions,
    images_per_prompt: int = 4,
    seed: int = 0,
) -> TextToImageResult:
    """Draw the prompts and judge the pictures; see `draw_benchmark`.

    Raises:
        InputError: when the model draws pictures of another size than the built-in world has.
    """
    check_resolution(pipe.resolution)
    start = time.perf_counter()
    pictures = draw_benchmark(pipe, prompts, options, images_per_prompt, seed)
    seconds = time.perf_counter() - start
    return TextToImageResult(score_pictures(prompts, pictures), seconds / (len(prompts) * images_per_prompt))


def evaluate_understanding(
    pipe: ShowoPipeline, examination: Examination, options: DecodingOptions, seed: int = 0
) -> UnderstandingResult:
    """Ask every question of an examination, have every scene described, and judge.

    First guesses for scene i are seeded by `seed * 100003 + i`; how many passes answers take depends on them.
    """
    answers, described, seconds = [], [], 0.0
    scenes = tqdm(examination.scenes, desc="questions and descriptions")
    for number, (scene, turns) in enumerate(zip(scenes, examination.turns, strict=True)):
        sight, settings = pipe.see([render(scene)]), {**asdict(options), "seed": _seed_of(seed, number)}
        answers.append(pipe.image_to_text(sight, [turn.question for turn in turns], **settings).texts)
        start = time.perf_counter()
        described.append(pipe.image_to_text(sight, DESCRIBE[0], **settings))
        seconds += time.perf_counter() - start
    scores = score_answers(examination, answers, [output.texts[0] for output in described])
    long = [output for output in described if len(output.token_ids[0]) >= LONG]
    tokens = sum(len(output.token_ids[0]) for output in described)
    return UnderstandingResult(
        scores, _tokens_per_pass(described), _tokens_per_pass(long) if long else None, tokens / seconds
    )


def _tokens_per_pass(answers: Sequence[TextOutput]) -> float:
    tokens = sum(len(output.token_ids[0]) for output in answers)
    return tokens / sum(output.forward_passes for output in answers)


def _seed_of(seed: int, number: int) -> int:
    """Of a prompt or scene; a seed may be as large as any generator takes."""
    return (seed * 100003 + number) % 2**63


def _batches(items: Sequence, size: int, name: str) -> Iterator[Sequence]:
    for first in tqdm(range(0, len(items), size), desc=name):
        yield items[first : first + size]
