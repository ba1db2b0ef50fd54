"""A sheet of sample images, which shows the progress of a training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from showo_turbo.files import atomic_file
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.images import make_grid

SHEET_STEPS = (1, 2, 4, 8)
"""Number of steps of each row of a sample sheet."""


def write_sample_sheet(file: Path, pipe: ShowoPipeline, prompts: Sequence[str]) -> None:
    """Write an image of every prompt, a column each, in 1, 2, 4 and 8 steps, a row each, as a PNG."""
    pipe = replace(pipe, known_world=None)  # captions of a training are no one's prompts: no warning of unknown words
    rows = [pipe.text_to_image(list(prompts), num_inference_steps=steps, seed=0).images for steps in SHEET_STEPS]
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as written:
        make_grid([image for row in rows for image in row], columns=len(prompts)).save(written, format="PNG")
