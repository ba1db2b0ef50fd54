"""One image of a shipped model on a CPU, with compiled forward passes beside the same without.

    python benchmarks/compiled_image.py --model tiny-turbo

Both run in turns in one process on one thread; times are CPU times, which exclude other processes of the machine. The
first run compiles, later ones find the packages in the user's cache folder, so the second run prints the time to load.
"""

import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Annotated

import torch
import typer
from torch import Tensor

from measuring import cpu_seconds
from overhead import MatrixProductRecorder, replay
from showo_turbo import ShowoPipeline
from showo_turbo.cli.common_options import world_of
from showo_turbo.scenes.benchmark import benchmark_prompts


def drawer(pipe: ShowoPipeline, prompts: list[str], steps: int) -> Callable[[bool, int], Tensor]:
    """Return a function that draws an image of a seed with or without the packages, and returns its codes."""
    packages = pipe.model.image_passes

    def draw(compiled: bool, seed: int = 0) -> Tensor:
        pipe.model.image_passes = packages if compiled else None
        prompt = prompts[seed % len(prompts)]
        return pipe.text_to_image(prompt, seed=seed, num_inference_steps=steps, output_type="latent").codes

    return draw


@torch.no_grad()
def main(
    model: Annotated[str, typer.Option(help="Shipped model.")] = "tiny-turbo",
    steps: Annotated[int, typer.Option(min=1, help="Steps of an image.")] = 4,
    rounds: Annotated[int, typer.Option(min=2, help="Pairs of runs.")] = 30,
    seeds: Annotated[int, typer.Option(min=1, help="Images whose codes are compared, each of another prompt.")] = 200,
) -> None:
    """Print time to compile or load, equal images, time per step, and the fraction that is not matrix products."""
    torch.set_num_threads(1)
    pipe = ShowoPipeline.from_pretrained(model, device="cpu")
    start = time.perf_counter()
    used = cpu_seconds(pipe.compile)
    print(f"compile() took {time.perf_counter() - start:.2f} s, {used:.2f} s of CPU time of this process")
    if pipe.model.image_passes is None:
        raise typer.Exit(1)
    draw = drawer(pipe, [one.prompt for one in benchmark_prompts(world=world_of(model))], steps)
    same = sum(torch.equal(draw(True, seed), draw(False, seed)) for seed in range(seeds))
    print(f"{same} of {seeds} images are the same", flush=True)

    with MatrixProductRecorder() as products:
        draw(False)
    found = []
    for number in range(rounds):
        turns = (True, False) if number % 2 else (False, True)
        seconds = {compiled: cpu_seconds(lambda compiled=compiled: draw(compiled)) for compiled in turns}
        bare = cpu_seconds(lambda: replay(products.linear) or replay(products.attention))
        found.append((seconds[False], seconds[True], bare))
    for name, column in (("without", 0), ("compiled", 1)):
        outside = median(1 - one[2] / one[column] for one in found)
        step = median(one[column] for one in found) / steps * 1000
        print(f"{name}: {step:.1f} ms of CPU time per step, {outside:.0%} not matrix products")
    low, middle, high = quantiles([plain / compiled for plain, compiled, _ in found], n=4)
    print(f"compiled is {middle:.2f} times as fast (quartiles {low:.2f} - {high:.2f})")


if __name__ == "__main__":
    typer.run(main)
