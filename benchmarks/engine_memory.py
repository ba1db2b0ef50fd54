"""Resident memory of an engine while it serves requests of mixed shapes: it stays flat.

    python benchmarks/engine_memory.py --requests 10000

Prompts, questions, steps, images, limits and block lengths differ from request to request, so most forward passes have
a shape that has not occurred before.
"""

import argparse
import random

import torch

from measuring import resident_memory
from showo_turbo import ImageRequest, ShowoPipeline, TextRequest

WORDS = (
    "a",
    "red",
    "blue",
    "green",
    "circle",
    "star",
    "square",
    "cross",
    "two",
    "three",
    "four",
    "above",
    "left",
    "of",
)


def mixed_request(codes: torch.Tensor, source: random.Random) -> ImageRequest | TextRequest:
    """Return a request with random settings: for images, or about the image of `codes`."""
    if source.random() < 0.7:
        question = "how many " + " ".join(source.choices(WORDS, k=source.randint(1, 40)))
        limits = {"max_new_tokens": source.randint(1, 24), "block_length": source.randint(1, 16)}
        return TextRequest(codes=codes, prompt=question, **limits)
    return ImageRequest(
        " ".join(source.choices(WORDS, k=source.randint(1, 20))),
        num_inference_steps=source.randint(1, 4),
        num_images_per_prompt=source.randint(1, 2),
        guidance_scale=source.choice([0.0, 1.0]),
        seed=source.randrange(10),
        output_type=source.choice(["latent", "pil"]),
    )


def memory_while_serving(model: str, requests: int, samples: int = 10) -> list[float]:
    """Return resident memory in MiB after each of `samples` equal parts of the requests."""
    torch.set_num_threads(1)
    pipe = ShowoPipeline.from_pretrained(model, device="cpu")
    codes = pipe.text_to_image("a red circle", seed=0, output_type="latent").codes
    engine, source, memory, submitted, done = pipe.engine(max_sequences=16), random.Random(0), [], 0, 0
    while done < requests:
        while submitted < requests and engine.pending < source.randint(1, 12):
            engine.submit(mixed_request(codes, source))
            submitted += 1
        for update in engine.step():
            if update.done:
                update.output()
                done += 1
                if done % (requests // samples) == 0:
                    memory.append(resident_memory() * 1024)
    return memory


def main() -> None:
    """Print resident memory after each tenth of the requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny-turbo")
    parser.add_argument("--requests", type=int, default=10_000)
    arguments = parser.parse_args()
    for tenth, memory in enumerate(memory_while_serving(arguments.model, arguments.requests), start=1):
        print(f"{tenth * arguments.requests // 10:8} requests: {memory:7.1f} MiB", flush=True)


if __name__ == "__main__":
    main()
