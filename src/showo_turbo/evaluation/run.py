"""Run a pipeline over the held-out prompts and pictures, and judge what it says and draws."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from tqdm import tqdm

from showo_turbo.evaluation.text_to_image import TextToImageScores, score_pictures
from showo_turbo.evaluation.understanding import Examination, UnderstandingScores, score_answers
from showo_turbo.pipeline import ShowoPipeline
from showo_turbo.scenes.benchmark import ScenePrompt
from showo_turbo.scenes.language import DESCRIBE
from showo_turbo.scenes.render import render


@dataclass(frozen=True)
class SamplingSettings:
    """How pictures are drawn in an evaluation; see `ShowoPipeline.text_to_image`.

    Attributes:
        num_inference_steps: denoising steps.
        guidance_scale: strength of classifier-free guidance; 0 is off.
        top_k: draw among the k most probable codes only.
        temperature: weight of the noise in the confidence at the start.
        schedule: mask schedule.
        images_per_prompt: pictures drawn of every prompt.
        seed: pictures of prompt i are drawn with the generator seeded by `seed * 100003 + i`.
    """

    num_inference_steps: int = 16
    guidance_scale: float = 0.0
    top_k: int | None = None
    temperature: float = 1.0
    schedule: str = "cosine"
    images_per_prompt: int = 4
    seed: int = 0


@dataclass(frozen=True)
class DecodingSettings:
    """How answers are decoded in an evaluation; see `ShowoPipeline.image_to_text`.

    Attributes:
        decoding: "jacobi" or "autoregressive".
        block_length: guesses a pass, for Jacobi decoding.
        max_new_tokens: longest answer.
    """

    decoding: str = "jacobi"
    block_length: int = 16
    max_new_tokens: int = 64


@dataclass(frozen=True)
class TextToImageResult:
    """Scores of the pictures and the seconds it took to draw one, in batches."""

    scores: TextToImageScores
    seconds_per_image: float


def draw_benchmark(
    pipe: ShowoPipeline, prompts: Sequence[ScenePrompt], settings: SamplingSettings, prompts_per_batch: int = 16
) -> list[list[Image.Image]]:
    """The pictures of every prompt; they do not depend on the batching."""
    pictures = []
    for first in tqdm(range(0, len(prompts), prompts_per_batch), desc=f"{settings.num_inference_steps} steps"):
        rows = range(first, min(first + prompts_per_batch, len(prompts)))
        output = pipe.text_to_image(
            [prompts[row].prompt for row in rows],
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            top_k=settings.top_k,
            temperature=settings.temperature,
            schedule=settings.schedule,
            num_images_per_prompt=settings.images_per_prompt,
            generator=[torch.Generator().manual_seed(settings.seed * 100003 + row) for row in rows],
        )
        n = settings.images_per_prompt
        pictures += [output.images[start : start + n] for start in range(0, len(output.images), n)]
    return pictures


def evaluate_text_to_image(
    pipe: ShowoPipeline, prompts: Sequence[ScenePrompt], settings: SamplingSettings
) -> TextToImageResult:
    """Draw the benchmark and judge it."""
    start = time.perf_counter()
    pictures = draw_benchmark(pipe, prompts, settings)
    seconds = (time.perf_counter() - start) / (len(prompts) * settings.images_per_prompt)
    return TextToImageResult(score_pictures(prompts, pictures), seconds)


@dataclass(frozen=True)
class UnderstandingResult:
    """Scores of the answers and what they cost.

    Attributes:
        scores: the judge's.
        tokens_per_pass: new tokens per call of the transformer and row, over all descriptions.
    """

    scores: UnderstandingScores
    tokens_per_pass: float


def evaluate_understanding(
    pipe: ShowoPipeline, examination: Examination, settings: DecodingSettings, batch_size: int = 16
) -> UnderstandingResult:
    """Ask every question of an examination, have every scene described one by one, and judge."""
    options = {
        "decoding": settings.decoding,
        "block_length": settings.block_length,
        "max_new_tokens": settings.max_new_tokens,
    }
    codes = [pipe.encode_image(render(scene)) for scene in examination.scenes]
    asked = [(row, turn.question) for row, turns in enumerate(examination.turns) for turn in turns]
    asked.sort(key=lambda one: len(one[1]))
    said: dict[tuple[int, str], str] = {}
    for batch in _batches(asked, batch_size, "questions"):
        output = pipe.image_to_text(
            codes=torch.cat([codes[row] for row, _ in batch]), prompt=[question for _, question in batch], **options
        )
        said |= dict(zip(batch, output.texts, strict=True))
    answers = [[said[row, turn.question] for turn in turns] for row, turns in enumerate(examination.turns)]

    descriptions, tokens, passes = [], 0, 0
    for batch in _batches(list(range(len(codes))), 1, "descriptions"):
        output = pipe.image_to_text(codes=codes[batch[0]], prompt=DESCRIBE[0], **options)
        descriptions += output.texts
        tokens += len(output.token_ids[0])
        passes += output.forward_passes
    return UnderstandingResult(score_answers(examination, answers, descriptions), tokens / passes)


def _batches(items: list, size: int, name: str) -> Iterable[list]:
    return (items[first : first + size] for first in tqdm(range(0, len(items), size), desc=name))
