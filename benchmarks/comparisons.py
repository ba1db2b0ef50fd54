"""Contests: a task done by the library, beside the same done another way, in the same process on the same weights.

Both sides run before, counting operations and warming up; then they take turns, A B A B, and the ratio of each pair of
runs counts. In float32 both give the same codes, ids or pixels in every run, or there is no contest. In half precision
last bits decide now and then, so how much is the same is told.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import eq
from statistics import median
from typing import Any

import torch

from baselines import published_jacobi, published_text_to_image, transformers_generate
from measuring import counted, measured
from showo_turbo.backends.cuda_graphs import PlainRunner
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.pipelines.pipeline import ShowoPipeline

PROMPT = "a red circle."  # 16 tokens with those around it
QUESTION = "What is this?"
BLOCK_LENGTH = 16


@dataclass(frozen=True)
class Contest:
    """One side against the other.

    Attributes:
        name, other: what was done, and how else.
        seconds, other_seconds: of every run.
        ratio: median of the ratios of pairs, above 1 where the library is faster.
        ratios: of every pair.
        tflop, other_tflop: counted.
        roofline: share of the machine's matrix product rate that was reached, by the median time.
        peak, other_peak: GiB, weights included: of the whole process, or of the graphics processor.
        agreement: least share of codes, ids or pixels that were the same in a pair.
        passes, other_passes: of the transformer, where there is a choice.
    """

    name: str
    other: str
    seconds: list[float]
    other_seconds: list[float]
    ratio: float
    ratios: list[float]
    tflop: float
    other_tflop: float
    roofline: float
    peak: float
    other_peak: float
    agreement: float
    passes: int | None = None
    other_passes: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What one side made, and the passes of the transformer it took, where there is a choice."""

    value: Any
    passes: int | None = None


Side = Callable[[], Outcome]


def compete(
    pipe: ShowoPipeline,
    name: str,
    other: str,
    sides: tuple[Side, Side],
    agreement: Callable[[Any, Any], float],
    exact: bool,
    rate: float,
    repeats: int,
) -> Contest:
    """Run two sides in turns.

    Raises:
        RuntimeError: when they do not give the same, if they are to be exact.
    """
    sides[0]()  # constants of the model are computed once
    with plain_passes(pipe):
        work = [counted(side) for side in sides]
    sides[0]()  # what comes a second time may be recorded
    pairs, agreements = [], []
    for _ in range(repeats):
        (result, *cost), (other_result, *other_cost) = (measured(side) for side in sides)
        agreements.append(agreement(result.value, other_result.value))
        if exact and agreements[-1] < 1:
            raise RuntimeError(f"{name}: not what {other} gives")
        pairs.append((*cost, *other_cost))
    peaks, seconds, other_peaks, other_seconds = (list(column) for column in zip(*pairs, strict=True))
    ratios = [slow / fast for fast, slow in zip(seconds, other_seconds, strict=True)]
    return Contest(
        name=name,
        other=other,
        seconds=seconds,
        other_seconds=other_seconds,
        ratio=median(ratios),
        ratios=ratios,
        tflop=work[0] / 1e12,
        other_tflop=work[1] / 1e12,
        roofline=work[0] / median(seconds) / rate,
        peak=max(peaks),
        other_peak=max(other_peaks),
        agreement=min(agreements),
        passes=result.passes,
        other_passes=other_result.passes,
    )


def is_exact(pipe: ShowoPipeline) -> bool:
    """Whether the transformer computes in float32."""
    return pipe.model.dtype == torch.float32


@contextmanager
def plain_passes(pipe: ShowoPipeline) -> Iterator[None]:
    """No pass is recorded or replayed meanwhile: torch counts what is asked for, and a recording asks only once."""
    before, pipe.model.runner = pipe.model.runner, PlainRunner()
    try:
        yield
    finally:
        pipe.model.runner = before


def text_to_image(
    pipe: ShowoPipeline, steps: int, guidance_scale: float, images: int, rate: float, repeats: int, seed: int
) -> Contest:
    """Codes of the images of one prompt."""
    options = SamplingOptions(steps, guidance_scale)

    def generator() -> torch.Generator:
        return torch.Generator(pipe.device).manual_seed(seed)

    def draw() -> Outcome:
        own = {"num_images_per_prompt": images, "generator": generator(), "output_type": "latent", "top_k": None}
        return Outcome(pipe.text_to_image(PROMPT, steps, guidance_scale, **own).codes.cpu())

    def published() -> Outcome:
        return Outcome(published_text_to_image(pipe, PROMPT, options, images, generator()).cpu())

    def agreement(codes: torch.Tensor, others: torch.Tensor) -> float:
        return float((codes == others).float().mean())

    name = f"{images} x {pipe.resolution} px, {steps} steps, guidance {guidance_scale:g}"
    return compete(pipe, name, "published loop", (draw, published), agreement, is_exact(pipe), rate, repeats)


def decoder(pipe: ShowoPipeline, images: int, rate: float, repeats: int, seed: int) -> Contest:
    """Pixels of random codes."""
    tokenizer, generator = pipe.image_tokenizer, torch.Generator().manual_seed(seed)
    codes = torch.randint(tokenizer.config.codebook_size, (images, pipe.side, pipe.side), generator=generator)
    codes = codes.to(pipe.device)

    @torch.no_grad()
    def plain() -> Outcome:
        return Outcome(tokenizer.decoder(tokenizer.quantize.codes_to_latents(codes)))

    def agreement(pixels: torch.Tensor, others: torch.Tensor) -> float:
        return float(((pixels - others).abs() < 1e-4).float().mean())

    sides = (lambda: Outcome(tokenizer.decode_codes(codes.flatten(1))), plain)
    name = f"decoder, {images} x {pipe.resolution} px"
    return compete(pipe, name, "plain layers", sides, agreement, True, rate, repeats)


def understanding(pipe: ShowoPipeline, length: int, rate: float, repeats: int, seed: int) -> list[Contest]:
    """A greedy answer of at most so many ids: against the published loop, and against `generate`."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(pipe.model.config.codebook_size, (pipe.side**2,), generator=generator)
    prompt = pipe.prompts.understanding(codes, QUESTION)

    def answer(decoding: str) -> Outcome:
        options = {"max_new_tokens": length, "block_length": BLOCK_LENGTH, "decoding": decoding, "seed": seed}
        output = pipe.image_to_text(prompt=QUESTION, codes=codes, **options)
        return Outcome(output.token_ids[0], output.forward_passes)

    def jacobi() -> Outcome:
        return answer("jacobi")

    def one_by_one() -> Outcome:
        return answer("autoregressive")

    def published() -> Outcome:
        return Outcome(*published_jacobi(pipe, prompt, length, BLOCK_LENGTH, seed))

    def generate() -> Outcome:
        return Outcome(transformers_generate(pipe, prompt, length))

    def agreement(ids: list[int], others: list[int]) -> float:
        return 1.0 if ids == others else sum(map(eq, ids, others)) / max(len(ids), len(others))

    name = f"{pipe.resolution} px, {length} ids"
    pairs = (
        (f"{name}, Jacobi", "published Jacobi", (jacobi, published)),
        (f"{name}, Jacobi", "transformers' generate", (jacobi, generate)),
        (f"{name}, one by one", "transformers' generate", (one_by_one, generate)),
    )
    return [compete(pipe, *pair, agreement, is_exact(pipe), rate, repeats) for pair in pairs]
