"""Draw the images of a long file of prompts, in packs of many prompts; see `run` for what is shared with benchmarks.

    OUT/0000012/012345-0.png ..           while the pack is drawn
    OUT/0000012.tar                       webdataset: PNG, TXT and JSON of every image
    OUT/0000012.parquet                   parquet: a row for every image
    OUT/0000012/metadata.jsonl            files: the images stay, and the file has a line for each

Decisions:
- A pack belongs to one process and is written when its last image is drawn, atomically. An image is finished when its
  file is there, a pack when its own file is: a resumed run, with any number of processes, does the rest.
- Tar and Parquet files do not depend on the batch or the number of processes; nor on the time, which is left out.
"""

import json
import shutil
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from showo_turbo import __version__
from showo_turbo.evaluation.benchmarks.drawn_images import write_images
from showo_turbo.evaluation.item_store import ItemStore, Process, wall_seconds
from showo_turbo.evaluation.items import BenchmarkData, Item
from showo_turbo.evaluation.run import run_items
from showo_turbo.extras import require_module
from showo_turbo.files import atomic_file, atomic_files, remove_partial_files
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.serving.requests import ImageRequest, PipelineRequest
from showo_turbo.training.run_manifest import check_or_write_manifest

_PACK_ENDINGS = {"files": "/metadata.jsonl", "webdataset": ".tar", "parquet": ".parquet"}


@dataclass(frozen=True)
class BulkPlan:
    """Hold what is drawn, and how it is written.

    Attributes:
        data: the prompts.
        folder: output folder.
        format: "files", "webdataset" or "parquet".
        sampling: sampling options.
        seed: seed of the run.
        images_per_prompt: number of images of every prompt.
        prompts_per_pack: number of prompts of a pack.
        batch_size: number of images at a time.
    """

    data: BenchmarkData
    folder: Path
    format: str
    sampling: SamplingOptions
    seed: int
    images_per_prompt: int
    prompts_per_pack: int
    batch_size: int

    def settings(self, pipe: ShowoPipeline, model: str, weights_sha256: dict[str, str]) -> dict[str, Any]:
        """Return everything that determines the images and their files, as JSON values."""
        return {
            "model": model,
            "weights_sha256": weights_sha256,
            "prompts": len(self.data.items),
            "prompts_sha256": self.data.sha256(),
            "sampling": asdict(self.sampling),
            "seed": self.seed,
            "images_per_prompt": self.images_per_prompt,
            "format": self.format,
            "prompts_per_pack": self.prompts_per_pack,
            "dtype": str(pipe.model.dtype).removeprefix("torch."),
            "quantization": pipe.model.quantization,
            "device": pipe.device.type,
            "showo_turbo": __version__,
            "torch": torch.__version__,
        }


@dataclass(frozen=True)
class Pack:
    """Hold consecutive prompts whose images are in one file or folder.

    Attributes:
        plan: the plan.
        number: its number.
        items: its prompts.
    """

    plan: BulkPlan
    number: int
    items: Sequence[Item]

    @property
    def folder(self) -> Path:
        """Folder of the images while they are drawn."""
        return self.plan.folder / f"{self.number:07}"

    @property
    def target(self) -> Path:
        """File that is written last."""
        return Path(f"{self.folder}{_PACK_ENDINGS[self.plan.format]}")

    def images(self, item: Item) -> list[Path]:
        """Return the files of the images of a prompt."""
        return [self.folder / f"{item.id}-{number}.png" for number in range(self.plan.images_per_prompt)]

    def records(self) -> list[dict[str, Any]]:
        """Return a record for every image: the keys of the prompt's line, the prompt, the seed and the file."""
        return [
            {**item.record, "prompt": item.text, "seed": item.seed(self.plan.seed, number), "file_name": file.name}
            for item in self.items
            for number, file in enumerate(self.images(item))
        ]

    def write(self) -> None:
        """Write the file of the pack; its images are complete."""
        remove_partial_files(self.folder)
        records = self.records()
        if self.plan.format == "files":
            atomic_files({self.target: "".join(json.dumps(record) + "\n" for record in records).encode()})
            return
        with atomic_file(self.target) as temporary:
            (_write_tar if self.plan.format == "webdataset" else _write_parquet)(temporary, self.folder, records)
        shutil.rmtree(self.folder)


def _write_tar(path: Path, folder: Path, records: Sequence[dict[str, Any]]) -> None:
    with tarfile.open(path, "w") as tar:
        for record in records:
            file = folder / record["file_name"]
            parts = {".png": file.read_bytes(), ".txt": record["prompt"].encode(), ".json": json.dumps(record).encode()}
            for ending, content in parts.items():
                member = tarfile.TarInfo(f"{file.stem}{ending}")
                member.size = len(content)
                tar.addfile(member, BytesIO(content))


def _write_parquet(path: Path, folder: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write the columns image (a struct as Hugging Face datasets reads it), prompt, seed and record (JSON)."""
    pyarrow, parquet = (require_module(name, "--format parquet") for name in ("pyarrow", "pyarrow.parquet"))
    names = [record["file_name"] for record in records]
    columns = {
        "image": [{"bytes": (folder / name).read_bytes(), "path": name} for name in names],
        "prompt": [record["prompt"] for record in records],
        "seed": [record["seed"] for record in records],
        "record": [json.dumps(record) for record in records],
    }
    parquet.write_table(pyarrow.table(columns), path, row_group_size=100)


def draw_bulk(
    pipe: ShowoPipeline,
    plan: BulkPlan,
    settings: dict[str, Any],
    process: Process,
    on_item: Callable[[int, int], None] = lambda done, total: None,
) -> float | None:
    """Draw the images of the packs of this process that are not finished.

    Args:
        pipe: the pipeline.
        plan: the plan; its prompts have been checked.
        settings: of `BulkPlan.settings`.
        process: this process.
        on_item: called with the number of finished prompts and of all prompts of this process.

    Returns:
        The wall time of all runs if the packs of all processes are finished, else None.

    Raises:
        InputError: if the folder has images of other settings.
    """
    started = any(plan.folder.glob("items-*.jsonl"))
    check_or_write_manifest(plan.folder / "settings.json", settings, "the output", started)
    packs = [
        Pack(plan, number, plan.data.items[start : start + plan.prompts_per_pack])
        for number, start in enumerate(range(0, len(plan.data.items), plan.prompts_per_pack))
    ]
    mine = packs[process.index :: process.count]
    open_packs = [pack for pack in mine if not pack.target.exists()]
    if plan.format != "files":
        for pack in mine:
            if pack.target.exists():  # a kill may come between writing the pack and removing its images
                shutil.rmtree(pack.folder, ignore_errors=True)
    store = ItemStore(plan.folder)
    if open_packs:
        store.begin(process)
        total = sum(len(pack.items) for pack in mine)
        _draw(pipe, plan, store, open_packs, lambda left: on_item(total - left, total))
    return wall_seconds(store.runs()) if all(pack.target.exists() for pack in packs) else None


def _draw(
    pipe: ShowoPipeline, plan: BulkPlan, store: ItemStore, packs: Sequence[Pack], on_left: Callable[[int], None]
) -> None:
    """Draw the images that packs lack, and write each pack when it is complete."""
    waiting = {
        item.id: pack for pack in packs for item in pack.items if not all(file.exists() for file in pack.images(item))
    }
    missing = {pack.number: sum(item.id in waiting for item in pack.items) for pack in packs}
    options, left = asdict(plan.sampling), len(waiting)

    def requests(item: Item) -> list[PipelineRequest]:
        seeds = [item.seed(plan.seed, number) for number in range(plan.images_per_prompt)]
        return [ImageRequest(item.text, seed=seed, **options) for seed in seeds]

    def finish(pack: Pack) -> None:
        pack.write()
        store.add(f"{pack.number:07}", {"prompts": len(pack.items)})

    for pack in packs:
        if not missing[pack.number]:
            finish(pack)
    engine = pipe.engine(max_sequences=plan.batch_size * (2 if plan.sampling.guidance_scale > 0 else 1))
    items = [item for pack in packs for item in pack.items if item.id in waiting]
    for item, outputs in run_items(engine, items, requests, plan.batch_size):
        pack = waiting[item.id]
        write_images(dict(zip(pack.images(item), [output.images[0] for output in outputs], strict=True)))
        left, missing[pack.number] = left - 1, missing[pack.number] - 1
        if not missing[pack.number]:
            finish(pack)
        on_left(left)
