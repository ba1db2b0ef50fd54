"""An argument that no task has is refused by name."""

import pytest
from PIL import Image

from showo_turbo import InputError, ShowoPipeline

CALLS = {
    "text_to_image": lambda pipe, **more: pipe.text_to_image("x", **more),
    "inpaint": lambda pipe, **more: pipe.inpaint(Image.new("RGB", (32, 32)), Image.new("L", (32, 32), 255), **more),
    "extrapolate": lambda pipe, **more: pipe.extrapolate(Image.new("RGB", (32, 32)), **more),
    "vary": lambda pipe, **more: pipe.vary(Image.new("RGB", (32, 32)), **more),
}


@pytest.mark.parametrize("task", CALLS)
@pytest.mark.parametrize("name", ["guidance", "steps"])
def test_unknown_options_are_named(random_pipe: ShowoPipeline, task: str, name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is no option: choose among num_inference_steps, guidance_scale, "):
        CALLS[task](random_pipe, **{name: 3})
