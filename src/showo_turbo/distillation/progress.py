"""What a student can do so far, as a number and as a picture."""

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
"""Steps of the rows of a sample sheet."""


def passes_per_block(student: Showo, blocks: Sequence[JacobiTrajectory], vocabulary: Vocabulary) -> float:
    """Mean number of passes in which the student settles blocks, from the teacher's first guesses."""
    passes = 0
    for block in blocks:
        guesses = block.iterates[:1]
        length = guesses.shape[1]
        settled = last_state(TextDecoder(student, vocabulary, [block.prompt], length, length).run(guesses))
        passes += settled.forward_passes
    return passes / len(blocks)


def sample_sheet(pipe: ShowoPipeline, prompts: Sequence[str]) -> Image.Image:
    """A picture of every prompt, a column each, with 1, 2, 4 and 8 steps, a row each."""
    rows = [pipe.text_to_image(list(prompts), num_inference_steps=steps, seed=0).images for steps in SHEET_STEPS]
    return make_grid([image for row in rows for image in row], columns=len(prompts))
