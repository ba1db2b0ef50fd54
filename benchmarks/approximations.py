"""Quality, time and memory of each approximation, on the held-out prompts of the scene world.

    python benchmarks/approximations.py [--model NAME] [--prompts COUNT] [--rounds COUNT] [--output FILE]

All variants generate images of the same prompts from the same seeds, and the detector of `showo-turbo evaluate` scores
them with 95 % intervals; `same codes` is the fraction of codes equal to the exact variant's. Times are CPU times of the
transformer's loop on one batch, which exclude other processes of the machine. Variants alternate in one process, and
the median of the ratios of the rounds is reported. Memory is that of the transformer's weights.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated
from unittest import mock

import torch
import typer
from rich.console import Console
from rich.table import Table

from measuring import cpu_seconds, describe_machine
from showo_turbo import ShowoPipeline
from showo_turbo.backends.quantization import plain_tensors
from showo_turbo.evaluation.scene_benchmark import evaluate_text_to_image
from showo_turbo.evaluation.statistics import Estimate
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.scenes.benchmark import ScenePrompt, benchmark_prompts

MIB = 2**20


@dataclass(frozen=True)
class Approximation:
    """Configure one variant.

    Attributes:
        loading: arguments of `from_pretrained`.
        sampling: sampling options that replace the recommended ones.
        half_arithmetic: compute in the precision of the weights, as on GPUs.
        compiled: use `torch.compile`, which is exact up to rounding.
    """

    loading: dict = field(default_factory=dict)
    sampling: dict = field(default_factory=dict)
    half_arithmetic: bool = False
    compiled: bool = False


VARIANTS = {
    "exact, float32": Approximation(),
    "bfloat16 weights": Approximation({"dtype": "bfloat16"}),
    "bfloat16 arithmetic too": Approximation({"dtype": "bfloat16"}, half_arithmetic=True),
    "int8 weights": Approximation({"quantization": "int8"}),
    "float8 weights and activations": Approximation({"quantization": "float8"}),
    "early exit .01": Approximation(sampling={"early_exit": 0.01}),
    "early exit .03": Approximation(sampling={"early_exit": 0.03}),
    "early exit .05": Approximation(sampling={"early_exit": 0.05}),
    "early exit .1": Approximation(sampling={"early_exit": 0.1}),
    "compiled": Approximation(compiled=True),
}


@dataclass(frozen=True)
class ApproximationResult:
    """Hold the measurements of one variant beside the exact one, which is the first.

    Attributes:
        variant: name of the variant.
        score: overall score of the images.
        interval: 95 % interval of the score.
        same_codes: fraction of the codes that equal those of the exact variant.
        steps: mean number of steps per image.
        times_faster: median speedup of the rounds.
        ratios: smallest and largest speedup.
        weights_mib: memory of the transformer's weights.
    """

    variant: str
    score: float
    interval: tuple[float, float]
    same_codes: float
    steps: float
    times_faster: float
    ratios: tuple[float, float]
    weights_mib: float


class Candidate:
    """Hold a pipeline of one variant."""

    def __init__(self, model: str, variant: Approximation, sampling: SamplingOptions) -> None:
        """Load the model, and compile it if the variant says so."""
        self.variant, self.options = variant, replace(sampling, **variant.sampling)
        self.pipe = ShowoPipeline.from_pretrained(model, device="cpu", **variant.loading)
        if variant.compiled:
            self.pipe.model.compile()

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        if not self.variant.half_arithmetic:
            yield
            return
        with (
            mock.patch("showo_turbo.models.showo.arithmetic_dtype", lambda weight: weight.dtype),
            mock.patch("showo_turbo.generation.kv_cache.arithmetic_dtype", lambda weight: weight.dtype),
        ):
            yield

    def generate(self, prompts: Sequence[ScenePrompt]) -> tuple[torch.Tensor, float]:
        """Return the codes of one image per prompt, and the mean number of steps."""
        unfinished = []

        def count_unfinished(pipe: ShowoPipeline, step: int, timestep: int, tensors: dict) -> None:
            unfinished.append(int(tensors["masked"].any(1).sum()))

        with self._arithmetic():
            codes = self.pipe.text_to_image(
                [prompt.prompt for prompt in prompts],
                **asdict(self.options),
                generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
                output_type="latent",
                callback_on_step_end=count_unfinished,
            ).codes
        return codes, 1 + sum(unfinished) / len(prompts)

    def score(self, prompts: Sequence[ScenePrompt], images: int) -> Estimate:
        """Return the score of the images with its interval."""
        with self._arithmetic():
            return evaluate_text_to_image(self.pipe, prompts, self.options, images).scores.overall

    def weights_mib(self) -> float:
        """Return the memory of the transformer's weights."""
        tensors = [tensor for weight in self.pipe.model.parameters() for tensor in plain_tensors(weight)]
        return sum(tensor.nbytes for tensor in tensors) / MIB


def compare(
    model: str, sampling: SamplingOptions, prompts: Sequence[ScenePrompt], images: int, rounds: int, batch: int
) -> list[ApproximationResult]:
    """Score and time all variants."""
    candidates = {name: Candidate(model, variant, sampling) for name, variant in VARIANTS.items()}
    timed = prompts[:: max(1, len(prompts) // batch)][:batch]
    times = {name: [] for name in candidates}
    for _ in range(rounds + 1):  # the first one warms up
        for name, one in candidates.items():
            times[name].append(cpu_seconds(partial(one.generate, timed)))
    exact, outcomes = next(iter(candidates)), []
    exact_codes, _ = candidates[exact].generate(prompts)
    for name, one in candidates.items():
        score, (codes, steps) = one.score(prompts, images), one.generate(prompts)
        same = (codes == exact_codes).float().mean().item()
        ratios = [base / own for base, own in zip(times[exact][1:], times[name][1:], strict=True)]
        faster = median(ratios), (min(ratios), max(ratios))
        outcomes.append(ApproximationResult(name, score.value, score.interval, same, steps, *faster, one.weights_mib()))
    return outcomes


def as_table(outcomes: Sequence[ApproximationResult], caption: str) -> Table:
    """Return a table with one row per variant."""
    table = Table(caption=caption)
    for name in ("variant", "score", "95 % interval", "same codes", "steps", "times faster", "weights, MiB"):
        table.add_column(name, justify="left" if name == "variant" else "right")
    for one in outcomes:
        low, high = one.interval
        faster = f"{one.times_faster:.2f} ({one.ratios[0]:.2f} - {one.ratios[1]:.2f})"
        shown = (f"{one.score:.3f}", f"{low:.3f} - {high:.3f}", f"{one.same_codes:.1%}", f"{one.steps:.2f}")
        table.add_row(one.variant, *shown, faster, f"{one.weights_mib:.1f}")
    return table


def main(
    model: Annotated[str, typer.Option(help="Shipped model or folder.")] = "tiny-turbo",
    prompts: Annotated[int, typer.Option(help="Held-out prompts, spread over all categories.")] = 127,
    images: Annotated[int, typer.Option(help="Images per prompt.")] = 2,
    rounds: Annotated[int, typer.Option(help="Timed runs of every variant.")] = 9,
    batch: Annotated[int, typer.Option(help="Prompts of a timed run.")] = 4,
    top_k: Annotated[int | None, typer.Option(help="As recommended if left out.")] = None,
    temperature: Annotated[float | None, typer.Option(help="As recommended if left out.")] = None,
    steps: Annotated[int | None, typer.Option(help="As recommended if left out.")] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Compare every approximation with the exact variant."""
    about = describe_machine()
    given = {"top_k": top_k, "temperature": temperature, "num_inference_steps": steps}
    recommended = ShowoPipeline.from_pretrained(model, device="cpu").recommended
    sampling = replace(recommended, **{name: value for name, value in given.items() if value is not None})
    held_out = benchmark_prompts(None)
    chosen = held_out[:: max(1, len(held_out) // prompts)][:prompts]
    outcomes = compare(model, sampling, chosen, images, rounds, batch)
    settings = {"model": model, "prompts": len(chosen), "images": images, "rounds": rounds, "batch": batch}
    Console(width=120).print(as_table(outcomes, f"{model}, {len(chosen)} prompts x {images}"))
    if output is not None:
        content = {"machine": about, "sampling": asdict(sampling), **settings, "outcomes": list(map(asdict, outcomes))}
        output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
