"""Libraries that are not installed: all modules import without them, and what needs one says how to install it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from showo_turbo.extras import install_hint

TRAIN, QUANTIZATION, SERVE, EVALUATE = map(install_hint, ("train", "quantization", "serve", "evaluate"))

CASES = {
    "accelerate": ("before_training.check_environment(loop.LoopConfig())", TRAIN),
    "accelerate processes": ("processes.process_state()", TRAIN),
    "accelerate lock": ("processes.lock_output(Path('run')).__enter__()", TRAIN),
    "matplotlib": ("stages.distill(DistillationConfig(stages=(Stage('first'),)))", TRAIN),
    "matplotlib losses": ("plot_curve(Path('log.jsonl'), Path('curve.png'))", TRAIN),
    "matplotlib scores": ("score_chart(None, {})", TRAIN),
    "peft": ("adapters.require_peft()", TRAIN),
    "pyarrow": ("ParquetTexts('texts.parquet')", TRAIN),
    "datasets": ("DatasetTexts('texts')", install_hint("datasets")),
    "ijson": ("JsonRecords.of_array(Path('captions.json'))", TRAIN),
    "fastapi": ("require_server()", SERVE),
    "uvicorn": ("require_server()", SERVE),
    "pycocoevalcap": ("cider([['a']], ['a'])", EVALUATE),
    "torchmetrics": ("CLIP_SCORE.score(Judging(Path(), []))", EVALUATE),
    "pyarrow of MMMU": ("MMMU.read(DataPaths(Path()))", EVALUATE),
    "torchao": ("check_quantization('int8')", QUANTIZATION),
    "bitsandbytes": (
        "build_optimizers(nn.Linear(1, 1), OptimizerConfig('adamw8bit'))",
        "pip install bitsandbytes",
    ),
    "wandb": ("check_tracker(SimpleNamespace(tracker='wandb'))", "pip install wandb"),
}

SCRIPT = """
import importlib, json, pkgutil, sys
cases = json.load(sys.stdin)
for name in cases:
    sys.modules[name.split()[0]] = None  # as if it were not installed

import showo_turbo
for module in pkgutil.walk_packages(showo_turbo.__path__, "showo_turbo."):
    # A plug-in belongs to one framework, and `require_server` guards the server.
    if not module.name.startswith(("showo_turbo.plugins.", "showo_turbo.serving.http.")):
        importlib.import_module(module.name)

from pathlib import Path
from types import SimpleNamespace
from torch import nn
from showo_turbo.cli.serve import require_server
from showo_turbo.compat.tracker import check_tracker
from showo_turbo.data.records import JsonRecords
from showo_turbo.data.sources.hugging_face import DatasetTexts
from showo_turbo.data.sources.parquet import ParquetTexts
from showo_turbo.validation import check_quantization
from showo_turbo.distillation import stages
from showo_turbo.distillation.config import DistillationConfig, Stage
from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.captions import cider
from showo_turbo.evaluation.benchmarks.clip_score import CLIP_SCORE
from showo_turbo.evaluation.benchmarks.definition import DataPaths, Judging
from showo_turbo.evaluation.benchmarks.mmmu import MMMU
from showo_turbo.evaluation.comparison_chart import score_chart
from showo_turbo.training import adapters, before_training, loop, processes
from showo_turbo.training.curves import plot_curve
from showo_turbo.training.optimizers import OptimizerConfig, build_optimizers

messages = {}
for name, call in cases.items():
    try:
        eval(call)
    except InputError as error:
        messages[name] = str(error)
print(json.dumps(messages))
"""


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the message of each case in a process without the libraries."""
    folder: Path = tmp_path_factory.mktemp("without")
    (folder / "texts.parquet").touch()
    calls = json.dumps({name: call for name, (call, _) in CASES.items()})
    command = [sys.executable, "-c", SCRIPT]
    return json.loads(
        subprocess.run(command, input=calls, stdout=subprocess.PIPE, text=True, check=True, cwd=folder).stdout
    )


@pytest.mark.parametrize("name", CASES)
def test_a_library_that_is_not_installed_is_named_with_its_extra(name: str, messages: dict[str, str]) -> None:
    assert name.split()[0] in messages[name]
    assert CASES[name][1] in messages[name]
    assert "\n" not in messages[name]


def test_compare_refuses_a_plot_without_matplotlib_before_it_measures(tmp_path: Path) -> None:
    script = "import sys; sys.modules['matplotlib'] = None; from showo_turbo.cli.main import run; run()"
    command = [sys.executable, "-c", script, "compare", "--output", "comparison.json", "--plot", "plot.png"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == f"error: --plot needs matplotlib: {TRAIN}\n"
