"""`showo-turbo trajectory`: pictures and animations of images and answers, of one model or two."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

PROMPT = "a red circle"


def test_images_step_by_step(cli: Callable, here: Path) -> None:
    done = cli("trajectory", PROMPT, "--steps", "3", "-o", "x.png")
    assert done.status == 0, done.err
    assert "wrote x.png" in done.err
    for name in ("x.gif", "x.webp"):
        done = cli("trajectory", PROMPT, "--compare", "tiny", "tiny-turbo", "--steps", "3", "-o", name)
        assert done.status == 0, done.err
        with Image.open(here / name) as image:
            assert image.n_frames == 4
    assert cli("trajectory", PROMPT, "-o", "x.png").status == 2  # exists
    assert cli("trajectory", PROMPT, "--steps", "3", "-o", "x.png", "--overwrite").status == 0


def test_answers_pass_by_pass(cli: Callable, here: Path) -> None:
    Image.new("RGB", (64, 64), "red").save("red.png")
    about = ("--image", "red.png", "--question", "Describe the image.")
    one = cli("trajectory", *about, "-o", "1.png")
    two = cli("trajectory", *about, "--compare", "tiny", "tiny-turbo", "-o", "2.png")
    assert (one.status, two.status) == (0, 0), one.err + two.err
    with Image.open("1.png") as alone, Image.open("2.png") as both:
        assert both.width > 1.8 * alone.width
    assert cli("trajectory", *about, "--decoding", "autoregressive", "-o", "3.gif").status == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "prompt is missing: give the text of an image, or --image with --question"),
        (["--question", "What?"], "prompt is missing"),
        ([PROMPT, "--question", "What?"], "choose a prompt, or --image with --question"),
        ([PROMPT, "--model", "tiny", "--compare", "tiny", "tiny-turbo"], "--compare names both models"),
        ([PROMPT, "--compare", "tiny", "nobody"], "model 'nobody' is unknown"),
        ([PROMPT, "--block-length", "4"], "block-length is for answers"),
        (["--image", "x.png", "--question", "What?", "--steps", "3"], "num-inference-steps is for images"),
        (["--image", "x.png", "--question", "What?"], "'x.png'"),
        ([PROMPT, "-o", "x.mp4"], "output 'x.mp4' must end in .gif, .webp, .png"),
        ([PROMPT, "--frames", "0"], "frames is 0"),
        ([PROMPT, "--seed", "-1"], "seed is -1"),
        ([PROMPT, "--steps", "0"], "steps is 0"),
        ([""], "prompt"),
    ],
)
def test_bad_input_is_one_line(cli: Callable, here: Path, arguments: list[str], words: str) -> None:
    output = [] if "-o" in arguments else ["-o", "x.gif"]
    done = cli("trajectory", *arguments, *output)
    assert done.status == 2
    (line,) = done.err.strip().splitlines()
    assert words in line
    assert not list(here.iterdir())
