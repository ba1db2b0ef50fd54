"""Speed of this checkout against another one of the project, as a ratio of CPU time.

    python benchmarks/compare_versions.py ../other-checkout [--rounds 40]

Each version runs in a process of its own, with the shipped model on one thread. The processes take turns, and the
median of the ratios of neighbouring turns is printed, so that a machine that is busy at times does not matter.
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
TASKS = ("one image", "16 requests", "one description")


def make_tasks() -> dict[str, Callable[[], object]]:
    """Load the shipped model and return the tasks by name."""
    import torch

    from showo_turbo import ImageRequest, ShowoPipeline

    torch.set_num_threads(1)
    pipe = ShowoPipeline.from_pretrained("tiny-turbo", device="cpu")
    prompt = "a red circle and a blue star"
    image = pipe.text_to_image(prompt, seed=0).images[0]
    requests = [ImageRequest(prompt, num_inference_steps=4, seed=seed, output_type="latent") for seed in range(16)]
    tasks: list[Callable[[], object]] = [
        lambda: [pipe.text_to_image(prompt, num_inference_steps=4, seed=seed) for seed in range(6)],
        lambda: list(pipe.engine(max_sequences=64).run(requests)),
        lambda: [pipe.image_to_text(image, "Describe the image.", seed=seed) for seed in range(6)],
    ]
    return dict(zip(TASKS, tasks, strict=True))


def serve() -> None:
    """Run the tasks that standard input names, one per line, and print their CPU seconds."""
    tasks = make_tasks()
    for task in tasks.values():
        task()
    for line in sys.stdin:
        start = time.process_time()
        tasks[line.strip()]()
        print(time.process_time() - start, flush=True)


def start(checkout: Path) -> Callable[[str], float]:
    """Start a process with the package of a checkout; return a function that runs a task there."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, __file__, "serve"],
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
) -> None:
    """Print the median ratio of CPU times, this checkout's over the other's, with its quartiles."""
    this, that = start(ROOT), start(other)
    for task in TASKS:
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
    serve() if sys.argv[1:] == ["serve"] else typer.run(main)
