"""VLMEvalKit asks the model about three images by its own inference, and scores the answers.

VLMEvalKit imports torchvision with its data sets, and torchvision does not import beside the torch that is tested here.
So an empty module stands in for it; no test uses it.
"""

import base64
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("vlmeval") is None, reason="make test-plugins has VLMEvalKit")

STAND_IN = """
import sys
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

import transformers  # looks for torchvision when it is imported


class StandIn:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] == "torchvision" else None

    def create_module(self, spec):
        return MagicMock(name=spec.name, __path__=[], __spec__=spec, __version__="0")

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, StandIn())
"""
INFER = """
import stand_in, sys
from showo_turbo.plugins.vlmevalkit_model import register_models
register_models()
from pathlib import Path
from vlmeval.dataset import ImageYORNDataset
from vlmeval.inference import infer_data_job
data = ImageYORNDataset(dataset="circles")
infer_data_job("tiny-turbo", "out", "tiny-turbo", data)
(answers,) = Path("out").glob("*circles.xlsx")
print("score", float(data.evaluate(str(answers), model="exact_matching")["Overall"][0]))
"""
CONFIGURED = """
import stand_in
from showo_turbo.plugins.vlmevalkit_model import register_models
register_models()
from vlmeval.run import build_model_from_config
settings = {"mine": {"class": "ShowoTurbo", "model_path": "tiny-turbo", "max_new_tokens": 4}}
model = build_model_from_config(settings, "mine")
question = dict(type="text", value="What color is the circle?")
print("answer", model.generate([dict(type="image", value="red.png"), question]))
try:
    model.generate([question], dataset="circles")
except ValueError as error:
    print("refused", error)
"""


@pytest.fixture
def data(tmp_path: Path, circles: dict[str, bytes]) -> Path:
    """A table in VLMEvalKit's format, and a folder for answers."""
    lines = ["index\timage\tquestion\tanswer"]
    for number, (color, content) in enumerate(circles.items()):
        encoded = base64.b64encode(content).decode()
        lines.append(f"{number}\t{encoded}\tIs there a red circle?\t{'Yes' if color == 'red' else 'No'}")
        (tmp_path / f"{color}.png").write_bytes(content)
    (tmp_path / "circles.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    (tmp_path / "out").mkdir()
    return tmp_path


def test_a_table_of_three_images_is_scored(data: Path, run_framework) -> None:
    (data / "infer.py").write_text(INFER)
    assert "score 100.0" in run_framework("infer.py", LMUData=str(data))


def test_a_class_in_a_config_file_answers_and_refuses_a_question_without_an_image(data: Path, run_framework) -> None:
    (data / "configured.py").write_text(CONFIGURED)
    said = run_framework("configured.py", LMUData=str(data))
    assert "answer red" in said.lower()
    assert "refused data set 'circles', image []: question has no image" in said


def test_the_command_runs_a_script_with_the_model_registered(data: Path, run_framework) -> None:
    (data / "run.py").write_text(
        "import sys\nfrom vlmeval.config import supported_VLM\nprint(sys.argv[1:], 'tiny-turbo' in supported_VLM)"
    )
    (data / "go.py").write_text(
        "import runpy, stand_in\nrunpy.run_module('showo_turbo.plugins.vlmevalkit_run', run_name='__main__')"
    )
    said = run_framework("go.py", "run.py", "--data", "circles", LMUData=str(data))
    assert "['--data', 'circles'] True" in said
    assert "usage:" in run_framework("go.py", "missing.py", returncode=1, LMUData=str(data))
