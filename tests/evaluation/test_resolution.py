"""Evaluation of a pipeline refuses a resolution that the detector does not read, before any image is generated."""

import pytest

from showo_turbo.errors import InputError
from showo_turbo.evaluation.reconstruction import evaluate_reconstruction
from showo_turbo.evaluation.scene_benchmark import evaluate_text_to_image
from showo_turbo.evaluation.scene_questions import make_question_set
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.scenes.benchmark import benchmark_prompts


def test_another_resolution_is_refused(random_pipe: ShowoPipeline) -> None:
    message = "the model draws 32 x 32 pixels, the built-in world has 64 x 64"
    with pytest.raises(InputError, match=message):
        evaluate_text_to_image(random_pipe, benchmark_prompts()[:1], SamplingOptions())
    with pytest.raises(InputError, match=message):
        evaluate_reconstruction(random_pipe, make_question_set(2, 0).scenes)
