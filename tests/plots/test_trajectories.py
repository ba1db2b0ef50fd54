"""Pictures of trajectories of the shipped models, and that what they show is what happened."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from showo_turbo import InputError, ShowoPipeline, plot_trajectory
from showo_turbo.outputs import AnswerFrame, ImageOutput, TextOutput
from showo_turbo.plots.blocks import MASK, PAPER, evenly, font, text_block, wrap
from showo_turbo.plots.canvas_frames import draw_canvas
from showo_turbo.plots.token_frames import draw_tokens
from showo_turbo.plots.trajectories import animate_trajectory, save_animation

PROMPT = "a red circle and a blue star"


@pytest.fixture(scope="module")
def teacher() -> ShowoPipeline:
    return ShowoPipeline.from_pretrained("tiny", device="cpu")


@pytest.fixture(scope="module")
def student() -> ShowoPipeline:
    return ShowoPipeline.from_pretrained("tiny-turbo", device="cpu")


@pytest.fixture(scope="module")
def drawn(student: ShowoPipeline) -> ImageOutput:
    return student.text_to_image([PROMPT, "two green squares"], seed=0, num_inference_steps=4, return_trajectory=True)


@pytest.fixture(scope="module")
def answered(student: ShowoPipeline, drawn: ImageOutput) -> TextOutput:
    options = {"sliding_window": False, "drafts": False, "seed": 0, "return_trajectory": True}
    return student.image_to_text(drawn.images, ["Describe the image.", "What is in the image?"], **options)


def test_the_trajectory_of_an_image_settles_and_ends_in_it(student: ShowoPipeline, drawn: ImageOutput) -> None:
    frames = drawn.trajectory
    assert frames is not None
    assert [frame.forward_passes for frame in frames] == [0, 1, 2, 3, 4]
    assert not frames[0].known.any()
    assert frames[-1].known.all()
    for before, after in pairwise(frames):
        assert (after.known | ~before.known).all()
    assert [image.tobytes() for image in frames[-1].images] == [image.tobytes() for image in drawn.images]
    plain = student.text_to_image([PROMPT, "two green squares"], seed=0, num_inference_steps=4)
    assert plain.trajectory is None
    assert torch.equal(plain.codes, drawn.codes)


def test_edits_keep_their_trajectory_too(student: ShowoPipeline, drawn: ImageOutput) -> None:
    output = student.vary(drawn.images[0], PROMPT, strength=0.5, seed=0, return_trajectory=True)
    assert output.trajectory is not None
    known = output.trajectory[0].known.float().mean()
    assert 0.4 < float(known) < 0.6
    larger = student.extrapolate(drawn.images[0], PROMPT, "right", seed=0, return_trajectory=True)
    picture = plot_trajectory(larger, title=PROMPT)
    assert picture.width > 144


def test_the_trajectory_of_an_answer_ends_in_it(
    student: ShowoPipeline, drawn: ImageOutput, answered: TextOutput
) -> None:
    assert answered.trajectory is not None
    for frames, text in zip(answered.trajectory, answered.texts, strict=True):
        settled = [frame.num_settled for frame in frames]
        assert settled == sorted(settled)
        assert frames[0].num_settled == 0
        assert frames[-1].num_settled == len(frames[-1].tokens)
        assert "".join("".join(frames[-1].tokens).split()) == "".join(text.split())
    plain = student.image_to_text(drawn.images[0], "Describe the image.", seed=0)
    assert plain.trajectory is None
    assert plain.texts[0] == answered.texts[0]


def test_masked_codes_are_grey_and_settled_ones_are_the_image(drawn: ImageOutput) -> None:
    assert drawn.trajectory is not None
    mask = np.array([int(MASK[start : start + 2], 16) for start in (1, 3, 5)])
    for number, frame in enumerate(drawn.trajectory):
        known = frame.known[1].numpy()
        rows, columns = known.shape
        picture = np.asarray(draw_canvas(drawn.trajectory, number, 1, 16 * columns), dtype=int)
        for row in range(rows):
            for column in range(columns):
                pixel = picture[16 * row + 4, 16 * column + 4]
                assert (np.abs(pixel - mask).max() == 0) == (not known[row, column])


def test_settled_tokens_are_marked() -> None:
    frames = [
        AnswerFrame(["a", "b", "c"], 0, 0),
        AnswerFrame(["a", "x", "y"], 1, 1),
        AnswerFrame(["a", "x", "y"], 3, 2),
    ]

    def colors(number: int) -> list[tuple[int, ...]]:
        picture = draw_tokens(frames, number, 600)
        across = [picture.getpixel((x, 4)) for x in range(picture.width)]
        return [color for x, color in enumerate(across) if x == 0 or color != across[x - 1]]

    grey = tuple(int(MASK[start : start + 2], 16) for start in (1, 3, 5))
    assert colors(0).count(grey) == 3
    assert colors(1).count(grey) == 2
    assert colors(2).count(grey) == 0


def test_pictures_of_one_and_of_two_models(
    teacher: ShowoPipeline, drawn: ImageOutput, answered: TextOutput, tmp_path: Path
) -> None:
    other = teacher.text_to_image(PROMPT, seed=0, num_inference_steps=6, return_trajectory=True)
    alone = plot_trajectory(drawn, title=PROMPT)
    both = plot_trajectory(other, drawn, title=PROMPT, labels=["tiny", "tiny-turbo"])
    assert both.height > alone.height + 144
    assert plot_trajectory(other, max_frames=3).width < plot_trajectory(other).width
    described = plot_trajectory(answered, index=1, title="What is in the image?", image=drawn.images[1])
    assert described.width > 620
    pictures = animate_trajectory(other, drawn, title=PROMPT, labels=["tiny", "tiny-turbo"])
    assert len(pictures) == 1 + 6
    assert len({picture.size for picture in pictures}) == 1
    for name in ("x.gif", "x.webp"):
        save_animation(pictures, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.n_frames == 7
            assert image.info["loop"] == 0


def test_notebooks_show_trajectories_that_are_kept(
    student: ShowoPipeline, drawn: ImageOutput, answered: TextOutput
) -> None:
    for output in (drawn, answered):
        html = output._repr_html_()
        assert html is not None
        assert html.count('src="data:image/png;base64,') == 2
    assert student.text_to_image(PROMPT, seed=0)._repr_html_() is None
    assert student.image_to_text(drawn.images[0], "What?")._repr_html_() is None


@pytest.mark.parametrize("text", ["a " * 200, "word" * 200, "short", "", "two\nlines"])
def test_texts_stay_in_their_column(text: str) -> None:
    for line in wrap(text, 14, 150):
        assert font(14).getlength(line) <= 150
    assert "".join(wrap(text, 14, 150)).replace(" ", "") == "".join(text.split())
    block = text_block(text, 14, 150)
    assert block.width == 150
    paper = tuple(int(PAPER[start : start + 2], 16) for start in (1, 3, 5))
    assert {block.getpixel((149, y)) for y in range(block.height)} == {paper}


def test_frames_are_spread_evenly() -> None:
    assert evenly(3, 8) == [0, 1, 2]
    assert evenly(17, 5) == [0, 4, 8, 12, 16]
    assert evenly(9, 1) == [8]


def test_what_cannot_be_plotted_is_named(student: ShowoPipeline, drawn: ImageOutput, answered: TextOutput) -> None:
    plain = student.text_to_image(PROMPT, seed=0)
    cases = [
        ((plain,), {}, "pass return_trajectory=True"),
        ((drawn, answered), {}, "images and answers"),
        ((drawn,), {"index": 2}, "index is 2"),
        ((drawn,), {"labels": ["a", "b"]}, "labels are 2 for 1 outputs"),
        ((drawn,), {"max_frames": 0}, "max_frames is 0"),
        ((drawn.images[0],), {}, "expected the output of a pipeline"),
        ((), {}, "outputs are missing"),
    ]
    for outputs, options, words in cases:
        with pytest.raises(InputError, match=words):
            plot_trajectory(*outputs, **options)
    with pytest.raises(InputError, match=r"must end in \.gif or \.webp"):
        save_animation([plot_trajectory(drawn)], Path("x.mp4"))
