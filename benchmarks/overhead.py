"""The fraction of a step's time that is not spent on matrix products.

The matrix products of a call (projections, MLP, head, attention) are recorded with their operands while it runs, and
then computed again by themselves. Fused kernels count as products: attention, softmax included, which is reported
separately, and the MLP's first layer with its GELU.

Times are CPU times, which exclude other processes of the machine. Threads that wait for others use CPU time too, so
measure on one thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from measuring import cpu_seconds
from showo_turbo import ImageRequest
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.scenes.benchmark import benchmark_prompts

aten = torch.ops.aten
LINEAR = {aten.linear, aten.mm, aten.addmm, aten.bmm, aten.baddbmm, torch.ops.mkldnn._linear_pointwise}
ATTENTION = {aten.scaled_dot_product_attention, aten._scaled_dot_product_flash_attention_for_cpu}


class MatrixProductRecorder(TorchDispatchMode):
    """Record every matrix product that runs inside, with its operands."""

    def __init__(self) -> None:
        super().__init__()
        self.linear: list[Callable[[], object]] = []
        self.attention: list[Callable[[], object]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for operators, calls in ((LINEAR, self.linear), (ATTENTION, self.attention)):
            if function.overloadpacket in operators:
                calls.append(lambda: function(*args, **kwargs))
        return function(*args, **kwargs)


@dataclass(frozen=True)
class Overhead:
    """Hold medians in milliseconds of CPU time per step; `share` is the fraction besides products and attention."""

    model: str
    steps: int
    guidance_scale: float
    images: int
    requests: int
    step_ms: float
    products_ms: float
    attention_ms: float
    share: float


def replay(calls: list[Callable[[], object]]) -> None:
    """Compute all recorded products."""
    for call in calls:
        call()


@torch.no_grad()
def overhead(name: str, steps: int, guidance_scale: float, images: int, requests: int, repeats: int) -> Overhead:
    """Measure the transformer steps of text to image with a shipped model; several requests run in an engine."""
    pipe = ShowoPipeline.from_pretrained(name, device="cpu")
    prompts = ["a red circle", *(one.prompt for one in benchmark_prompts())][:requests]
    options = {"num_images_per_prompt": images, "output_type": "latent"}
    image_requests = [
        ImageRequest(prompt, steps, guidance_scale, seed=seed, **options) for seed, prompt in enumerate(prompts)
    ]

    def draw() -> None:
        if requests == 1:
            pipe.text_to_image(**vars(image_requests[0]))
        else:
            for update in pipe.engine(2 * images * requests).run(image_requests):
                update.output()

    draw()  # caches the constants of the model
    with MatrixProductRecorder() as products:
        draw()
    tasks = (draw, lambda: replay(products.linear), lambda: replay(products.attention))
    rounds = [[cpu_seconds(task) * 1000 / steps for task in tasks] for _ in range(repeats)]
    step, linear, attention = (median(column) for column in zip(*rounds, strict=True))
    share = median(1 - (products_ms + attention_ms) / step_ms for step_ms, products_ms, attention_ms in rounds)
    return Overhead(name, steps, guidance_scale, images, requests, step, linear, attention, share)
