"""What each approximation costs in quality and gains in time and memory, on the held-out prompts of the scene world.

    python benchmarks/approximations.py [--model NAME] [--prompts COUNT] [--rounds COUNT] [--output FILE]

All variants draw the same prompts from the same seeds, and the judge of `showo-turbo evaluate` scores the pictures with
95 % intervals; `same codes` says how many of the exact ones' codes they have. Times are those of the transformer's
loop, on one batch, in turns in one process; ratios are taken round by round, and the median counts. It is processor
time, which does not count what else a machine does. Memory is that of the transformer's weights.
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

from measuring import machine, processor_seconds
from showo_turbo import ShowoPipeline
from showo_turbo.backends.int8 import plain_tensors
from showo_turbo.evaluation.scene_benchmark import evaluate_text_to_image
from showo_turbo.evaluation.statistics import Estimate
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.scenes.benchmark import ScenePrompt, benchmark_prompts

MIB = 2**20


@dataclass(frozen=True)
class Variant:
    """One way to draw.

    Attributes:
        loading: arguments of `from_pretrained`.
        sampling: sampling options in place of the recommended ones.
        half_arithmetic: compute in the precision that weights are stored in, as graphics processors do.
        compiled: through `torch.compile`, which is exact but for last bits.
    """

    loading: dict = field(default_factory=dict)
    sampling: dict = field(default_factory=dict)
    half_arithmetic: bool = False
    compiled: bool = False


VARIANTS = {
    "exact, float32": Variant(),
    "bfloat16 weights": Variant({"dtype": "bfloat16"}),
    "bfloat16 arithmetic too": Variant({"dtype": "bfloat16"}, half_arithmetic=True),
    "int8 weights": Variant({"quantization": "int8"}),
    "early exit .01": Variant(sampling={"early_exit": 0.01}),
    "early exit .03": Variant(sampling={"early_exit": 0.03}),
    "early exit .05": Variant(sampling={"early_exit": 0.05}),
    "early exit .1": Variant(sampling={"early_exit": 0.1}),
    "compiled": Variant(compiled=True),
}


@dataclass(frozen=True)
class Outcome:
    """One variant beside the exact way, which is the first one.

    Attributes:
        variant: its name.
        score: overall score of the pictures.
        interval: its 95 % interval.
        same_codes: share of the codes that are those of the exact way.
        steps: that an image takes, mean.
        times_faster: median of the rounds' ratios; least and greatest are `ratios`.
        ratios: of all rounds.
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


class Contestant:
    """A variant that is ready to draw."""

    def __init__(self, model: str, variant: Variant, sampling: SamplingOptions) -> None:
        """Load and, if it is to be, compile."""
        self.variant, self.options = variant, replace(sampling, **variant.sampling)
        self.pipe = ShowoPipeline.from_pretrained(model, device="cpu", **variant.loading)
        if variant.compiled:
            self.pipe.compile()

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

    def draw(self, prompts: Sequence[ScenePrompt]) -> tuple[torch.Tensor, float]:
        """Codes of one image of each prompt, and the steps that an image takes, mean."""
        unfinished = []

        def look(pipe: ShowoPipeline, step: int, timestep: int, seen: dict) -> None:
            unfinished.append(int(seen["masked"].any(1).sum()))

        with self._arithmetic():
            codes = self.pipe.text_to_image(
                [prompt.prompt for prompt in prompts],
                **asdict(self.options),
                generator=[torch.Generator().manual_seed(number) for number in range(len(prompts))],
                output_type="latent",
                callback_on_step_end=look,
            ).codes
        return codes, 1 + sum(unfinished) / len(prompts)

    def judge(self, prompts: Sequence[ScenePrompt], images: int) -> Estimate:
        """Score of the pictures with its interval."""
        with self._arithmetic():
            return evaluate_text_to_image(self.pipe, prompts, self.options, images).scores.overall

    def weights_mib(self) -> float:
        """Memory of the transformer's weights."""
        parts = [part for weight in self.pipe.model.parameters() for part in plain_tensors(weight)]
        return sum(part.nbytes for part in parts) / MIB


def compare(
    model: str, sampling: SamplingOptions, prompts: Sequence[ScenePrompt], images: int, rounds: int, batch: int
) -> list[Outcome]:
    """Judge and time all variants."""
    contestants = {name: Contestant(model, variant, sampling) for name, variant in VARIANTS.items()}
    timed = prompts[:: max(1, len(prompts) // batch)][:batch]
    times = {name: [] for name in contestants}
    for _ in range(rounds + 1):  # the first one warms up
        for name, one in contestants.items():
            times[name].append(processor_seconds(partial(one.draw, timed)))
    exact, outcomes = next(iter(contestants)), []
    exact_codes, _ = contestants[exact].draw(prompts)
    for name, one in contestants.items():
        judged, (codes, steps) = one.judge(prompts, images), one.draw(prompts)
        same = (codes == exact_codes).float().mean().item()
        ratios = [base / own for base, own in zip(times[exact][1:], times[name][1:], strict=True)]
        faster = median(ratios), (min(ratios), max(ratios))
        outcomes.append(Outcome(name, judged.value, judged.interval, same, steps, *faster, one.weights_mib()))
    return outcomes


def as_table(outcomes: Sequence[Outcome], caption: str) -> Table:
    """The outcomes, a line each."""
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
    images: Annotated[int, typer.Option(help="Pictures of every prompt.")] = 2,
    rounds: Annotated[int, typer.Option(help="Timed drawings of every variant.")] = 9,
    batch: Annotated[int, typer.Option(help="Prompts in a timed drawing.")] = 4,
    top_k: Annotated[int | None, typer.Option(help="As recommended if left out.")] = None,
    temperature: Annotated[float | None, typer.Option(help="As recommended if left out.")] = None,
    steps: Annotated[int | None, typer.Option(help="As recommended if left out.")] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Compare every approximation with the exact way."""
    about = machine()
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
