"""Damaged files of every kind end in success or one line, within 10 s and 1 GiB more than the valid file takes.

Mutations are the same in every run. `worker.py` runs the cases in a process of its own.
"""

import io
import json
import select
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import mutations
import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from showo_turbo.data.encoded_shards import ShardHeader, write_shard

SECONDS = 10
FIRST_SECONDS = 120
"""Time for the valid file, which loads the libraries."""

EXAMPLES = [pytest.param(8, id="short"), pytest.param(150, id="long", marks=pytest.mark.slow)]

CONFIG = """\
output: runs/turbo
teacher: tiny
seed: 3
captions:
- kind: webdataset
  path: shards/*.tar
  weight: 2
stages:
- name: first
  loop:
    steps: 100
    threads: 2
  optimizer:
    lr: 1.0e-05
  lora:
    rank: 4
    alpha: 8
  image:
    segments: 2
    on_policy:
      prompts: 8
  text:
    weight: 0.5
"""


@dataclass(frozen=True)
class Damaged:
    """Hold the content of a damaged file, which is shown by its length only; the file stays in the test's folder."""

    content: bytes = field(repr=False)


class Worker:
    """A process that runs cases; it is started again after it has died or was too slow."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def ask(self, kind: str, path: Path, valid: bool = False) -> dict[str, str]:
        """Send a case and wait for the reply."""
        if self.process is None:
            arguments = [sys.executable, str(Path(__file__).parent / "worker.py")]
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        process, seconds = self.process, FIRST_SECONDS if valid else SECONDS
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"kind": kind, "path": str(path), "valid": valid}).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        if line := process.stdout.readline() if ready else b"":
            return json.loads(line)
        status = process.poll()
        self.close()
        return {"result": "failed", "message": f"the process ended ({status})" if ready else f"more than {seconds} s"}

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture
def fuzz(worker: Worker) -> Callable:
    """Return a function that runs damaged copies of a valid file, and fails on the first that is not refused."""

    def run(
        kind: str,
        file: Path,
        mutate: Callable[[bytes], st.SearchStrategy[bytes]],
        examples: int,
        used: Path | None = None,
    ) -> None:
        """Fuzz one file; `used` is the folder that is loaded, if that is not the file itself."""
        content, used = file.read_bytes(), used or file
        reply = worker.ask(kind, used, valid=True)
        assert reply["result"] == "success", reply["message"]

        @settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(mutate(content).map(Damaged))
        def check(damaged: Damaged) -> None:
            if worker.process is None:
                file.write_bytes(content)
                worker.ask(kind, used, valid=True)
            file.write_bytes(damaged.content)
            reply = worker.ask(kind, used)
            assert reply["result"] in ("success", "refused"), reply["message"]

        check()

    return run


@pytest.fixture
def copy(random_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(random_checkpoint, tmp_path / "model"))


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "generation.json",
        "magvitv2/config.json",
        "phi/config.json",
        "phi/tokenizer.json",
        "phi/tokenizer_config.json",
    ],
)
def test_configs(fuzz: Callable, copy: Path, name: str, examples: int) -> None:
    fuzz("model", copy / name, mutations.json_values, examples, copy)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("name", ["model.safetensors", "magvitv2/model.safetensors"])
def test_weights(fuzz: Callable, copy: Path, name: str, examples: int) -> None:
    fuzz("model", copy / name, mutations.safetensors, examples, copy)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "former format"])
def test_pickles(fuzz: Callable, copy: Path, examples: int, archive: bool) -> None:
    state = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(state, copy / "pytorch_model.bin", _use_new_zipfile_serialization=archive)

    def pickled(content: bytes) -> st.SearchStrategy[bytes]:
        return mutations.archives(content) if archive else mutations.damaged_bytes(content, 0, 4000)

    fuzz("model", copy / "pytorch_model.bin", pickled, examples, copy)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_adapters(fuzz: Callable, copy: Path, name: str, examples: int) -> None:
    copy.rename(copy.parent / "base")
    adapter = copy.parent / "adapter"
    adapter.mkdir()
    layer = "base_model.model.showo.model.layers.0.mlp.fc1"
    factors = {f"{layer}.lora_A.weight": torch.ones(2, 32), f"{layer}.lora_B.weight": torch.ones(64, 2)}
    save_file(factors, adapter / "adapter_model.safetensors")
    values = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "alpha_pattern": {"fc1": 8}, "rank_pattern": {}}
    values |= {"use_rslora": False, "modules_to_save": None, "init_lora_weights": True, "lora_bias": False}
    (adapter / "adapter_config.json").write_text(json.dumps(values))
    strategy = mutations.json_values if name.endswith(".json") else mutations.safetensors
    fuzz("adapter", adapter / name, strategy, examples, adapter)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "PPM", "BMP"])
def test_images(fuzz: Callable, tmp_path: Path, kind: str, examples: int) -> None:
    file = tmp_path / f"image.{kind.lower()}"
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(file, kind)
    fuzz("image", file, mutations.damaged_bytes, examples)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_sidecars(fuzz: Callable, tmp_path: Path, examples: int) -> None:
    values = {"task": "text_to_image", "arguments": {"height": 64, "width": 72}, "inputs_sha256": {}, "seed": 0}
    values |= {"prompt": "a red circle", "num_images": 1, "model": "tiny-turbo", "weights_sha256": {}, "device": "cpu"}
    values |= {"dtype": "float32", "quantization": None, "showo_turbo": "0", "torch": "2", "num_inference_steps": 2}
    values |= {"guidance_scale": 0.0, "top_k": 4, "temperature": 1.0, "schedule": "cosine", "order": "confidence"}
    (tmp_path / "image.json").write_text(json.dumps(values))
    fuzz("sidecar", tmp_path / "image.json", mutations.json_values, examples)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_yaml(fuzz: Callable, tmp_path: Path, examples: int) -> None:
    (tmp_path / "run.yaml").write_text(CONFIG)
    fuzz("yaml", tmp_path / "run.yaml", mutations.yaml_lines, examples)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("mutate", [mutations.safetensors, mutations.damaged_bytes])
def test_shards_of_encoded_images(fuzz: Callable, tmp_path: Path, mutate: Callable, examples: int) -> None:
    file = tmp_path / "captions-00000.safetensors"
    header = ShardHeader("captions", 0, 1, "0" * 64, 32, (("line 3", "caption is empty"),))
    records = [{"key": f"line {number}", "text": "a star"} for number in range(2)]
    write_shard(file, header, records, torch.arange(32).reshape(2, 1, 16))
    fuzz("samples", file, mutate, examples)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("name", ["a.tar", "a.parquet"])
def test_samples(fuzz: Callable, tmp_path: Path, name: str, examples: int) -> None:
    file = tmp_path / name
    if file.suffix == ".tar":
        with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
            for number in range(3):
                member = tarfile.TarInfo(f"{number}.txt")
                member.size, member.pax_headers = 5, {"comment": "x"}
                archive.addfile(member, io.BytesIO(b"a cat"))
    else:
        pyarrow.parquet.write_table(pyarrow.table({"text": ["one", "two", "three"]}), file, row_group_size=2)
    fuzz("samples", file, mutations.damaged_bytes, examples)


_IMAGES = [{"imgid": 1, "filename": "image.png", "split": "test", "sentences": [{"raw": "A star."}]}]
_QUESTIONS = [{"question_id": 1, "image_id": 2, "question": "What is it?"}]
_ANNOTATIONS = [{"question_id": 1, "answer_type": "other", "answers": [{"answer": "a star"}]}]
_BENCHMARKS = {
    "geneval": {"tag": "counting", "include": [{"class": "star", "count": 2}], "exclude": [], "prompt": "two stars"},
    "geneval2": {"prompt": "a star", "atom_count": 3, "vqa_list": [["Is it?", "Yes"]], "skills": ["object"]},
    "pope": {"question_id": 1, "image": "image.png", "text": "Is there a star?", "label": "yes"},
    "image-reward": [{"id": "1-2", "prompt": "a star"}],
    "captions": {"images": _IMAGES},
    "vqa": {"questions": _QUESTIONS, "annotations": _ANNOTATIONS},
    "scienceqa": {"1": {"question": "?", "choices": ["a", "b"], "answer": 1, "hint": "", "image": "image.png"}},
}


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("name", _BENCHMARKS)
def test_benchmark_data(fuzz: Callable, tmp_path: Path, name: str, examples: int) -> None:
    folder = tmp_path / name
    for image in ("image.png", "000000000002.jpg", "test/1/image.png"):
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        (folder / image).write_bytes(b"")
    file = folder / ("problems.json" if name == "scienceqa" else "data.json")
    file.write_text(json.dumps(_BENCHMARKS[name]))
    (folder / "pid_splits.json").write_text('{"test": ["1"]}')
    fuzz("benchmark", file, mutations.json_values, examples)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("name", ["geneval", "geneval2", "image-reward", "fid"])
def test_results_of_judges(fuzz: Callable, tmp_path: Path, name: str, examples: int) -> None:
    results = {
        "geneval": {"filename": "x/00000/samples/0000.png", "tag": "counting", "correct": True},
        "geneval2": [[0.5, 1.0]],
        "image-reward": [{"id": "1-2", "rewards": [0.5]}],
        "fid": {"fid": 12.5},
    }
    file = tmp_path / name / "result"
    file.parent.mkdir()
    file.write_text(json.dumps(results[name]))
    fuzz("judgement", file, mutations.json_values, examples)
