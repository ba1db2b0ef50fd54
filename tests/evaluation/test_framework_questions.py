"""Questions of frameworks: the pipeline's answers, and options by transformers' names."""

import pytest
from PIL import Image

from showo_turbo.errors import InputError
from showo_turbo.evaluation.framework_questions import FrameworkQuestion, answer_questions, cut_at
from showo_turbo.pipelines.pipeline import ShowoPipeline

IMAGES = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]


@pytest.fixture(scope="module")
def pipe() -> ShowoPipeline:
    return ShowoPipeline.from_pretrained("tiny-turbo", device="cpu")


def ask(
    pipe: ShowoPipeline, text: str = "What color is the background?", images=(IMAGES[0],), shorten=False, **options
) -> str:
    question = FrameworkQuestion(text, lambda: images, options, "task 'x', document 3")
    return answer_questions(pipe, [question], 1, shorten)[0].texts[0]


def test_answers_are_those_of_the_pipeline_in_their_order(pipe: ShowoPipeline) -> None:
    texts = ["What color is the background?", "Describe the image.", "How many circles are there?"] * 2
    questions = [
        FrameworkQuestion(text, lambda image=image: [image], {"max_new_tokens": 12}, "")
        for text, image in zip(texts, IMAGES * 3, strict=True)
    ]
    outputs = answer_questions(pipe, questions, 4, False)
    expected = [
        pipe.image_to_text(image, text, max_new_tokens=12).texts[0]
        for text, image in zip(texts, IMAGES * 3, strict=True)
    ]
    assert [output.texts[0] for output in outputs] == expected


def test_a_limit_beyond_the_positions_is_lowered(pipe: ShowoPipeline) -> None:
    assert ask(pipe, max_new_tokens=100_000) == ask(pipe)


def test_neutral_options_change_nothing_and_sampling_is_passed_on(pipe: ShowoPipeline) -> None:
    assert ask(pipe, num_beams=1, temperature=0, top_p=1.0, do_sample=False) == ask(pipe)
    assert ask(pipe, do_sample=True, temperature=0) == ask(pipe)
    assert ask(pipe, do_sample=True, temperature=0.7, top_k=1) == ask(pipe)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_beams": 3}, "num_beams is 3"),
        ({"repetition_penalty": 1.2}, "repetition_penalty is 1.2"),
        ({"do_sample": True, "top_p": 0.9}, "top_p is 0.9"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"images": ()}, "question has no image"),
        ({"text": " "}, "question is empty"),
        ({"text": "a" * 1025}, "question has 1025 characters"),
    ],
)
def test_what_cannot_be_done_names_the_question(pipe: ShowoPipeline, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=f"task 'x', document 3: .*{message}"):
        ask(pipe, **changes)


def test_long_questions_are_cut_at_their_start_on_demand(pipe: ShowoPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("showo_turbo.evaluation.framework_questions.MAX_QUESTION_CHARACTERS", 18)
    assert ask(pipe, "What color is the background? Where is the star?", shorten=True) == ask(
        pipe, "Where is the star?"
    )


def test_stop_sequences_cut_at_the_first() -> None:
    assert cut_at("a. b\n\nc", ["\n\n", ". "]) == "a"
    assert cut_at("abc", ["", "x"]) == "abc"
    assert cut_at("abc", []) == "abc"
