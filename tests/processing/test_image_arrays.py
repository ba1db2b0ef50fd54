"""Arrays as images: those that the pipeline returns are accepted back, others are checked."""

import numpy as np
import pytest
import torch
from PIL import Image

from showo_turbo.errors import InputError
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.image_files import load_image

LEVELS = np.arange(0, 252, dtype=np.uint8).reshape(6, 14, 3)


@pytest.mark.parametrize("output_type", ["np", "pt"])
def test_returned_arrays_are_accepted_as_images(random_pipe: ShowoPipeline, output_type: str) -> None:
    def draw(kind: str):
        return random_pipe.text_to_image(["a dog", "a car"], seed=0, num_inference_steps=2, output_type=kind).images

    drawn, pictures = draw(output_type), draw("pil")
    assert torch.equal(random_pipe.encode_image(drawn), random_pipe.encode_image(pictures))
    assert torch.equal(random_pipe.encode_image(drawn[1]), random_pipe.encode_image(pictures[1]))
    assert [load_image(one).tobytes() for one in drawn] == [one.tobytes() for one in pictures]
    options = {"num_inference_steps": 2, "seed": 1}
    for task in (
        lambda image: random_pipe.vary(image, prompt="a dog", **options).codes,
        lambda image: random_pipe.extrapolate(image, prompt="a dog", direction="left", **options).codes,
        lambda image: torch.tensor(random_pipe.image_to_text(image, "What?", max_new_tokens=3).token_ids[1]),
        lambda image: random_pipe.encode_images(image).rows,
    ):
        assert torch.equal(task(drawn), task(pictures))


@pytest.mark.parametrize(
    "array",
    [
        LEVELS,
        LEVELS.astype(np.float32) / 255,
        LEVELS / 255,
        LEVELS[::-1][::-1],
        torch.from_numpy(LEVELS).movedim(-1, 0),
        torch.from_numpy(LEVELS).movedim(-1, 0).double() / 255,
    ],
)
def test_levels_are_kept(array: np.ndarray | torch.Tensor) -> None:
    assert np.array_equal(np.asarray(load_image(array)), LEVELS)


def test_masks_and_gray_levels_may_be_arrays(random_pipe: ShowoPipeline) -> None:
    size, options = random_pipe.resolution, {"num_inference_steps": 2, "seed": 1}
    mask = np.zeros((size, size), np.uint8)
    mask[: size // 2] = 255
    image = Image.new("RGB", (size, size), "red")
    expected = random_pipe.inpaint(image, Image.fromarray(mask), "a dog", **options).codes
    assert torch.equal(random_pipe.inpaint(image, mask, "a dog", **options).codes, expected)
    assert torch.equal(random_pipe.inpaint(np.asarray(image), mask / 255, "a dog", **options).codes, expected)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 4)), r"image is an array of shape \(4, 4, 4\): expected \(height, width, 3\)"),
        (torch.zeros(4, 4, 3), r"image is an array of shape \(4, 4, 3\): expected \(3, height, width\)"),
        (np.zeros((0, 4, 3)), "of shape"),
        (np.zeros((4, 4, 3), int), "image is an array of int64: expected floating point from 0 to 1, or uint8"),
        (torch.zeros(3, 4, 4, dtype=torch.bool), "image is an array of bool"),
        (np.full((4, 4, 3), 200.0), "image is an array of levels from 200 to 200: expected 0 to 1"),
        (torch.randn(3, 9, 9), "of levels from -"),
        (np.full((4, 4, 3), np.nan), "of levels from nan to nan"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray | torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_image(array)
