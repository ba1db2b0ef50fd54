"""Run any benchmark: one driver for images and answers.

    items --select--> those of this process, without finished ones --engine--> outputs --> official files, a line each
                                     last process: official files of all items, FOLDER/stamp.json --> FOLDER/scores.json

Decisions:
- Every image and every answer is a request with a seed of its own, made of the run's seed, the item and the number of
  the image. So they depend neither on the batch nor on the number of processes, but for the last bits of matrix
  products (see `serving.engine`).
- The process that finds all items finished writes what belongs to all of them; no process waits for another.
- `settings.json` holds everything that determines the outputs. A folder is resumed with the same settings only.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from showo_turbo import __version__
from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.definition import (
    DrawingBenchmark,
    Judging,
    QuestionBenchmark,
    Score,
    in_order,
)
from showo_turbo.evaluation.item_store import ItemStore, Process, wall_seconds
from showo_turbo.evaluation.items import BenchmarkData, Item
from showo_turbo.files import read_json, remove_partial_files, write_json
from showo_turbo.generation.options import DecodingOptions, SamplingOptions
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.pipelines.understanding import EncodedImages
from showo_turbo.processing.prompts import MAX_QUESTION_CHARACTERS
from showo_turbo.serving.engine import Engine
from showo_turbo.serving.requests import ImageRequest, PipelineRequest, TextRequest
from showo_turbo.training.run_manifest import check_or_write_manifest

_SETTINGS, _STAMP = "settings.json", "stamp.json"


@dataclass(frozen=True)
class RunPlan:
    """Hold what a run does.

    Attributes:
        benchmark: the benchmark.
        data: its items.
        folder: output folder.
        sampling: options of images.
        decoding: options of answers.
        seed: seed of the run.
        images_per_prompt: number of images of every prompt.
        suffix: appended to every question.
        shorten: cut texts that are longer than the model takes, rather than refuse them.
        batch_size: number of images or answers at a time; the outputs do not depend on it.
        model: name of the model.
        split: split of the data, if one is chosen.
    """

    benchmark: DrawingBenchmark | QuestionBenchmark
    data: BenchmarkData
    folder: Path
    sampling: SamplingOptions
    decoding: DecodingOptions
    seed: int
    images_per_prompt: int
    suffix: str
    shorten: bool
    batch_size: int
    model: str
    split: str | None = None

    @property
    def draws(self) -> bool:
        """Whether the outputs are images."""
        return isinstance(self.benchmark, DrawingBenchmark)

    def settings(self, pipe: ShowoPipeline, weights_sha256: dict[str, str]) -> dict[str, Any]:
        """Return everything that determines the outputs, as JSON values."""
        chosen: dict[str, Any] = {"decoding": asdict(self.decoding), "suffix": self.suffix}
        if self.draws:
            chosen = {"sampling": asdict(self.sampling), "images_per_prompt": self.images_per_prompt}
        return {
            "benchmark": self.benchmark.name,
            "split": self.split,
            "items": len(self.data.items),
            "data_sha256": self.data.sha256(),
            "weights_sha256": weights_sha256,
            **chosen,
            "seed": self.seed,
            "shorten": self.shorten,
            "dtype": str(pipe.model.dtype).removeprefix("torch."),
            "quantization": pipe.model.quantization,
            "device": pipe.device.type,
            "showo_turbo": __version__,
            "torch": torch.__version__,
        }


@contextmanager
def naming(item: Item) -> Iterator[None]:
    """Add file and line of an item to the errors of the block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{item.where}: {error}") from error


def check_texts(pipe: ShowoPipeline, plan: RunPlan) -> tuple[list[Item], int]:
    """Check all prompts or questions before any work.

    Returns:
        The items with the texts that the model gets, and the number of texts that are cut.

    Raises:
        InputError: naming file and line of a text that is invalid, or too long and not to be cut.
    """
    items, cut = [], 0
    pipe.prompts.truncates_prompts = plan.shorten
    for item in plan.data.items:
        text = item.text if plan.draws or not plan.suffix else f"{item.text}\n{plan.suffix}"
        if plan.shorten and not plan.draws and len(text) > MAX_QUESTION_CHARACTERS:
            text, cut = text[-MAX_QUESTION_CHARACTERS:], cut + 1  # options and instruction are at the end
        with naming(item):
            if plan.draws:
                pipe.prompts.check_prompt(text)
                cut += bool(plan.shorten and pipe.prompts.truncated_end(text))
            else:
                pipe.prompts.check_question(text)
        items.append(replace(item, text=text))
    return items, cut


def generate(
    pipe: ShowoPipeline,
    plan: RunPlan,
    items: Sequence[Item],
    settings: dict[str, Any],
    process: Process,
    on_item: Callable[[int, int], None] = lambda done, total: None,
) -> bool:
    """Generate the outputs of the items of this process that are not finished.

    Args:
        pipe: the pipeline.
        plan: the plan.
        items: of `check_texts`.
        settings: of `RunPlan.settings`.
        process: this process.
        on_item: called with the number of finished items and of all items of this process.

    Returns:
        Whether the outputs of all processes are complete, and this one is to report them.

    Raises:
        InputError: if the folder has outputs of other settings, or an image cannot be read.
    """
    store = ItemStore(plan.folder)
    started = any(plan.folder.glob("items-*.jsonl"))
    check_or_write_manifest(plan.folder / _SETTINGS, settings, "the output", started)
    mine = process.select(items)
    done = _finished(plan, store)
    waiting = [item for item in mine if item.id not in done]
    if waiting:
        store.begin(process)
        _work(pipe, plan, store, waiting, lambda count: on_item(len(mine) - len(waiting) + count, len(mine)))
    return _finish(plan, store, settings) or (not waiting and process.index == 0 and is_complete(plan.folder))


def _finished(plan: RunPlan, store: ItemStore) -> set[str]:
    """Return the ids of the items whose results and files are there."""
    results = store.results().items()
    return {key for key, one in results if all((plan.folder / file).is_file() for file in one.get("files", []))}


def _work(
    pipe: ShowoPipeline, plan: RunPlan, store: ItemStore, waiting: Sequence[Item], on_count: Callable[[int], None]
) -> None:
    """Generate outputs and store each item when it is complete."""
    guided = plan.draws and plan.sampling.guidance_scale > 0
    engine = pipe.engine(max_sequences=plan.batch_size * (2 if guided else 1))
    make_requests = _image_requests(plan) if plan.draws else _text_requests(pipe, plan)
    for count, (item, outputs) in enumerate(run_items(engine, waiting, make_requests, plan.batch_size), 1):
        if isinstance(plan.benchmark, DrawingBenchmark):
            files = plan.benchmark.write(plan.folder, item, [output.images[0] for output in outputs])
            result: dict[str, Any] = {"files": [str(file.relative_to(plan.folder)) for file in files]}
        else:
            result = {"answer": outputs[0].texts[0], "tokens": len(outputs[0].token_ids[0])}
        store.add(item.id, result | {"forward_passes": sum(output.forward_passes for output in outputs)})
        on_count(count)


def run_items(
    engine: "Engine[PipelineRequest]",
    items: Sequence[Item],
    make_requests: Callable[[Item], list[PipelineRequest]],
    batch_size: int,
) -> Iterator[tuple[Item, list[Any]]]:
    """Run the requests of items and yield each item with its outputs, in the order in which they are complete.

    Requests are submitted when half of a batch has left, so that many start together: these share a decoder.

    Raises:
        InputError: naming file and line of an item whose request is invalid.
    """
    waiting = deque(items)
    origins: dict[int, tuple[Item, int]] = {}
    outputs: dict[str, dict[int, Any]] = {}
    counts: dict[str, int] = {}
    while waiting or engine.pending:
        limit = batch_size if engine.pending <= batch_size // 2 else 0
        while waiting and engine.pending < limit:
            item = waiting.popleft()
            with naming(item):
                requests = make_requests(item)
                origins |= {engine.submit(request): (item, number) for number, request in enumerate(requests)}
            outputs[item.id] = {}
            counts[item.id] = len(requests)
        for update in engine.step():
            if update.done:
                item, number = origins.pop(update.ticket)
                outputs[item.id][number] = update.output()
                if len(outputs[item.id]) == counts[item.id]:
                    by_number = outputs.pop(item.id)
                    yield item, [by_number[number] for number in sorted(by_number)]


def _image_requests(plan: RunPlan) -> Callable[[Item], list[PipelineRequest]]:
    options = asdict(plan.sampling)
    return lambda item: [
        ImageRequest(item.text, seed=item.seed(plan.seed, number), **options)
        for number in range(plan.images_per_prompt)
    ]


def _text_requests(pipe: ShowoPipeline, plan: RunPlan) -> Callable[[Item], list[PipelineRequest]]:
    """Encode an image once for consecutive questions about it."""
    options = asdict(plan.decoding)
    last: dict[Any, EncodedImages] = {}

    def make(item: Item) -> list[PipelineRequest]:
        if item.image not in last:
            last.clear()
            last[item.image] = pipe.encode_images([item.open_image()])
        return [TextRequest(last[item.image], item.text, seed=item.seed(plan.seed), **options)]

    return make


def _finish(plan: RunPlan, store: ItemStore, settings: dict[str, Any]) -> bool:
    """Write what belongs to all items, if all are finished and no other process has done so; return whether it did."""
    with FileLock(plan.folder / ".finish.lock"):
        results = store.results()
        if any(item.id not in results for item in plan.data.items) or is_complete(plan.folder):
            return False
        for folder in {file.parent for file in plan.folder.rglob(".*.partial")}:
            remove_partial_files(folder)
        if isinstance(plan.benchmark, DrawingBenchmark):
            plan.benchmark.finish(plan.folder, plan.data.items)
        else:
            plan.benchmark.export(plan.folder, plan.data.items, in_order(results, plan.data.items))
        runs = store.runs()
        facts = {
            "model": plan.model,
            "processes": sorted({run["processes"] for run in runs}),
            "wall_seconds": round(wall_seconds(runs), 3),
            "forward_passes": sum(one["forward_passes"] for one in results.values()),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        write_json(plan.folder / _STAMP, settings | facts)
        return True


def is_complete(folder: Path) -> bool:
    """Return whether the official files of all items have been written since the last item was."""
    stamp = folder / _STAMP
    items = [path.stat().st_mtime_ns for path in folder.glob("items-*.jsonl")]
    return stamp.is_file() and stamp.stat().st_mtime_ns >= max(items, default=0)


def read_stamp(folder: Path) -> dict[str, Any]:
    """Return the settings of complete outputs, with the number of processes and the time that they took.

    Raises:
        InputError: if the outputs are not complete.
    """
    if not is_complete(folder):
        raise InputError(f"output folder {str(folder)!r} has no complete outputs: run the command without --only first")
    return read_json(folder / _STAMP)


def score_outputs(
    benchmark: DrawingBenchmark | QuestionBenchmark, data: BenchmarkData, folder: Path, judge: Path | None
) -> dict[str, Score]:
    """Score complete outputs.

    Args:
        benchmark: the benchmark.
        data: its items; those beyond the number that was evaluated are left out.
        folder: output folder.
        judge: see `Judging`.

    Raises:
        InputError: if the outputs are not complete, are of other data, or the judge's result is missing or malformed.
    """
    stamp = read_stamp(folder)
    for name, value in (("benchmark", benchmark.name), ("data_sha256", data.sha256())):
        if stamp[name] != value:
            raise InputError(f"output in {str(folder)!r} has another {name} ({stamp[name]}, now {value}): give its own")
    items = data.items[: stamp["items"]]
    if isinstance(benchmark, QuestionBenchmark):
        return benchmark.score(items, in_order(ItemStore(folder).results(), items))
    return benchmark.score(Judging(folder, items, judge, stamp["images_per_prompt"]))
