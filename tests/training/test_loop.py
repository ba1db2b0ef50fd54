"""Training survives kills, damaged and missing checkpoints, full disks, NaN losses."""

import json
import logging
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.optim import Optimizer

from showo_turbo.errors import InputError
from showo_turbo.files import read_json_lines, sha256_of_files
from showo_turbo.training import before_training, checkpoint_io, state
from showo_turbo.training.loop import LoopConfig, train
from showo_turbo.training.task import StepLosses, Task


class Regression(Task[nn.Linear, int]):
    """Fit a line to points; the number of processed batches is its state."""

    def __init__(self, bad_batches: tuple[int, ...] = (), stop_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(3, 1)
        self.bad_batches, self.stop_at, self.batches = bad_batches, stop_at, 0

    def optimizers(self) -> list[Optimizer]:
        return [torch.optim.AdamW(self.model.parameters(), lr=0.05)]

    def batch(self, number: int) -> int:
        if number == self.stop_at:
            raise KeyboardInterrupt
        return number

    def sample_names(self, batch: int) -> list[str]:
        return [f"sample {batch}"]

    def losses(self, ema_model: nn.Linear, batch: int) -> StepLosses:
        self.batches += 1
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(batch))
        loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
        if batch in self.bad_batches:
            loss = loss * torch.nan
        return StepLosses(loss, {"error": loss}, 8)

    def export(self, model: nn.Linear, folder: Path) -> None:
        torch.save(model.state_dict(), folder / "model.pt")

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches = state["batches"]


def config(folder: Path, **changes: Any) -> LoopConfig:
    settings = {"steps": 6, "warmup_steps": 2, "log_steps": 2, "threads": 1, "checkpoint_minutes": 0.0} | changes
    return LoopConfig(str(folder), **settings)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model.pt", weights_only=True)


def lines_of(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    train(Regression(), config(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(Regression(stop_at=4), config(tmp_path / "broken"))
    task = Regression()
    train(task, config(tmp_path / "broken"))
    assert task.batches == 6
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))
    lines = lines_of(tmp_path / "broken" / "log.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 4, 6]
    assert set(lines[0]) == {"step", "seconds", "loss", "error", "gradient_norm", "samples_per_second"}


@pytest.mark.parametrize(
    ("steps", "log_steps", "lines"),
    [(1, 50, [1]), (6, 50, [1, 2, 4, 6]), (9, 4, [1, 2, 4, 8, 9]), (3, 1, [1, 2, 3]), (7, 3, [1, 2, 3, 6, 7])],
)
def test_the_log_begins_early_and_ends_with_the_last_step(
    tmp_path: Path, steps: int, log_steps: int, lines: list[int]
) -> None:
    train(Regression(), config(tmp_path, steps=steps, log_steps=log_steps, checkpoint_minutes=10.0))
    assert [line["step"] for line in lines_of(tmp_path / "log.jsonl")] == lines


def without_times(log: Path) -> list[dict]:
    return [
        {name: line[name] for name in line if name not in ("seconds", "samples_per_second")} for line in lines_of(log)
    ]


@pytest.mark.parametrize("saved_at", [1, 3, 4])
def test_the_log_of_a_resumed_run_has_the_lines_of_an_uninterrupted_one(tmp_path: Path, saved_at: int) -> None:
    """Also where the checkpoint is between two lines, and where lines were written after it."""
    settings = {"steps": 9, "log_steps": 3, "decay_share": 0.0}
    bad = (2, 6)
    train(Regression(bad), config(tmp_path / "whole", **settings))
    with pytest.raises(KeyboardInterrupt):
        train(Regression(bad, stop_at=saved_at), config(tmp_path / "parts", **settings))
    with pytest.raises(KeyboardInterrupt):
        train(Regression(bad, stop_at=8), config(tmp_path / "parts", **settings, checkpoint_minutes=10.0))
    train(Regression(bad), config(tmp_path / "parts", **settings))
    for log in ("log.jsonl", "skipped.jsonl"):
        assert without_times(tmp_path / "parts" / log) == without_times(tmp_path / "whole" / log)


def test_steps_that_were_skipped_in_a_row_are_counted_on(tmp_path: Path) -> None:
    bad = (2, 3, 4, 5)
    with pytest.raises(KeyboardInterrupt):
        train(Regression(bad, stop_at=4), config(tmp_path, max_skipped=4))
    with pytest.raises(InputError, match="the last 4 steps had no finite loss"):
        train(Regression(bad), config(tmp_path, max_skipped=4))


def test_a_resumed_run_drops_the_log_lines_after_its_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Regression(stop_at=5, bad_batches=(1, 4)), config(tmp_path, log_steps=1))
    for checkpoint in (tmp_path / "checkpoints").glob("step-0000000[45]"):
        shutil.rmtree(checkpoint)
    with (tmp_path / "log.jsonl").open("r+") as file:
        written = file.read()
        file.seek(0)
        file.write(f'\0\0\n["step"]\n{written}{{"step": 6, "sec')  # left by a damaged disk and a kill
    train(Regression(bad_batches=(1, 4)), config(tmp_path, log_steps=1))
    assert [line["step"] for line in read_json_lines(tmp_path / "log.jsonl")] == [1, 3, 4, 6]
    assert [line["step"] for line in lines_of(tmp_path / "skipped.jsonl")] == [1, 4]


def test_a_log_on_a_full_disk_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes to /dev/full fail as on a full disk."""
    train(Regression(), config(tmp_path / "whole"))
    real_open = Path.open

    def open_on_full_disk(self: Path, *how: Any, **more: Any) -> IO:
        return real_open(Path("/dev/full") if self.suffix == ".jsonl" else self, *how, **more)

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    with caplog.at_level(logging.WARNING):
        train(Regression(), config(tmp_path / "full"))
    assert "log.jsonl could not be written ([Errno 28] No space left on device)" in caplog.text
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "full"))


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_loop import Regression, config
from showo_turbo.training.loop import train

class Slow(Regression):
    def losses(self, ema_model, batch):
        time.sleep(0.02)
        return super().losses(ema_model, batch)

train(Slow(), config(Path({output!r}), steps=100))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_resumes_to_the_same_weights(tmp_path: Path) -> None:
    train(Regression(), config(tmp_path / "whole", steps=100))
    output = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED.format(folder=str(Path(__file__).parent), output=str(output))]
    for delay in (0.0, 0.07, 0.15, 0.31):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        _wait_for_a_checkpoint_newer_than(time.time(), output / "checkpoints")
        time.sleep(delay)
        process.kill()
        process.wait()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert same(weights(tmp_path / "whole"), weights(output))


def _wait_for_a_checkpoint_newer_than(start: float, folder: Path) -> None:
    deadline = time.monotonic() + 120
    while not any(path.stat().st_mtime > start for path in folder.glob("step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_damaged_checkpoint_is_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(Regression(), config(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(Regression(stop_at=4), config(tmp_path / "broken"))
    damage(tmp_path / "broken" / "checkpoints" / "step-00000004")
    with caplog.at_level(logging.WARNING):
        train(Regression(), config(tmp_path / "broken"))
    assert "step-00000004 is skipped: the content of shard-00001" in caplog.text
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))


def damage(checkpoint: Path) -> None:
    """Flip a bit of a file of tensors."""
    (file,) = checkpoint.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "how",
    ["bit flip", "truncated", "no shard", "no values", "no digest", "binary digest", "empty digest", "another shard"],
)
def test_a_run_whose_checkpoints_are_all_damaged_stops(tmp_path: Path, how: str) -> None:
    train(Regression(), config(tmp_path))
    trained = weights(tmp_path)
    for checkpoint in (tmp_path / "checkpoints").glob("step-*"):
        (shard,), digests = checkpoint.glob("*.safetensors"), checkpoint / "sha256.json"
        match how:
            case "bit flip":
                damage(checkpoint)
            case "truncated":
                shard.write_bytes(shard.read_bytes()[:-100])
            case "no shard":
                shard.unlink()
            case "no values":
                (checkpoint / "values.json").unlink()
            case "no digest":
                digests.unlink()
            case "binary digest":
                digests.write_bytes(b"\xff\xfe")
            case "empty digest":
                digests.write_text("{}")
            case "another shard":
                shutil.copy(shard, checkpoint / "shard-00002-model-00001-of-00001.safetensors")
    log = (tmp_path / "log.jsonl").read_text()
    with pytest.raises(InputError, match=r"all checkpoints in '.*checkpoints' are damaged: restore one"):
        train(Regression(), config(tmp_path, steps=8))
    assert same(trained, weights(tmp_path))
    assert (tmp_path / "log.jsonl").read_text() == log


class Executed:
    """Fail the test when it is unpickled."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("executed",)


def replace(checkpoint: Path, file: str, content: bytes) -> None:
    """Write a file of a checkpoint, with its digest."""
    (checkpoint / file).write_bytes(content)
    digests = {one.name: sha256_of_files(one) for one in checkpoint.iterdir() if one.name != "sha256.json"}
    (checkpoint / "sha256.json").write_text(json.dumps(digests))


SHARD = "shard-00001-model-00001-of-00001.safetensors"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("values.json", pickle.dumps(Executed())),
        ("values.json", b"[6]"),
        ("values.json", b'{"step": 6'),
        (SHARD, pickle.dumps({"model.weight": Executed()})),
        (SHARD, b""),
        (SHARD, safetensors.torch.save({"model.weight": torch.zeros(3)})),
        (SHARD, safetensors.torch.save({"model.weight": torch.zeros(1, 3)}, {"DCP_SHARDING_INFO": "{}"})),
    ],
    ids=["pickled values", "a list", "cut off", "pickled tensors", "empty", "another shape", "no offsets"],
)
def test_a_checkpoint_that_holds_something_else_is_refused(tmp_path: Path, file: str, content: bytes) -> None:
    train(Regression(), config(tmp_path))
    replace(tmp_path / "checkpoints" / "step-00000006", file, content)
    with pytest.raises(InputError, match=r"^checkpoint '.*step-00000006' was refused: it is not one of[^\n]*$"):
        train(Regression(), config(tmp_path, steps=8))


def test_the_pickled_index_of_other_tools_is_not_read(tmp_path: Path) -> None:
    train(Regression(), config(tmp_path / "whole", steps=8, decay_share=0.0))
    train(Regression(), config(tmp_path / "run", decay_share=0.0))
    replace(tmp_path / "run" / "checkpoints" / "step-00000006", ".metadata", pickle.dumps(Executed()))
    train(Regression(), config(tmp_path / "run", steps=8, decay_share=0.0))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


@pytest.mark.parametrize("read", [state.newest_step, state.find_newest])
def test_checkpoints_of_earlier_versions_are_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    for name in ("step-00000002.pt", "step-00000004.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(Executed()))
    with pytest.raises(InputError, match=r"step-00000004.pt' is of an earlier version of showo_turbo, which wrote one"):
        read(tmp_path)
    train(Regression(), config(tmp_path / "new"))
    (tmp_path / "new" / "checkpoints" / "step-00000004.pt").write_bytes(b"")
    assert state.newest_step(tmp_path / "new" / "checkpoints") == 6


def test_a_damaged_checkpoint_does_not_take_a_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Regression(stop_at=4), config(tmp_path))
    folder = tmp_path / "checkpoints"
    shutil.copytree(folder / "step-00000004", folder / "step-00000099")
    damage(folder / "step-00000099")
    train(Regression(), config(tmp_path))
    assert "step-00000099 is skipped" in caplog.text
    names = ["step-00000005", "step-00000006", "step-00000099.damaged"]
    assert sorted(one.name for one in folder.iterdir()) == names
    damage(folder / "step-00000006")
    assert state.find_newest(folder) == folder / "step-00000005"


@pytest.mark.parametrize("name", ["step-abc", "step-", "step-00000009 (copy)", "step--0000001"])
def test_files_of_other_names_are_no_checkpoints(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Regression(stop_at=2), config(tmp_path))
    folder = tmp_path / "checkpoints"
    (folder / name).mkdir()
    (folder / "step-00000008").write_bytes(b"something else")
    assert state.newest_step(folder) == 2
    train(Regression(), config(tmp_path))
    assert state.newest_step(folder) == 6
    assert (folder / name).is_dir()
    assert (folder / "step-00000008").read_bytes() == b"something else"


def test_checkpoints_are_ordered_by_step_beyond_eight_digits(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000, 100_000_001):
        partial = state.partial_folder(tmp_path, step)
        partial.mkdir()
        assert state.complete_checkpoint(partial, {"step": step}) == state.find_newest(tmp_path)
    assert state.read_values(tmp_path / "step-100000001") == {"step": 100_000_001}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_damages_no_checkpoint_and_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes to /dev/full fail as on a full disk."""
    with pytest.raises(KeyboardInterrupt):
        train(Regression(stop_at=3), config(tmp_path))
    real_open = Path.open

    def open_on_full_disk(self: Path, *how: Any, **more: Any) -> IO:
        is_full = self.suffix == ".safetensors" and how[0].startswith("w")
        return real_open(Path("/dev/full") if is_full else self, *how, **more)

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        train(Regression(stop_at=5), config(tmp_path))
    assert "No space left on device" in caplog.text
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000002", "step-00000003"]
    assert state.find_newest(folder) == folder / "step-00000003"


@pytest.mark.parametrize("failing", ["export", "checkpoint"])
def test_a_last_step_that_cannot_be_saved_is_repeated_when_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    train(Regression(), config(tmp_path / "whole"))

    complete = state.complete_checkpoint

    def full(*arguments: Any) -> Path:
        if failing == "export" or arguments[1]["step"] == 6:
            raise OSError(28, "No space left on device")
        return complete(*arguments)

    with monkeypatch.context() as patches:
        if failing == "export":
            patches.setattr(Regression, "export", full)
        else:
            patches.setattr(checkpoint_io, "complete_checkpoint", full)
        with pytest.raises(InputError, match=r"last step could not be saved .*No space left"):
            train(Regression(), config(tmp_path / "full"))
    train(Regression(), config(tmp_path / "full"))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "full"))


def test_a_run_that_is_killed_in_its_last_export_repeats_it_when_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(Regression(), config(tmp_path / "whole"))

    def killed(self: Regression, model: nn.Module, folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patches:
        patches.setattr(Regression, "export", killed)
        with pytest.raises(KeyboardInterrupt):
            train(Regression(), config(tmp_path / "killed", checkpoint_minutes=10.0))
    train(Regression(), config(tmp_path / "killed"))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


def test_a_step_with_a_nan_loss_is_skipped_and_logged(tmp_path: Path) -> None:
    train(Regression(bad_batches=(3,)), config(tmp_path))
    assert lines_of(tmp_path / "skipped.jsonl") == [{"step": 3, "samples": ["sample 3"]}]
    assert all(value.isfinite().all() for value in weights(tmp_path).values())


def test_too_many_skipped_steps_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"last 2 steps had no finite loss"):
        train(Regression(bad_batches=(2, 3, 4)), config(tmp_path, max_skipped=2))
    assert state.newest_step(tmp_path / "checkpoints") == 3


def test_a_tracker_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"loop\.tracker is 'tensorbord', and installed here: "):
        train(Regression(), config(tmp_path / "run", tracker="tensorbord"))
    assert not (tmp_path / "run").exists()


def test_more_processes_than_devices_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with monkeypatch.context() as patches:
        patches.setattr(torch.accelerator, "is_available", lambda: True)
        patches.setattr(torch.accelerator, "device_count", lambda: 1)
        with pytest.raises(InputError, match=r"2 processes were started for 1 device.*ACCELERATE_USE_CPU=true"):
            before_training.check_environment(config(tmp_path))
        patches.setenv("ACCELERATE_USE_CPU", "true")
        patches.setattr(before_training, "make_accelerator", lambda **options: SimpleNamespace(mixed_precision="no"))
        before_training.check_environment(config(tmp_path))


def test_devices_are_not_counted_where_none_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA build of torch 2.7 raises there if the machine has no driver."""

    def no_driver() -> int:
        raise RuntimeError("Found no NVIDIA driver on your system")

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "device_count", no_driver)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    before_training.check_environment(config(tmp_path))


def test_accumulated_batches_equal_one_larger_batch(tmp_path: Path) -> None:
    """Two batches per step update the weights like the mean of their losses."""

    class Both(Regression):
        def losses(self, ema_model: nn.Linear, batch: int) -> StepLosses:
            first, second = (super(Both, self).losses(ema_model, number) for number in (2 * batch, 2 * batch + 1))
            return StepLosses((first.total + second.total) / 2, {}, 16)

    train(Regression(), config(tmp_path / "accumulated", gradient_accumulation_steps=2, steps=4))
    train(Both(), config(tmp_path / "batched", steps=4))
    accumulated, batched = weights(tmp_path / "accumulated"), weights(tmp_path / "batched")
    for name, value in accumulated.items():
        torch.testing.assert_close(value, batched[name], atol=1e-6, rtol=1e-5)


def test_without_an_ema_the_weights_themselves_are_exported(tmp_path: Path) -> None:
    task = Regression()
    train(task, config(tmp_path, ema_decay=0.0))
    assert same(weights(tmp_path), task.model.state_dict())


def test_a_tracker_receives_the_losses(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(Regression(), config(tmp_path, tracker="tensorboard"))
    assert list(tmp_path.rglob("events.out.tfevents*"))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"decay_share": 1.5}, {"clip_norm": 0.0}, {"seed": -1}])
def test_invalid_loop_configurations_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        LoopConfig(**wrong)


@pytest.mark.slow
def test_mixed_precision_is_a_setting(tmp_path: Path) -> None:
    """Check, in a process of its own, that products are computed in bfloat16, and that a run keeps its precision."""
    script = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_loop import Regression, config
from pathlib import Path
from showo_turbo.errors import InputError
from showo_turbo.training.before_training import check_environment, check_or_write_run_manifest
from showo_turbo.training.loop import train

class Dtypes(Regression):
    def losses(self, ema_model, batch):
        print("computes in", self.model(torch.ones(1, 3)).dtype)
        return super().losses(ema_model, batch)

run = config(Path(sys.argv[2]), steps=1, mixed_precision="bf16")
check_environment(run)
check_or_write_run_manifest(run, {}, "a model")
train(Dtypes(), run)
try:
    check_environment(config(Path(sys.argv[2]), mixed_precision="no"))
except InputError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "computes in torch.bfloat16" in done.stdout
    assert "loop.mixed_precision is 'no', but this process computes in 'bf16' already" in done.stdout
    assert json.loads((tmp_path / "run.json").read_text())["mixed_precision"] == "bf16"
    with pytest.raises(InputError, match=r"a model in .* has another mixed_precision \(bf16, now no\)"):
        before_training.check_or_write_run_manifest(config(tmp_path), {}, "a model")
    with pytest.raises(InputError, match=r"loop\.mixed_precision is 'fp16': choose no or bf16"):
        config(tmp_path, mixed_precision="fp16")
