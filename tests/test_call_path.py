"""A reader follows a warm call from the pipeline to its result in few files and few jumps."""

import pytest

from call_path import trace
from showo_turbo import ShowoPipeline

MAX_FILES = 15
MAX_DEPTH = 12


@pytest.mark.parametrize("task", ["draw", "answer"])
def test_a_call_enters_few_files_and_stays_shallow(task: str) -> None:
    pipe = ShowoPipeline.from_pretrained("tiny-turbo", device="cpu")
    image = pipe.text_to_image("a red circle", seed=0).images[0]
    calls = {
        "draw": lambda: pipe.text_to_image("a red circle and a blue star", num_inference_steps=4, seed=0),
        "answer": lambda: pipe.image_to_text(image, "How many stars are there?", seed=0),
    }
    calls[task]()
    files, functions, depth = trace(calls[task])
    assert 5 < len(files) <= MAX_FILES, sorted(files)
    assert len(functions) > 50
    assert 5 < depth <= MAX_DEPTH
