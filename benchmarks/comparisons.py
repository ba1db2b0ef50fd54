"""Speed comparisons of the library with a baseline, in one process and with the same weights.

Both sides run first to count operations and to warm up; then they alternate, A B A B, and each pair of runs has a
ratio. In float32 both must give the same codes, ids or pixels in every run, or the comparison fails. In half precision
rounding changes some choices, so the fraction that agrees is reported.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import eq
from statistics import median
from typing import Any

import torch

from baselines import published_jacobi, published_text_to_image, transformers_generate, transformers_model
from measuring import count_flops, measure_call
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.pipelines.pipeline import ShowoPipeline

PROMPT = "a red circle."  # 16 tokens with those around it
QUESTION = "What is this?"
BLOCK_LENGTH = 16


@dataclass(frozen=True)
class SpeedComparison:
    """Hold the measurements of the library and of a baseline.

    Attributes:
        name, other: names of the task and of the baseline.
        seconds, other_seconds: wall time of every run.
        ratio: median of `ratios`, above 1 where the library is faster.
        ratios: quotient of the wall times of every pair of runs.
        tflop, other_tflop: operations, counted.
        roofline: fraction of the machine's matrix product rate that is reached, by the median time.
        peak, other_peak: peak memory in GiB, weights included: of the whole process, or of the GPU.
        agreement: smallest fraction of equal codes, ids or pixels in a pair of runs.
        passes, other_passes: forward passes of the transformer, if their number may vary.
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
class TaskResult:
    """Hold the result of one side, and its forward passes of the transformer if their number may vary."""

    value: Any
    passes: int | None = None


Task = Callable[[], TaskResult]


def compare_speed(
    pipe: ShowoPipeline,
    name: str,
    other: str,
    sides: tuple[Task, Task],
    agreement: Callable[[Any, Any], float],
    exact: bool,
    rate: float,
    repeats: int,
) -> SpeedComparison:
    """Run two sides alternately.

    Raises:
        RuntimeError: if their results differ although `exact` is set.
    """
    sides[0]()  # caches the constants of the model
    with without_cuda_graphs(pipe):
        flops = [count_flops(side) for side in sides]
    sides[0]()  # records CUDA graphs, if they are used
    pairs, agreements = [], []
    for _ in range(repeats):
        (result, *cost), (other_result, *other_cost) = (measure_call(side) for side in sides)
        agreements.append(agreement(result.value, other_result.value))
        if exact and agreements[-1] < 1:
            raise RuntimeError(f"{name}: the result differs from {other}")
        pairs.append((*cost, *other_cost))
    peaks, seconds, other_peaks, other_seconds = (list(column) for column in zip(*pairs, strict=True))
    ratios = [slow / fast for fast, slow in zip(seconds, other_seconds, strict=True)]
    return SpeedComparison(
        name=name,
        other=other,
        seconds=seconds,
        other_seconds=other_seconds,
        ratio=median(ratios),
        ratios=ratios,
        tflop=flops[0] / 1e12,
        other_tflop=flops[1] / 1e12,
        roofline=flops[0] / median(seconds) / rate,
        peak=max(peaks),
        other_peak=max(other_peaks),
        agreement=min(agreements),
        passes=result.passes,
        other_passes=other_result.passes,
    )


def is_exact(pipe: ShowoPipeline) -> bool:
    """Return whether the transformer computes in float32."""
    return pipe.model.dtype == torch.float32


@contextmanager
def without_cuda_graphs(pipe: ShowoPipeline) -> Iterator[None]:
    """Disable CUDA graphs: torch counts operators when they are launched, and a replay launches none."""
    before, pipe.model.cuda_graphs = pipe.model.cuda_graphs, None
    try:
        yield
    finally:
        pipe.model.cuda_graphs = before


def text_to_image(
    pipe: ShowoPipeline, steps: int, guidance_scale: float, images: int, rate: float, repeats: int, seed: int
) -> SpeedComparison:
    """Compare text to image of one prompt with the published loop."""
    sampling = SamplingOptions(steps, guidance_scale)

    def generator() -> torch.Generator:
        return torch.Generator(pipe.device).manual_seed(seed)

    def draw() -> TaskResult:
        options = {"num_images_per_prompt": images, "generator": generator(), "output_type": "latent", "top_k": None}
        return TaskResult(pipe.text_to_image(PROMPT, steps, guidance_scale, **options).codes.cpu())

    def published() -> TaskResult:
        return TaskResult(published_text_to_image(pipe, PROMPT, sampling, images, generator()).cpu())

    def agreement(codes: torch.Tensor, others: torch.Tensor) -> float:
        return float((codes == others).float().mean())

    name = f"{images} x {pipe.resolution} px, {steps} steps, guidance {guidance_scale:g}"
    return compare_speed(pipe, name, "published loop", (draw, published), agreement, is_exact(pipe), rate, repeats)


def decoder(pipe: ShowoPipeline, images: int, rate: float, repeats: int, seed: int) -> SpeedComparison:
    """Compare decoding of random codes with the plain layers."""
    tokenizer, generator = pipe.image_tokenizer, torch.Generator().manual_seed(seed)
    codes = torch.randint(tokenizer.config.codebook_size, (images, pipe.grid_size, pipe.grid_size), generator=generator)
    codes = codes.to(pipe.device)

    @torch.no_grad()
    def plain() -> TaskResult:
        return TaskResult(tokenizer.decoder(tokenizer.quantize.codes_to_latents(codes)))

    def agreement(pixels: torch.Tensor, others: torch.Tensor) -> float:
        return float(((pixels - others).abs() < 1e-4).float().mean())

    sides = (lambda: TaskResult(tokenizer.decode_codes(codes.flatten(1))), plain)
    name = f"decoder, {images} x {pipe.resolution} px"
    return compare_speed(pipe, name, "plain layers", sides, agreement, True, rate, repeats)


def understanding(pipe: ShowoPipeline, length: int, rate: float, repeats: int, seed: int) -> list[SpeedComparison]:
    """Compare greedy answers of at most `length` ids with the published loop and with transformers' `generate`."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(pipe.model.config.codebook_size, (pipe.grid_size**2,), generator=generator)
    prompt = pipe.prompts.understanding(codes, QUESTION)

    def answer(decoding: str) -> TaskResult:
        options = {"max_new_tokens": length, "block_length": BLOCK_LENGTH, "decoding": decoding, "seed": seed}
        output = pipe.image_to_text(prompt=QUESTION, codes=codes, **options)
        return TaskResult(output.token_ids[0], output.forward_passes)

    def jacobi() -> TaskResult:
        return answer("jacobi")

    def autoregressive() -> TaskResult:
        return answer("autoregressive")

    def published() -> TaskResult:
        return TaskResult(*published_jacobi(pipe, prompt, length, BLOCK_LENGTH, seed))

    language_model = transformers_model(pipe)

    def generate() -> TaskResult:
        return TaskResult(transformers_generate(language_model, prompt, pipe.prompts.vocabulary, length))

    def agreement(ids: list[int], others: list[int]) -> float:
        return 1.0 if ids == others else sum(map(eq, ids, others)) / max(len(ids), len(others))

    name = f"{pipe.resolution} px, {length} ids"
    pairs = (
        (f"{name}, Jacobi", "published Jacobi", (jacobi, published)),
        (f"{name}, Jacobi", "transformers' generate", (jacobi, generate)),
        (f"{name}, one by one", "transformers' generate", (autoregressive, generate)),
    )
    return [compare_speed(pipe, *pair, agreement, is_exact(pipe), rate, repeats) for pair in pairs]
