"""Speed of this checkout against another one of the project, as a ratio of CPU time.

    python benchmarks/compare_versions.py ../other-checkout [--rounds 40]
    python benchmarks/compare_versions.py ../other-checkout --full-size-layers 24 --rounds 5

Each version runs in a process of its own on one thread, with the shipped model, or with random weights of the published
sizes and some of their layers. The processes take turns, and the median of the ratios of neighbouring turns is printed,
so that a machine that is busy at times does not matter.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Annotated

import typer

ROOT = Path(__file__).parent.parent
PROMPT = "a red circle and a blue star"
SHIPPED = ("one image", "4 images", "16 images", "16 requests", "one description")
FULL_SIZE = ("one image", "16 ids", "64 ids")

Tasks = dict[str, Callable[[], object]]


def shipped_tasks() -> Tasks:
    """Load the shipped model and return its tasks by name."""
    from showo_turbo import ImageRequest, ShowoPipeline

    pipe = ShowoPipeline.from_pretrained("tiny-turbo", device="cpu")
    image = pipe.text_to_image(PROMPT, seed=0).images[0]
    requests = [ImageRequest(PROMPT, num_inference_steps=4, seed=seed, output_type="latent") for seed in range(16)]

    def draw(images: int, calls: int) -> list:
        options = {"num_inference_steps": 4, "num_images_per_prompt": images}
        return [pipe.text_to_image(PROMPT, seed=seed, **options) for seed in range(calls)]

    tasks: list[Callable[[], object]] = [
        lambda: draw(1, 6),
        lambda: draw(4, 2),
        lambda: draw(16, 1),
        lambda: list(pipe.engine(max_sequences=64).run(requests)),
        lambda: [pipe.image_to_text(image, "Describe the image.", seed=seed) for seed in range(6)],
    ]
    return dict(zip(SHIPPED, tasks, strict=True))


def full_size_tasks(layers: int) -> Tasks:
    """Return tasks, by name, of random weights of the published sizes; images stay codes."""
    from full_size import random_pipeline

    pipe = random_pipeline(layers=layers)
    codes = pipe.text_to_image(PROMPT, seed=0, num_inference_steps=1, output_type="latent").codes

    def answer(length: int) -> object:
        return pipe.image_to_text(prompt="What is this?", codes=codes, max_new_tokens=length, seed=0)

    tasks: list[Callable[[], object]] = [
        lambda: pipe.text_to_image(PROMPT, seed=0, num_inference_steps=4, output_type="latent"),
        lambda: answer(16),
        lambda: answer(64),
    ]
    return dict(zip(FULL_SIZE, tasks, strict=True))


def serve(layers: int) -> None:
    """Run the tasks that standard input names, one per line, and print their CPU seconds; 0 layers: shipped model."""
    import torch

    torch.set_num_threads(1)
    tasks = full_size_tasks(layers) if layers else shipped_tasks()
    for task in tasks.values():
        task()
    for line in sys.stdin:
        start = time.process_time()
        tasks[line.strip()]()
        print(time.process_time() - start, flush=True)


def start(checkout: Path, layers: int) -> Callable[[str], float]:
    """Start a process with the package of a checkout; return a function that runs a task there."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, __file__, "serve", str(layers)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def run(task: str) -> float:
        process.stdin.write(f"{task}\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    return run


def main(
    other: Annotated[Path, typer.Argument(help="Folder of the other checkout.")],
    rounds: Annotated[int, typer.Option(help="Turns of each version and task.")] = 40,
    full_size_layers: Annotated[
        int, typer.Option(help="Layers of a model of the published sizes; 0 takes the shipped model.")
    ] = 0,
) -> None:
    """Print the median ratio of CPU times, this checkout's over the other's, with its quartiles."""
    this, that = start(ROOT, full_size_layers), start(other, full_size_layers)
    for task in FULL_SIZE if full_size_layers else SHIPPED:
        ratios = []
        for number in range(rounds):
            if number % 2:
                seconds = that(task)
                ratios.append(this(task) / seconds)
            else:
                seconds = this(task)
                ratios.append(seconds / that(task))
        low, median, high = quantiles(ratios, n=4)
        print(f"{task:16} {median:.3f} ({low:.3f} - {high:.3f})", flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[2])) if sys.argv[1:2] == ["serve"] else typer.run(main)
