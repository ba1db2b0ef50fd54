"""Compare a teacher that is sharded over some processes with a whole one: roll_out_sharded.py CHECKPOINT OUTPUT DTYPE

Each process writes OUTPUT/process-N.json: the parameters of the teacher, those that it holds, and its forward passes in
two blocks in which the processes have different numbers of rollouts and of files.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.distributed.tensor import DTensor

from showo_turbo.data import CaptionSample, DialogueSample, Turn
from showo_turbo.distillation import trajectory_sources
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.loss_terms import ImageTerm, OnPolicy, TextTerm
from showo_turbo.distillation.on_policy import OnPolicyRollouts
from showo_turbo.distillation.sharded_teacher import in_lockstep, shard_teacher
from showo_turbo.distillation.text_trajectories import JacobiTrajectory
from showo_turbo.distillation.trajectory_files import read_images, read_texts
from showo_turbo.distillation.trajectory_sources import FreshTrajectories, write_missing_files
from showo_turbo.pipelines.pipeline import ShowoPipeline

IMAGE = ImageTerm(
    batch_size=3, num_inference_steps=5, segments=2, known_share=0.5, on_policy=OnPolicy(prompts=3, share=1.0)
)
TEXT = TextTerm(batch_size=2, block_length=4, max_new_tokens=12)


class Captions:
    """Give captions, and codes as images."""

    def batch(self, number: int) -> list[CaptionSample]:
        codes = torch.arange(16).roll(number) % 16
        return [CaptionSample(str(row), f"a {color} car", codes) for row, color in enumerate(("red", "blue", "grey"))]


class Dialogues:
    """Give dialogues, longer ones in later batches."""

    def batch(self, number: int) -> list[DialogueSample]:
        turns = (Turn("What is it?", "a car"),) * (1 + number % 3)
        return [DialogueSample(str(row), torch.arange(16).roll(row + number) % 16, turns) for row in range(2)]


def trajectories(pipe: ShowoPipeline) -> FreshTrajectories:
    """Return trajectories of one teacher for both terms."""
    samples: Any = (Captions(), Dialogues())
    return FreshTrajectories(pipe, pipe, *samples, IMAGE, TEXT, 0)


def on_policy(pipe: ShowoPipeline, student: ShowoPipeline, group: int) -> ImageTrajectories:
    """Return rollouts of a student, labelled by a teacher."""
    captions: Any = Captions()
    with in_lockstep(pipe.model):
        return OnPolicyRollouts(pipe, captions, IMAGE, 0, trajectories(pipe))._roll_out(group, student.model)


def check_images(one: ImageTrajectories, other: ImageTrajectories) -> None:
    assert one.codes.equal(other.codes)
    assert one.unmask_steps.equal(other.unmask_steps)
    for end, labels in one.labels.items():
        dense, expected = labels.dense(16), other.labels[end].dense(16)
        torch.testing.assert_close(dense, expected, atol=1e-4, rtol=1e-3)


def check_answers(one: list[JacobiTrajectory], other: list[JacobiTrajectory]) -> None:
    assert [block.prompt for block in one] == [block.prompt for block in other]
    assert all(block.iterates.equal(expected.iterates) for block, expected in zip(one, other, strict=True))


@contextmanager
def counted(model: Any, passes: list[int]) -> Iterator[None]:
    """Append the number of forward passes in the block."""
    compute: Callable[..., Any] = model.packed_forward
    passes.append(0)

    def count(*arguments: Any) -> Any:
        passes[-1] += 1
        return compute(*arguments)

    model.packed_forward = count
    yield
    del model.packed_forward


def compare(checkpoint: str, output: Path, dtype: str, process: int, processes: int) -> dict[str, Any]:
    whole, pipe, student = (ShowoPipeline.from_pretrained(checkpoint, dtype=dtype, device="cpu") for _ in range(3))
    trajectories(pipe).images(0)  # packs the layers
    shard_teacher(pipe.model, torch.device("cpu"))
    sharded, expected, passes = trajectories(pipe), trajectories(whole), list[int]()
    for number in range(process, 6, processes):
        check_images(sharded.images(number), expected.images(number))
        check_answers(sharded.answers(number), expected.answers(number))
    with counted(pipe.model, passes), in_lockstep(pipe.model):
        for number in range(process + 1):
            check_images(sharded.images(number), expected.images(number))
            check_answers(sharded.answers(number), expected.answers(number))
    check_images(on_policy(pipe, student, process), on_policy(whole, student, process))

    trajectory_sources.BATCHES_PER_FILE = 2
    files = processes + 1
    counts = (files * 2 * IMAGE.batch_size, files * 2 * TEXT.batch_size)
    with counted(pipe.model, passes):
        write_missing_files(output, sharded, *counts, process, processes)
    for number in range(process, files, processes):
        batches = range(2 * number, 2 * number + 2)
        images = read_images(output / f"image-{number:05d}.safetensors", pipe.model.config)
        check_images(images, ImageTrajectories.concat([expected.images(batch) for batch in batches]))
        blocks = [block for batch in batches for block in expected.answers(batch)]
        check_answers(read_texts(output / f"text-{number:05d}.safetensors", pipe.model.config), blocks)

    weights = list(pipe.model.parameters())
    assert all(isinstance(weight, DTensor) and weight.dtype == whole.model.dtype for weight in weights)
    held = sum(weight.to_local().numel() for weight in weights)
    return {"parameters": sum(weight.numel() for weight in weights), "held": held, "passes": passes}


if __name__ == "__main__":
    state = PartialState(cpu=True)
    folder = Path(sys.argv[2])
    result = compare(sys.argv[1], folder, sys.argv[3], state.process_index, state.num_processes)
    (folder / f"process-{state.process_index}.json").write_text(json.dumps(result))
    state.destroy_process_group()
