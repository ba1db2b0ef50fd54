"""A sheet of sample images, which shows the progress of a training."""

from collections.abc import Sequence

from PIL import Image

from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.images import make_grid

SHEET_STEPS = (1, 2, 4, 8)
"""Number of steps of each row of a sample sheet."""


def sample_sheet(pipe: ShowoPipeline, prompts: Sequence[str]) -> Image.Image:
    """Generate an image of every prompt, a column each, in 1, 2, 4 and 8 steps, a row each."""
    rows = [pipe.text_to_image(list(prompts), num_inference_steps=steps, seed=0).images for steps in SHEET_STEPS]
    return make_grid([image for row in rows for image in row], columns=len(prompts))
