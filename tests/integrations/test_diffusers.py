"""The custom pipeline of diffusers gives what the pipeline gives. Without diffusers these tests are skipped."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "integrations" / "diffusers"

pytestmark = pytest.mark.skipif(find_spec("diffusers") is None, reason="diffusers is not installed")

SETUP = f"""
import json, sys
import torch
from diffusers import DiffusionPipeline
folder = {str(FOLDER)!r}
load = lambda path=folder, **more: DiffusionPipeline.from_pretrained(
    path, custom_pipeline=folder, trust_remote_code=True, **more
)
pipe = load(model="tiny-turbo")
seeded = lambda seed: torch.Generator().manual_seed(seed)
"""


def run(code: str, folder: Path) -> list:
    """Run code in a process of its own, with diffusers' cache of custom code in a folder; return what it prints."""
    environment = os.environ | {"HF_HOME": str(folder), "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", SETUP + code]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_calls_give_what_the_pipeline_gives(tmp_path: Path) -> None:
    assert run(
        """
from PIL import Image
same = lambda output, ours: print(json.dumps([one.tobytes() for one in output] == [one.tobytes() for one in ours]))
showo = pipe.showo
drawn = pipe("a red circle", num_inference_steps=4, num_images_per_prompt=2, top_k=None, generator=seeded(0)).images
same(drawn, showo.text_to_image("a red circle", num_inference_steps=4, num_images_per_prompt=2, seed=0).images)
mask = Image.new("L", (64, 64))
mask.paste(255, (32, 0, 64, 64))
edited = pipe("a blue star", image=drawn[0], mask_image=mask, generator=seeded(1)).images
same(edited, showo.inpaint(drawn[0], mask, "a blue star", seed=1).images)
varied = pipe("a blue star", image=drawn[0], strength=0.3, generator=seeded(2)).images
same(varied, showo.vary(drawn[0], "a blue star", 0.3, seed=2).images)
(array,) = pipe("a red circle", output_type="np", return_dict=False, generator=seeded(0))
print(json.dumps(array.shape))
""",
        tmp_path,
    ) == [True, True, True, [1, 64, 64, 3]]


def test_callbacks_get_this_pipeline_and_stop_it(tmp_path: Path) -> None:
    assert run(
        """
steps = []
def stop(given, step, left, tensors):
    steps.append(step)
    assert given is pipe and set(tensors) == {"codes", "masked", "grid"}
    given._interrupt = step == 1
pipe("a red circle", num_inference_steps=8, callback_on_step_end=stop)
print(json.dumps(steps))
""",
        tmp_path,
    ) == [[0, 1]]


def test_a_saved_pipeline_loads_the_same_checkpoint(tmp_path: Path) -> None:
    assert run(
        f"""
pipe.save_pretrained({str(tmp_path / "saved")!r})
again = load({str(tmp_path / "saved")!r})
print(json.dumps([again.config.model, str(again.to("cpu", torch.float32).device)]))
half = load(model="tiny-turbo", precision="bfloat16")
print(json.dumps(str(next(half.showo.model.parameters()).dtype)))
""",
        tmp_path,
    ) == [["tiny-turbo", "cpu"], "torch.bfloat16"]


def test_mistakes_are_named(tmp_path: Path) -> None:
    messages = run(
        """
from PIL import Image
image = Image.new("RGB", (64, 64))
for call in (
    lambda: DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder),
    lambda: load(model="tiny-turbo-2"),
    lambda: load(model="tiny-turbo", precision="float8"),
    lambda: pipe.to(torch.bfloat16),
    lambda: pipe("x", strength=0.5),
    lambda: pipe("x", mask_image=image),
    lambda: pipe("x", num_inference_steps=0),
    lambda: pipe("x", guidance=3),
):
    try:
        call()
    except (TypeError, ValueError) as error:
        print(json.dumps(str(error)))
""",
        tmp_path,
    )
    expected = [
        "trust_remote_code=True", "tiny-turbo-2", "float8", "dtype is bfloat16: give it when loading",
        "strength is for variations", "mask_image is given without image", "num_inference_steps is 0", "guidance",
    ]  # fmt: skip
    assert len(messages) == len(expected)
    for message, part in zip(messages, expected, strict=True):
        assert part in message


def test_the_example_runs(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.+?)```", (FOLDER / "README.md").read_text(), flags=re.DOTALL)[1]
    printed = run(f"{code}\nprint(json.dumps([edited.size, type(answer).__name__]))", tmp_path)
    assert printed == [[[64, 64], "str"]]
