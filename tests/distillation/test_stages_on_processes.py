"""A distillation that is resumed on another number of processes reads the next samples."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

from showo_turbo.data import SourceConfig
from showo_turbo.distillation import on_policy, trajectory_sources
from showo_turbo.distillation.config import DistillationConfig, Stage, TrajectoryFiles
from showo_turbo.distillation.loss_terms import ImageTerm, LanguageTerm, OnPolicy, TextTerm
from showo_turbo.distillation.stages import distill
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.training.loop import LoopConfig

IMAGE = ImageTerm(batch_size=2, num_inference_steps=2, segments=1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[SourceConfig]]:
    folder = tmp_path_factory.mktemp("data")
    annotations = [{"image_id": number, "caption": f"caption {number}"} for number in range(300)]
    (folder / "captions.json").write_text(json.dumps({"annotations": annotations}))
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": [f"text {number}" for number in range(300)]}), folder / "texts.parquet")
    return {
        "captions": [SourceConfig("coco", str(folder / "captions.json"))],
        "texts": [SourceConfig("parquet", str(folder / "texts.parquet"))],
    }


class Recorder:
    """Record prompts of rollouts and texts, as what the samples of a process are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.seen: dict[str, list[str]] = {}
        self._wrap(trajectory_sources, "roll_out_images", "teacher", lambda call, result: call[1])
        self._wrap(on_policy, "roll_out_images", "student", lambda call, result: call[1])
        self._wrap(PromptBuilder, "language_modelling", "texts", lambda call, result: [call[1]])
        rows = lambda call, result: [str((call[1], prompt)) for prompt in result.prompts]  # noqa: E731
        self._wrap(trajectory_sources.StoredTrajectories, "images", "stored", rows)

    def _wrap(self, owner: Any, name: str, kind: str, samples: Any) -> None:
        original = getattr(owner, name)

        def wrapped(*call: Any, **options: Any) -> Any:
            result = original(*call, **options)
            self.seen.setdefault(kind, []).extend(samples(call, result))
            return result

        self.monkeypatch.setattr(owner, name, wrapped)

    def run(
        self, config: DistillationConfig, checkpoint: Path | None = None, process: int = 0, processes: int = 1
    ) -> dict[str, list[str]]:
        """Run as one of some processes, in a folder of its own; return what the process reads in this session."""
        output = Path(config.output) / f"process {process} of {processes}"
        if checkpoint is not None:
            shutil.copytree(checkpoint, output)
        self.seen = {}
        Accelerator(cpu=True)  # fills the shared states
        with self.monkeypatch.context() as patches:
            for state in (PartialState, AcceleratorState):
                patches.setitem(state._shared_state, "process_index", process)
                patches.setitem(state._shared_state, "num_processes", processes)
            distill(replace(config, output=str(output)))
        return self.seen


@pytest.mark.parametrize(
    "numbers", [(1, 2), pytest.param((2, 1), marks=pytest.mark.slow), pytest.param((2, 3), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", ["fresh", "stored", "on policy"])
def test_a_resumed_distillation_reads_the_next_samples(
    tmp_path: Path,
    random_checkpoint: Path,
    sources: dict[str, list[SourceConfig]],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    numbers: tuple[int, int],
) -> None:
    files = TrajectoryFiles(count=64, batch_size=2, folder=str(tmp_path / "files")) if kind == "stored" else None
    image = replace(IMAGE, on_policy=OnPolicy(prompts=4, batches=3)) if kind == "on policy" else IMAGE

    def config(folder: str, steps: int) -> DistillationConfig:
        loop = LoopConfig(steps=steps, warmup_steps=0, decay_share=0.0, log_steps=1, threads=1)
        terms = {"image": image, "text": TextTerm(weight=0.0), "language": LanguageTerm(batch_size=2)}
        one = Stage("one", str(random_checkpoint), loop=loop, trajectories=files or TrajectoryFiles(), **terms)
        return DistillationConfig(str(tmp_path / folder), [one], **sources, num_workers=0)

    recorder = Recorder(monkeypatch)
    if files is not None:
        recorder.run(config("first", 1))  # writes the files
    whole = recorder.run(config("whole", 2 * sum(numbers)))
    read: dict[str, list[str]] = {}
    checkpoint = None
    for session, processes in enumerate(numbers, start=1):
        for process in range(processes):
            seen = recorder.run(config(f"session {session}", 2 * session), checkpoint, process, processes)
            for name, samples in seen.items():
                read.setdefault(name, []).extend(samples)
        checkpoint = tmp_path / f"session {session}" / f"process 0 of {processes}"
    kinds = {"fresh": "teacher", "stored": "stored", "on policy": "student"}
    assert set(read) == {kinds[kind], "texts"}
    assert sorted(read["texts"]) == sorted(whole["texts"])
    assert len(set(read["texts"])) == 2 * 2 * sum(numbers)
    if kind == "on policy":  # new rollouts at the resume: the prompts that follow, none of them twice
        assert len(set(read["student"])) == len(read["student"]) == 4 * sum(numbers)
        assert set(read["student"]) >= set(whole["student"])
    else:
        assert sorted(read[kinds[kind]]) == sorted(whole[kinds[kind]])
