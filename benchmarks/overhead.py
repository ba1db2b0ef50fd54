"""How much of a step is not the matrix products it is there for.

The products of a call (projections, MLP, head, attention) are noted with their operands while it runs, and then
computed again by themselves. Fused kernels count as products: attention, softmax included, whose part is told apart,
and the MLP's first layer with its GELU.

What counts is processor time, so that others who use the machine do not. Threads that wait for others use the processor
too, so measure on one thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from measuring import processor_seconds
from showo_turbo import ImageRequest
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.scenes.benchmark import benchmark_prompts

aten = torch.ops.aten
LINEAR = {aten.linear, aten.mm, aten.addmm, aten.bmm, aten.baddbmm, torch.ops.mkldnn._linear_pointwise}
ATTENTION = {aten.scaled_dot_product_attention, aten._scaled_dot_product_flash_attention_for_cpu}


class Products(TorchDispatchMode):
    """Notes every matrix product that runs inside, with its operands."""

    def __init__(self) -> None:
        super().__init__()
        self.linear: list[Callable[[], object]] = []
        self.attention: list[Callable[[], object]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for kind, noted in ((LINEAR, self.linear), (ATTENTION, self.attention)):
            if function.overloadpacket in kind:
                noted.append(lambda: function(*args, **kwargs))
        return function(*args, **kwargs)


@dataclass(frozen=True)
class Overhead:
    """Milliseconds of the processor a step, medians; `share` is what is not products and attention."""

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
    """Do it all again."""
    for call in calls:
        call()


@torch.no_grad()
def overhead(name: str, steps: int, guidance_scale: float, images: int, requests: int, repeats: int) -> Overhead:
    """Of the transformer steps of text to image with a shipped model: of its engine, if there are several requests."""
    pipe = ShowoPipeline.from_pretrained(name, device="cpu")
    prompts = ["a red circle", *(one.prompt for one in benchmark_prompts())][:requests]
    options = {"num_images_per_prompt": images, "output_type": "latent"}
    asked = [
        ImageRequest(prompt, steps, guidance_scale, seed=number, **options) for number, prompt in enumerate(prompts)
    ]

    def draw() -> None:
        if requests == 1:
            pipe.text_to_image(**vars(asked[0]))
        else:
            for update in pipe.engine(2 * images * requests).run(asked):
                update.output()

    draw()  # constants of the model are computed once
    with Products() as products:
        draw()
    tasks = (draw, lambda: replay(products.linear), lambda: replay(products.attention))
    rounds = [[processor_seconds(task) * 1000 / steps for task in tasks] for _ in range(repeats)]
    step, linear, attention = (median(column) for column in zip(*rounds, strict=True))
    share = median(1 - (products + mixing) / whole for whole, products, mixing in rounds)
    return Overhead(name, steps, guidance_scale, images, requests, step, linear, attention, share)
