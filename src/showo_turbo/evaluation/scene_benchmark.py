"""Run a pipeline on held-out prompts and scenes, and score its images and answers."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import torch
from PIL import Image
from tqdm import tqdm

from showo_turbo.evaluation.geneval_rules import TextToImageScores, score_images
from showo_turbo.evaluation.scene_questions import QuestionSet, UnderstandingScores, score_answers
from showo_turbo.generation.options import DecodingOptions, SamplingOptions
from showo_turbo.outputs import TextOutput
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.scenes.benchmark import ScenePrompt
from showo_turbo.scenes.language import DESCRIBE
from showo_turbo.scenes.shapes.shape_world import SHAPES
from showo_turbo.scenes.world import World

LONG_DESCRIPTION = 20
"""Number of ids from which on a description is long."""


@dataclass(frozen=True)
class TextToImageResult:
    """Hold the scores of a pipeline in text to image.

    Attributes:
        scores: accuracies.
        seconds_per_image: wall time, generated in batches.
    """

    scores: TextToImageScores
    seconds_per_image: float


@dataclass(frozen=True)
class UnderstandingResult:
    """Hold the scores and the speed of a pipeline in understanding.

    Attributes:
        scores: accuracies.
        tokens_per_pass: ids per forward pass, over the descriptions, which are decoded one at a time.
        tokens_per_pass_long: the same, over those of `LONG_DESCRIPTION` ids or more; None if there are none.
        tokens_per_second: ids of descriptions per second of wall time.
    """

    scores: UnderstandingScores
    tokens_per_pass: float
    tokens_per_pass_long: float | None
    tokens_per_second: float


def generate_images(
    pipe: ShowoPipeline,
    prompts: Sequence[ScenePrompt],
    options: SamplingOptions,
    images_per_prompt: int = 4,
    seed: int = 0,
    batch_size: int = 16,
) -> list[list[Image.Image]]:
    """Generate the images of every prompt.

    Prompt i has its own random generator, seeded by `seed * 100003 + i`, so images do not depend on `batch_size` (in
    prompts).
    """
    images: list[list[Image.Image]] = []
    numbered = list(enumerate(prompts))
    for first in tqdm(range(0, len(numbered), batch_size), desc=f"{options.num_inference_steps} steps"):
        batch = numbered[first : first + batch_size]
        output = pipe.text_to_image(
            [prompt.prompt for _, prompt in batch],
            **asdict(options),
            num_images_per_prompt=images_per_prompt,
            generator=[torch.Generator().manual_seed(_seed_of(seed, number)) for number, _ in batch],
        )
        drawn = cast(list[Image.Image], output.images)  # PIL is the default output type
        images += [drawn[start : start + images_per_prompt] for start in range(0, len(drawn), images_per_prompt)]
    return images


def evaluate_text_to_image(
    pipe: ShowoPipeline,
    prompts: Sequence[ScenePrompt],
    options: SamplingOptions,
    images_per_prompt: int = 4,
    seed: int = 0,
    world: World = SHAPES,
) -> TextToImageResult:
    """Generate the images of prompts and score them; see `generate_images`.

    Raises:
        InputError: if the model's images have another size than the world's.
    """
    world.check_resolution(pipe.resolution)
    start = time.perf_counter()
    images = generate_images(pipe, prompts, options, images_per_prompt, seed)
    seconds = time.perf_counter() - start
    return TextToImageResult(score_images(prompts, images, world), seconds / (len(prompts) * images_per_prompt))


def evaluate_understanding(
    pipe: ShowoPipeline, question_set: QuestionSet, options: DecodingOptions, seed: int = 0
) -> UnderstandingResult:
    """Answer every question, describe every scene, and score the texts.

    Initial guesses for scene i are seeded by `seed * 100003 + i`; the number of forward passes depends on them.
    """
    answers, descriptions, seconds = [], [], 0.0
    scenes = tqdm(question_set.scenes, desc="questions and descriptions")
    for number, (scene, turns) in enumerate(zip(scenes, question_set.turns, strict=True)):
        encoded = pipe.encode_images([question_set.world.render(scene)])
        settings = {**asdict(options), "seed": _seed_of(seed, number)}
        answers.append(pipe.image_to_text(encoded, [turn.question for turn in turns], **settings).texts)
        start = time.perf_counter()
        descriptions.append(pipe.image_to_text(encoded, DESCRIBE[0], **settings))
        seconds += time.perf_counter() - start
    long = [output for output in descriptions if len(output.token_ids[0]) >= LONG_DESCRIPTION]
    return UnderstandingResult(
        scores=score_answers(question_set, answers, [output.texts[0] for output in descriptions]),
        tokens_per_pass=_token_count(descriptions) / _pass_count(descriptions),
        tokens_per_pass_long=_token_count(long) / _pass_count(long) if long else None,
        tokens_per_second=_token_count(descriptions) / seconds,
    )


def _token_count(outputs: Sequence[TextOutput]) -> int:
    return sum(len(output.token_ids[0]) for output in outputs)


def _pass_count(outputs: Sequence[TextOutput]) -> int:
    return sum(output.forward_passes for output in outputs)


def _seed_of(seed: int, number: int) -> int:
    """Return the seed of a prompt or scene, within the range of a generator."""
    return (seed * 100003 + number) % 2**63
