"""Adding an option takes one edit: everything else derives from the class that declares it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "showo_turbo"

SAMPLING = '    contrast: float = option(0.25, "Contrast of the image.", minimum=0, range="0 or more")\n\n'
DECODING = '    patience: int | None = option(None, "Tokens to wait.", minimum=1, range="1 or more, or None")\n\n'

INSPECT = """
import inspect, json, sys
from dataclasses import fields
from showo_turbo import ImageRequest, InputError, ShowoPipeline, TextRequest
from showo_turbo.cli.main import run
from showo_turbo.compat.showo_options import TextToImageOptions, UnderstandingOptions
from showo_turbo.config_reader import read_config
from showo_turbo.generation.options import DecodingOptions, SamplingOptions
from showo_turbo.pipelines.chat import Chat
from showo_turbo.serving.dialogues import ChatRequest
from showo_turbo.serving.http.bodies import ChatBody, EditBody, ImageBody, given as given_in, schema_of
from showo_turbo.serving.http.bodies import read_form_body, read_json_body
from showo_turbo.serving.requests import ExtrapolateRequest, InpaintRequest, VaryRequest

checkpoint, image = sys.argv[1:]

def command(*arguments):
    sys.argv = ["showo-turbo", *arguments]
    try:
        run()
    except SystemExit as stopped:
        return stopped.code or 0

def drawn(*options):
    model = ["--model", checkpoint, "--device", "cpu", "--overwrite"]
    status = command("generate", "a red car", *model, *options)
    return status, json.load(open("out.json")).get("contrast")

def error(options, **values):
    try:
        options(**values)
    except InputError as mistake:
        return str(mistake)

methods = [getattr(ShowoPipeline, name) for name in ("text_to_image", "inpaint", "extrapolate", "vary")]
answers = [ShowoPipeline.image_to_text, Chat.ask]
given, left_out = drawn("--contrast", "0.5"), drawn()
again = command("generate", "--from-sidecar", "out.json", "-o", "again.png")
sidecar = json.load(open("out.json"))
del sidecar["contrast"]
json.dump(sidecar, open("old.json", "w"))
old = command("generate", "--from-sidecar", "old.json", "-o", "new.png")
show_o = ["mmu_image_root=.", "question=a?"]
print(json.dumps({
    "methods": [repr(inspect.signature(method).parameters["contrast"].default) for method in methods],
    "docs": [f"{name}: {text}" in method.__doc__ for name, text, all_methods in (
        ("contrast", "Contrast of the image.", methods), ("patience", "Tokens to wait.", answers),
    ) for method in all_methods],
    "answers": [repr(inspect.signature(method).parameters["patience"].default) for method in answers],
    "image request": ImageRequest("a", contrast=2.0).contrast,
    "text request": TextRequest("a.png", patience=2).patience,
    "edit requests": [kind(contrast=2.0).contrast for kind in (InpaintRequest, ExtrapolateRequest, VaryRequest)],
    "chat request": ChatRequest(None, (), "a?", patience=2).patience,
    "http images": given_in(SamplingOptions, read_json_body(ImageBody, b'{"prompt": "a", "contrast": 2.5}')),
    "http edits": given_in(SamplingOptions, read_form_body(EditBody, {"prompt": "a", "contrast": "2.5"})),
    "http chat": given_in(
        DecodingOptions, read_json_body(ChatBody, b'{"messages": [{"role": "user"}], "patience": 7}')
    ),
    "http documentation": [
        schema_of(ImageBody)["properties"]["contrast"]["description"],
        schema_of(ChatBody)["properties"]["patience"]["minimum"],
    ],
    "given": given, "left out": left_out, "again": again, "old": old,
    "asked": command("ask", image, "What?", "--model", checkpoint, "--device", "cpu", "--patience", "0"),
    "refused": command("ask", image, "What?", "--model", checkpoint, "--device", "cpu", "--patience", "-1"),
    "show-o images": read_config(TextToImageOptions, ["contrast=3"]).sampling,
    "show-o answers": read_config(UnderstandingOptions, [*show_o, "patience=3"]).decoding_options().patience,
    "errors": [error(SamplingOptions, contrast=-1.0), error(DecodingOptions, patience=0)],
}), file=open("found.json", "w"))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with a copy of the package to which each options class gained one line."""
    folder = tmp_path_factory.mktemp("edited")
    shutil.copytree(PACKAGE, folder / "showo_turbo", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    (folder / "showo_turbo" / "weights").symlink_to(PACKAGE / "weights")
    file = folder / "showo_turbo" / "generation" / "options.py"
    code = file.read_text()
    for line, following in (
        (SAMPLING, "    def with_steps("),
        (DECODING, "    def __post_init__(self) -> None:\n        super().__post_init__()"),
    ):
        assert code.count(following) == 1
        code = code.replace(following, line + following)
    file.write_text(code)
    return os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def run(environment: dict[str, str], folder: Path, code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def help_of(environment: dict[str, str], folder: Path, command: str) -> str:
    code = "import sys; from showo_turbo.cli.main import app; app(sys.argv[1:])"
    wide = environment | {"COLUMNS": "250", "TERMINAL_WIDTH": "250"}
    return run(wide, folder, code, command, "--help")


def test_a_new_option_is_everywhere(
    environment: dict[str, str], random_checkpoint: Path, random_pipe, tmp_path: Path
) -> None:
    image = tmp_path / "image.png"
    random_pipe.text_to_image("a red car", seed=0).images[0].save(image)
    run(environment, tmp_path, INSPECT, random_checkpoint, image)
    assert json.loads((tmp_path / "found.json").read_text()) == {
        "methods": ["None"] * 4,
        "docs": [True] * 6,
        "answers": ["None"] * 2,
        "image request": 2.0,
        "text request": 2,
        "edit requests": [2.0, 2.0, 2.0],
        "chat request": 2,
        "http images": {"contrast": 2.5},
        "http edits": {"contrast": 2.5},
        "http chat": {"patience": 7},
        "http documentation": ["Contrast of the image. 0 or more.", 1],
        "given": [0, 0.5],
        "left out": [0, 0.25],
        "again": 0,
        "old": 0,
        "asked": 0,
        "refused": 2,
        "show-o images": {"contrast": 3.0},
        "show-o answers": 3,
        "errors": ["contrast is -1.0: choose 0 or more", "patience is 0: choose 1 or more, or None"],
    }


@pytest.mark.parametrize("command", ["generate", "inpaint", "extrapolate", "vary", "evaluate"])
def test_a_new_sampling_option_is_in_the_help(environment: dict[str, str], tmp_path: Path, command: str) -> None:
    shown = help_of(environment, tmp_path, command)
    assert "--contrast" in shown
    assert "Contrast of the image. 0 or more; the model's own choice if left out." in shown


@pytest.mark.parametrize("command", ["ask", "describe", "chat"])
def test_a_new_decoding_option_is_in_the_help(environment: dict[str, str], tmp_path: Path, command: str) -> None:
    shown = help_of(environment, tmp_path, command)
    assert "--patience" in shown
    assert "Tokens to wait. 1 or more, or 0 for no limit." in shown


def test_show_o_options_help_names_a_new_option(environment: dict[str, str], tmp_path: Path) -> None:
    code = "from showo_turbo.compat.entry import {}; import sys; sys.argv = ['command', '--help']; {}()"
    assert "    contrast: Contrast of the image." in run(
        environment, tmp_path, code.format("inference_t2i", "inference_t2i")
    )
    assert "    patience: Tokens to wait." in run(environment, tmp_path, code.format("inference_mmu", "inference_mmu"))
