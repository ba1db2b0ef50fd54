"""CPU time until a first image: importing torch alone, and `showo-turbo generate`, in turns.

    python benchmarks/startup.py --rounds 7

Every measurement is a new process. `generate` prints how much of its time was drawing, so the last line is the time
that it takes beyond importing torch and drawing.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

TORCH = "import time, torch; print(time.process_time(), 0)"
GENERATE = """
import time
from showo_turbo.pipelines.image_generation import ImageGeneration
from showo_turbo.cli.main import run

drawing, text_to_image = [], ImageGeneration.text_to_image

def timed(*args, **options):
    start = time.process_time()
    result = text_to_image(*args, **options)
    drawing.append(time.process_time() - start)
    return result

ImageGeneration.text_to_image = timed
try:
    run()
finally:
    print(time.process_time(), sum(drawing))
"""


def cpu_seconds_of(program: str, *arguments: str) -> tuple[float, float]:
    """Return the CPU seconds of a program in a new process, and those of drawing among them."""
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    total, drawing = done.stdout.splitlines()[-1].split()
    return float(total), float(drawing)


def main() -> None:
    """Print the medians of all rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny-turbo")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch, beyond, drawing = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "image.png")
        command = ["generate", "four green triangles", "--model", arguments.model, "-o", output, "--overwrite"]
        for number in range(arguments.rounds + 1):
            alone, _ = cpu_seconds_of(TORCH)
            total, drawn = cpu_seconds_of(GENERATE, *command)
            if number:  # the first round fills the disk cache
                torch.append(alone)
                drawing.append(drawn)
                beyond.append(total - drawn - alone)
    print(f"import torch                        {median(torch):6.2f} s")
    print(f"drawing                             {median(drawing):6.2f} s")
    print(f"generate beyond torch and drawing   {median(beyond):6.2f} s  ({min(beyond):.2f} to {max(beyond):.2f})")


if __name__ == "__main__":
    main()
