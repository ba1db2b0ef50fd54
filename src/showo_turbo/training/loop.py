"""The training loop, the only one in the project.

A task defines its model, its optimizers, its batches and their losses; the loop owns steps, learning rates, the EMA of
the weights, checkpoints and the log.

Decisions:
- Data follows from the seed and the number of a batch, counted over all processes and stored in the checkpoint. So a
  resumed run reads the same samples as an uninterrupted one, on any number of processes, and a checkpoint needs no
  random state. A step of two processes reads the batches of a step of one process that accumulates twice as many.
- A step computes the `forward` of one module, so that accelerate's wrappers (DDP, autocast) work however a task calls
  its model. Batches are built outside of it in full precision: teachers and tokenizers run there.
- A NaN or infinite loss or gradient changes nothing: weights, optimizers and EMA stay as they are, the step and its
  samples are logged in `skipped.jsonl`, and training continues, unless too many steps in a row are skipped.
- A checkpoint is written in the background; the next one, a stop and the end wait for it.
- A full disk costs a checkpoint, not the run; at the last step it ends the run with an error.
"""

import logging
import time
from contextlib import ExitStack
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.files import append_json_line, drop_json_lines_after
from showo_turbo.interruption import SignalWatch, TrainingStopped, command_line
from showo_turbo.training.before_training import check_environment, set_num_threads
from showo_turbo.training.checkpoint_io import CheckpointIO, empty_tensors, stored_tensors
from showo_turbo.training.log import ProgressBar, TrainingLog
from showo_turbo.training.loop_config import LoopConfig
from showo_turbo.training.optimizers import learning_rate_schedule
from showo_turbo.training.parallelism import distribute
from showo_turbo.training.processes import (
    errors_of_lost_processes,
    gather_from_all,
    make_accelerator,
    numbers_of_all,
    process_state,
    run_on_main,
    uses_deepspeed,
)
from showo_turbo.training.run_state import join, names_of_tensors, separate
from showo_turbo.training.state import find_newest, newest_step, read_values
from showo_turbo.training.task import Task
from showo_turbo.training.validations import Validations

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)


def train(task: Task[Any, Any], config: LoopConfig) -> None:
    """Run a task to its last step, from its newest checkpoint if the output folder holds one.

    Raises:
        InputError: as `check_environment`; if the task cannot be sharded, all checkpoints are damaged, too many steps
            in a row are skipped, the last step cannot be saved, or another process ended or does not answer.
        TrainingStopped: if a signal stops it (Ctrl-C, SIGTERM, SIGHUP), after a checkpoint is written.
    """
    if config.sharding != "none" and not task.can_be_sharded:
        raise InputError(f"loop.sharding is {config.sharding!r}, which this training does not support: leave it out")
    if uses_deepspeed() and not task.can_be_sharded:
        raise InputError("this training does not support DeepSpeed: choose another config file of accelerate")
    check_environment(config)
    set_num_threads(config)
    accelerator = make_accelerator(log_with=config.tracker, project_dir=config.output if config.tracker else None)
    Path(config.output).mkdir(parents=True, exist_ok=True)
    if config.tracker:
        accelerator.init_trackers(Path(config.output).name)
    try:
        with errors_of_lost_processes():
            _Trainer(task, config, accelerator).run()
            accelerator.wait_for_everyone()  # the export of the main process is complete when any process returns
    finally:  # `end_training` would also destroy the process group, which a next stage uses
        for tracker in accelerator.trackers:
            tracker.finish()


class _Trainer:
    """Run one call of `train`."""

    def __init__(self, task: Task[Any, Any], config: LoopConfig, accelerator: "Accelerator") -> None:
        """Prepare model, EMA, optimizers and schedules, and resume from the newest checkpoint."""
        self.task, self.config, self.accelerator = task, config, accelerator
        self.folder = Path(config.output)
        self.parallel = distribute(task, config, accelerator)
        self.schedules = [learning_rate_schedule(optimizer, config) for optimizer in self.parallel.optimizers]
        self.state = self.parallel.run_state(self.schedules)
        self.step, self.skipped_in_a_row = 0, 0
        self.num_batches = 0  # that all processes together have read
        log, self.skipped_log = self.folder / "log.jsonl", self.folder / "skipped.jsonl"
        self.log = TrainingLog(log, accelerator)
        self.checkpoints = CheckpointIO(self.folder / "checkpoints", config.timeout_minutes)
        self.validations = Validations(task, config, accelerator)
        self._resume()
        if accelerator.is_main_process:  # a killed run may have logged steps after its newest checkpoint
            drop_json_lines_after(log, self.step)
            drop_json_lines_after(self.skipped_log, self.step - 1)
        self.saved_at = time.monotonic()

    def run(self) -> None:
        """Run all remaining steps.

        Raises:
            TrainingStopped: if a signal stops it.
        """
        config = self.config
        hidden = {} if self.accelerator.is_local_main_process else {"disable": True}  # False would undo TQDM_DISABLE
        progress = ProgressBar(total=config.steps, initial=self.step, desc=self.folder.name, mininterval=5, **hidden)
        with progress as bar, SignalWatch() as signals, ExitStack() as at_end:
            at_end.callback(self.checkpoints.close)
            at_end.callback(self._finish_write)
            if self.step == 0 and self.validations.is_due(0):
                self.validations.run(0, self.parallel.ema)
            while not self._is_done:
                self._take_step()
                self.step += 1
                bar.update()
                if self.validations.is_due(self.step):
                    self.validations.run(self.step, self.parallel.ema)
                done = self._is_done
                if (done or config.is_logged(self.step)) and self.log.steps:
                    bar.set_postfix(self.log.write(self.step))
                stopped_by = max(numbers_of_all(self.accelerator, signals.received or 0))
                is_due = done or time.monotonic() - self.saved_at > config.checkpoint_minutes * 60
                if all(numbers_of_all(self.accelerator, is_due)):
                    self._save()
                elif stopped_by:
                    self._save(export=False)
                if stopped_by:
                    self._finish_write()
                    self.accelerator.wait_for_everyone()  # or launchers end the main process while it saves
                    raise self._stopped(Signals(int(stopped_by)))

    @property
    def _is_done(self) -> bool:
        return self.step >= self.config.steps or self.validations.end_training

    def _take_step(self) -> None:
        """Run forward and backward over the batches of a step; update the weights if loss and gradients are finite."""
        count, processes = self.config.gradient_accumulation_steps, self.accelerator.num_processes
        batches, losses = [], []
        end = self.num_batches + count * processes
        for number in range(self.num_batches + self.accelerator.process_index, end, processes):
            batches.append(self.task.batch(number))
            with self.accelerator.autocast():
                losses.append(self.parallel.losses(batches[-1]))
            self.parallel.backward(losses[-1].total / count)
        self.num_batches = end
        norm = self.parallel.step(all(bool(torch.isfinite(one.total)) for one in losses))
        if norm is not None:
            self.skipped_in_a_row = 0
            for one in losses:
                self.log.add({"loss": one.total, **one.parts, "gradient_norm": norm}, one.count)
        else:
            self._log_skipped_step([name for batch in batches for name in self.task.sample_names(batch)])
        for schedule in self.schedules:
            schedule.step()

    def _log_skipped_step(self, samples: list[str]) -> None:
        """Log a step whose loss or gradient is NaN or infinite.

        Raises:
            InputError: if too many steps in a row were skipped.
        """
        self.skipped_in_a_row += 1
        append_json_line(self.skipped_log, {"step": self.step, "samples": samples})
        if self.skipped_in_a_row >= self.config.max_skipped:
            raise InputError(
                f"training in {self.config.output!r}: the last {self.skipped_in_a_row} steps had no finite loss "
                "(skipped.jsonl names their samples): check the samples, or choose another output and a lower "
                "learning rate"
            )

    def _stopped(self, signal: Signals) -> TrainingStopped:
        """Return an exception, whose message in the main process says how to resume; it is empty in others."""
        message = ""
        if self.accelerator.is_main_process:
            saved = newest_step(self.folder / "checkpoints")
            message = (
                f"stopped by {signal.name} at step {self.step} of {self.config.steps}; step {saved} is saved in "
                f"{str(self.folder / 'checkpoints')!r}; to resume, run it again: {command_line()}"
            )
        return TrainingStopped(message, signal)

    def _save(self, export: bool = True) -> None:
        """Export the model, then write a checkpoint: a run that is killed in its export repeats it when it is resumed.

        The checkpoint is written in the background. A failure is logged, and the newest checkpoint stays.

        Raises:
            InputError: if the last step cannot be saved.
        """
        self.saved_at = time.monotonic()
        self._finish_write()
        failure = self._export() if export else ""
        if not failure:
            own: dict[str, Tensor] = {}
            task = separate(self.task.state_dict(), f"tasks.{process_state().process_index}", own)
            values = {
                "step": self.step,
                "batches": self.num_batches,
                "seconds": self.log.seconds,
                "skipped_in_a_row": self.skipped_in_a_row,
                "validations": self.validations.state_dict(),
                "tasks": gather_from_all(task),
                "logs": gather_from_all(self.log.state_dict()),
                "run": self.state.values(),
            }
            self.checkpoints.start(self.step, self.state.tensors(), own, values)
            failure = self.checkpoints.wait() if self._is_done else ""
        self._report(self.step, failure)

    def _finish_write(self) -> None:
        """Wait for the checkpoint that was started last."""
        self._report(self.checkpoints.step, self.checkpoints.wait())

    def _report(self, step: int, failure: str) -> None:
        """Log why a step could not be saved, if it could not.

        Raises:
            InputError: if it is the last one.
        """
        if failure and self._is_done and step == self.step:
            raise InputError(
                f"training in {self.config.output!r}: the last step could not be saved ({failure}): free disk space, "
                "and start it again to resume from its newest checkpoint"
            )
        if failure and self.accelerator.is_main_process:
            logger.warning("step %d could not be saved (%s): the checkpoint before it stays", step, failure)

    def _export(self) -> str:
        """Export the EMA of the weights, or the weights; return why they could not be written, in all processes."""
        try:
            with self.parallel.ema.whole() as model:
                run_on_main(lambda: self.task.export(model, self.folder))
        except OSError as error:
            return str(error)
        return ""

    def _resume(self) -> None:
        """Restore the newest checkpoint, if there is one."""
        path = run_on_main(lambda: find_newest(self.folder / "checkpoints"))
        saved = {} if path is None else read_values(path)
        self.validations.resume(saved.get("step", 0), saved.get("validations", {}))
        if path is None:
            return
        tasks = saved["tasks"]  # one of each process; additional processes restore that of an earlier one
        task, stored = tasks[self.accelerator.process_index % len(tasks)], stored_tensors(path)
        tensors = self.state.allocate(stored) | empty_tensors(names_of_tensors(task), stored)
        self.checkpoints.read(path, tensors)
        self.state.load_values(saved["run"])
        self.task.load_state_dict(join(task, tensors))
        self.step, self.num_batches = saved["step"], saved["batches"]
        self.skipped_in_a_row = saved["skipped_in_a_row"]
        self.log.resume(saved["seconds"], saved["logs"])
