"""Assemble the trained parts into one checkpoint folder."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from showo_turbo.checkpoints import weight_files
from showo_turbo.checkpoints.weights import average_weights, weights_of_file
from showo_turbo.errors import InputError
from showo_turbo.files import write_json
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.processing.known_world import WORLD_FILE
from showo_turbo.scenes.worlds import find_world
from showo_turbo.training.curves import plot_curve
from showo_turbo.validation import check_integer


@dataclass(frozen=True)
class AssemblyConfig:
    """Configure the assembly.

    Attributes:
        output: folder to write; files of the same names are replaced.
        showo: exported folders of the rounds of pre-training.
        mean_of: number of last rounds whose mean the weights are (model soups, arXiv 2203.05482).
        image_tokenizer: exported folder of the image tokenizer's training.
        sampling: recommended sampling options of the checkpoint.
        world: name of the world that the parts were trained on.
    """

    output: str = "runs/tiny/model"
    showo: list[str] = field(default_factory=lambda: ["runs/tiny/showo"])
    image_tokenizer: str = "runs/tiny/image_tokenizer"
    mean_of: int = 1
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    world: str = "shapes"


WEIGHTS = "model.safetensors"
_SHOWO_FILES = (
    "config.json",
    "phi/config.json",
    "phi/tokenizer.json",
    "phi/tokenizer_config.json",
)
_IMAGE_TOKENIZER_FILES = ("config.json", WEIGHTS)


def assemble(config: AssemblyConfig) -> None:
    """Copy weights, configs, text tokenizer and logs, plot the logs, and write `generation.json` and `world.json`.

    Raises:
        InputError: if a part is missing, or fewer rounds are given than the weights are a mean of.
    """
    if not config.showo:
        raise InputError("showo is an empty list: choose at least one folder exported by pre-training")
    check_integer("mean_of", config.mean_of, 1, len(config.showo))
    world = find_world(config.world)
    output, image_tokenizer = Path(config.output), Path(config.image_tokenizer)
    rounds = [Path(folder) for folder in config.showo]
    copies = {rounds[-1] / name: output / name for name in _SHOWO_FILES}
    copies |= {image_tokenizer / name: output / "magvitv2" / name for name in _IMAGE_TOKENIZER_FILES}
    logs = {folder.name: folder / "log.jsonl" for folder in (*rounds, image_tokenizer)}
    copies |= {log: output / "training" / f"{name}.jsonl" for name, log in logs.items()}
    averaged = [folder / WEIGHTS for folder in rounds[-config.mean_of :]]
    missing = [str(source) for source in (*copies, *averaged) if not source.exists()]
    if missing:
        raise InputError(f"cannot assemble a model: {', '.join(missing)} missing; run the stages of pretrain first")
    for source, target in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    _write_mean(averaged, output / WEIGHTS)
    for name, log in logs.items():
        plot_curve(log, output / "training" / f"{name}.png")
    write_json(output / "generation.json", asdict(config.sampling))
    write_json(output / WORLD_FILE, world.known_world().to_dict())


def _write_mean(files: Sequence[Path], output: Path) -> None:
    """Write the mean of the weights of some files, in the dtypes of the first."""
    first, *others = map(weights_of_file, files)
    mean = {name: tensor.to(torch.float32, copy=True) for name, tensor in first.stream()}
    average_weights(mean, others, [1 / len(files)] * len(files))
    weight_files.write(output, {name: mean[name].to(own.dtype) for name, own in first.layout.items()}, {"format": "pt"})
