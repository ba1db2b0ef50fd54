"""torch's default dtype, which an application may set, changes no result."""

from collections.abc import Iterator

import pytest
import torch
from PIL import Image

from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.masks import mask_to_grid

DTYPES = [torch.bfloat16, torch.float16, torch.float64]


def results() -> list:
    """Outputs of a newly loaded model in all tasks."""
    pipe = ShowoPipeline.from_pretrained("tiny-turbo", device="cpu")
    image, mask = Image.new("RGB", (64, 64), "red"), Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    sampled = {"guidance_scale": 1.0, "temperature": 1.0, "top_k": 5, "sampled_steps": 3, "num_inference_steps": 5}
    one = {"prompt": "a red circle", "seed": 3}
    images = pipe.text_to_image(**one, output_type="pt").images
    assert images.dtype == torch.float32
    return [
        images.tolist(),
        mask_to_grid(mask, 64, 8).tolist(),
        *(
            codes.tolist()
            for codes in (
                pipe.encode_image(image),
                *(pipe.text_to_image(**one, **sampled, schedule=name).codes for name in ("sigmoid", "pow2", "linear")),
                pipe.inpaint(image, mask, **one, **sampled).codes,
                pipe.extrapolate(image, **one, direction="left").codes,
                pipe.vary(image, **one).codes,
            )
        ),
        pipe.image_to_text(image, ["Describe the image.", "How many circles are there?"]).token_ids,
        pipe.image_to_text(image, "Describe the image.", temperature=1.0, seed=2).token_ids,
        pipe.chat(image).ask("Describe the image.").token_ids,
    ]


@pytest.fixture(scope="module")
def expected() -> list:
    return results()


@pytest.fixture(params=DTYPES, ids=str)
def default_dtype(request: pytest.FixtureRequest, expected: list) -> Iterator[torch.dtype]:
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


def test_the_default_dtype_changes_no_result(default_dtype: torch.dtype, expected: list) -> None:
    assert results() == expected
