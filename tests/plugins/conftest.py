"""Three images with a circle and a question, and a process in which a framework runs on them without the network."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

COLORS = ("red", "blue", "green")


def circle(color: str) -> bytes:
    """Return a PNG file of a circle."""
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((16, 16, 48, 48), fill=color)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def circles() -> dict[str, bytes]:
    """PNG files by the color of their circle."""
    return {color: circle(color) for color in COLORS}


@pytest.fixture
def run_framework(tmp_path: Path):
    """Return `run(*arguments)`: run Python in a folder of the test, return what it prints."""

    def run(*arguments: str, returncode: int = 0, **environment: str) -> str:
        variables = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PYTHONWARNINGS": "ignore"}
        variables |= {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), **environment}
        done = subprocess.run(
            [sys.executable, *arguments], env=variables, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == returncode, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run
