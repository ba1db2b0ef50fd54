"""Evaluation of a pipeline: what cannot be judged is refused before anything is drawn."""

import pytest

from showo_turbo.errors import InputError
from showo_turbo.evaluation.reconstruction import evaluate_reconstruction
from showo_turbo.evaluation.scene_benchmark import evaluate_text_to_image
from showo_turbo.evaluation.scene_questions import make_examination
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.scenes.benchmark import benchmark_prompts


def test_pictures_of_another_size_are_refused(random_pipe: ShowoPipeline) -> None:
    message = "the model draws 32 x 32 pixels, the built-in world has 64 x 64"
    with pytest.raises(InputError, match=message):
        evaluate_text_to_image(random_pipe, benchmark_prompts()[:1], SamplingOptions())
    with pytest.raises(InputError, match=message):
        evaluate_reconstruction(random_pipe, make_examination(2, 0).scenes)
