"""Measures of a student's progress: forward passes per block, and a sheet of sample images."""

from collections.abc import Sequence

from PIL import Image

from showo_turbo.distillation.text_trajectories import JacobiTrajectory
from showo_turbo.generation.text_decoder import TextDecoder
from showo_turbo.generation.trajectory import last_state
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.images import make_grid
from showo_turbo.vocabulary import Vocabulary

SHEET_STEPS = (1, 2, 4, 8)
"""Number of steps of each row of a sample sheet."""


def passes_per_block(student: Showo, blocks: Sequence[JacobiTrajectory], vocabulary: Vocabulary) -> float:
    """Return the mean number of forward passes in which the student decodes blocks from the teacher's guesses."""
    passes = 0
    for block in blocks:
        guesses = block.iterates[:1]
        length = guesses.shape[1]
        decoder = TextDecoder(student, vocabulary, [block.prompt], length, length)
        passes += last_state(decoder.run(guesses)).forward_passes
    return passes / len(blocks)


def sample_sheet(pipe: ShowoPipeline, prompts: Sequence[str]) -> Image.Image:
    """Generate an image of every prompt, a column each, in 1, 2, 4 and 8 steps, a row each."""
    rows = [pipe.text_to_image(list(prompts), num_inference_steps=steps, seed=0).images for steps in SHEET_STEPS]
    return make_grid([image for row in rows for image in row], columns=len(prompts))
