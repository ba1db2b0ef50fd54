"""A measure of a student's progress: forward passes per block."""

from collections.abc import Sequence

from showo_turbo.distillation.text_trajectories import JacobiTrajectory
from showo_turbo.generation.text_decoder import TextDecoder
from showo_turbo.generation.trajectory import last_state
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary


def passes_per_block(student: Showo, blocks: Sequence[JacobiTrajectory], vocabulary: Vocabulary) -> float:
    """Return the mean number of forward passes in which the student decodes blocks from the teacher's guesses."""
    passes = 0
    for block in blocks:
        guesses = block.iterates[:1]
        length = guesses.shape[1]
        decoder = TextDecoder(student, vocabulary, [block.prompt], length, length)
        passes += last_state(decoder.run(guesses)).forward_passes
    return passes / len(blocks)
