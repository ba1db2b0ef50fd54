"""Run cases of the fuzz suite in a process with bounded memory: a request and a reply per line, as JSON.

    {"kind": "model", "path": "/tmp/.../model"}  ->  {"result": "success" | "refused" | "failed", "message": ".."}

In a case, the process may take `_MORE_MEMORY` more than it had before. A request with `"valid": true` has no limit: it
is the file before it is damaged, and loads the libraries.
"""

import json
import resource
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from showo_turbo import ShowoPipeline
from showo_turbo.cli.sidecar import Sidecar
from showo_turbo.config_reader import read_config
from showo_turbo.data.sources.encoded import EncodedSource
from showo_turbo.data.sources.parquet import ParquetTexts
from showo_turbo.data.sources.webdataset import WebDataset
from showo_turbo.distillation.config import DistillationConfig
from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.definition import DataPaths, Judging
from showo_turbo.evaluation.benchmarks.registry import BENCHMARKS
from showo_turbo.evaluation.items import Item
from showo_turbo.processing.masks import mask_to_grid

_MORE_MEMORY = 1 << 30
_CODES = torch.arange(16)


def use_model(path: Path, base: Path | None = None) -> None:
    """Load a model, draw an image and answer a question."""
    pipe = ShowoPipeline.from_pretrained(path, base=base, device="cpu")
    pipe.text_to_image("a red circle", seed=0, num_inference_steps=2)
    pipe.image_to_text(codes=_CODES, prompt="What is it?", max_new_tokens=2, block_length=2)


def use_image(path: Path, pipe: list[ShowoPipeline | None] = [None]) -> None:  # noqa: B006
    """Encode an image, and use it as a mask."""
    pipe[0] = pipe[0] or ShowoPipeline.from_pretrained("tiny-turbo", device="cpu")
    pipe[0].encode_image(path)
    mask_to_grid(path, 64, 8)


def use_sidecar(path: Path) -> None:
    """Draw the image of a sidecar file."""
    sidecar = Sidecar.read(path)
    sidecar.check_inputs(path)
    pipe = ShowoPipeline.from_pretrained(sidecar.model, device=sidecar.device, dtype=sidecar.dtype)
    pipe.prompts.check_prompt(sidecar.prompt)
    if max(sidecar.num_images, sidecar.sampling.num_inference_steps, *sidecar.arguments.values(), 0) > 128:
        return  # a long run, but a valid one
    drawn = getattr(pipe, sidecar.task)(
        prompt=sidecar.prompt,
        **sidecar.arguments,
        **vars(sidecar.sampling),
        num_images_per_prompt=sidecar.num_images,
        seed=sidecar.seed,
    )
    assert isinstance(drawn.images[0], Image.Image)


def use_samples(path: Path) -> None:
    """Read all samples of a source."""
    kinds: dict[str, Callable[[Path], Any]] = {".tar": WebDataset, ".parquet": ParquetTexts}
    source = kinds.get(path.suffix, partial(EncodedSource, "captions"))(path)
    for index in range(min(len(source), 10)):
        try:
            source[index]
        except InputError as error:
            check_message(str(error))


def use_benchmark(path: Path) -> None:
    """Read the data of the benchmark that the folder is named after, whose annotations may be in the same file."""
    benchmark = BENCHMARKS[path.parent.name]
    folder = path.parent
    data = benchmark.read(DataPaths(folder if benchmark.name == "scienceqa" else path, folder, path))
    data.check()


def use_judgement(path: Path) -> None:
    """Read the result of the judge that the folder is named after, for one prompt."""
    item = Item("0", "a star", "here", {"skills": ["object", "count"], "atoms": 3})
    BENCHMARKS[path.parent.name].score(Judging(path.parent, [item], path))


KINDS: dict[str, Callable[[Path], object]] = {
    "model": use_model,
    "adapter": lambda path: use_model(path, path.parent / "base"),
    "image": use_image,
    "sidecar": use_sidecar,
    "yaml": lambda path: read_config(DistillationConfig, [f"config={path}"]),
    "samples": use_samples,
    "benchmark": use_benchmark,
    "judgement": use_judgement,
}


def check_message(message: str) -> None:
    """Check that an error is one readable line."""
    assert message.isprintable(), f"the message has control characters: {message!r}"
    assert len(message) < 2000, f"the message has {len(message)} characters"


def answer(request: dict[str, str]) -> dict[str, str]:
    """Run a case."""
    try:
        KINDS[request["kind"]](Path(request["path"]))
    except InputError as error:
        check_message(str(error))
        return {"result": "refused", "message": str(error)}
    except OSError as error:  # the command line prints these in one line
        return {"result": "refused", "message": str(error)}
    return {"result": "success", "message": ""}


def main() -> None:
    """Answer requests until the input ends."""
    torch.set_num_threads(1)
    replies, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = -1 if request["valid"] else pages * resource.getpagesize() + _MORE_MEMORY
        try:
            resource.setrlimit(resource.RLIMIT_AS, (limit, -1))
            reply = answer(request)
        except BaseException:
            resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
            reply = {"result": "failed", "message": traceback.format_exc()[-3000:]}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
