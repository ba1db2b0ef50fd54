"""The teacher's trajectories of a stage: generated for every batch, or read from files written before the stage.

Both are functions of the number of the batch, counted over all processes, so a resumed run learns from the same
trajectories as an uninterrupted one, on any number of processes.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from showo_turbo.configuration import ShowoConfig
from showo_turbo.data import CaptionSample, DialogueSample, SampleLoader
from showo_turbo.distillation import trajectory_files
from showo_turbo.distillation.config import ImageTerm, TextTerm
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.rollouts import roll_out_answers, roll_out_images
from showo_turbo.distillation.segments import segment_ends
from showo_turbo.distillation.start_states import start_states
from showo_turbo.distillation.text_trajectories import JacobiTrajectory
from showo_turbo.files import read_json
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.run_manifest import check_or_write_manifest

BATCHES_PER_FILE = 16
"""Number of batches in a file, and number of consecutive batches that are drawn from one file."""

T = TypeVar("T")

_MANIFEST = "setting.json"
_FIELDS_OF_TRAINING_ONLY = (
    "weight",
    "segments",
    "self_weight",
    "stride",
    "on_policy",
    "autoregressive_weight",
    "teacher",
)
"""Fields of the terms that stored trajectories do not depend on; the manifest has the segment ends on its own."""


class ImageRollouts(ABC):
    """Provide the image trajectories of a stage by the number of the batch."""

    @abstractmethod
    def images(self, batch: int, student: Showo) -> ImageTrajectories:
        """Return the rollouts of a batch, for the current student."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that does not follow from the number of the batch."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        del state


class TextRollouts(ABC):
    """Provide the text trajectories of a stage by the number of the batch."""

    @abstractmethod
    def texts(self, batch: int) -> list[JacobiTrajectory]:
        """Return at most `batch_size` blocks."""


class FreshTrajectories(ImageRollouts, TextRollouts):
    """Generate the trajectories of every batch anew."""

    def __init__(
        self,
        image_teacher: ShowoPipeline,
        text_teacher: ShowoPipeline,
        captions: SampleLoader[CaptionSample] | None,
        dialogues: SampleLoader[DialogueSample] | None,
        image: ImageTerm,
        text: TextTerm,
        seed: int,
    ) -> None:
        """Set teachers, samples and terms; a term that is not used needs no loader."""
        self.image_teacher, self.text_teacher = image_teacher, text_teacher
        self.captions, self.dialogues = captions, dialogues
        self.image, self.text, self.seed = image, text, seed

    def images(self, batch: int, student: Showo | None = None) -> ImageTrajectories:
        """Return new rollouts of the teacher."""
        assert self.captions is not None  # the image term is used
        samples = self.captions.batch(batch)
        rng = random.Random(f"{self.seed}/starts/0/{batch}")
        start = start_states(self.image_teacher, samples, self.image.known_share, rng)
        return roll_out_images(self.image_teacher, [sample.text for sample in samples], self.image, start=start)

    def answers(self, batch: int) -> list[JacobiTrajectory]:
        """Return all blocks of new answers to a batch of dialogues."""
        assert self.dialogues is not None  # the text term is used
        rng = random.Random(f"{self.seed}/answers/0/{batch}")
        return roll_out_answers(self.text_teacher, self.dialogues.batch(batch), self.text, rng)

    def texts(self, batch: int) -> list[JacobiTrajectory]:
        """Return a random subset of the blocks."""
        assert self.dialogues is not None  # the text term is used
        rng = random.Random(f"{self.seed}/blocks/0/{batch}")
        return _sample(self.answers(batch), self.text.batch_size, rng)


class StoredTrajectories(ImageRollouts, TextRollouts):
    """Read the files of `write_missing_files`."""

    def __init__(
        self, folder: Path, image_batch_size: int, text_batch_size: int, seed: str, config: ShowoConfig
    ) -> None:
        """Open a folder of trajectories of a model with this config; the seed determines files and rows of batches."""
        self.image_batch_size, self.text_batch_size, self.seed = image_batch_size, text_batch_size, seed
        self._image_files = sorted(folder.glob("image-*.safetensors"))
        self._text_files = sorted(folder.glob("text-*.safetensors"))
        self._read_images = lru_cache(maxsize=1)(partial(trajectory_files.read_images, config=config))
        self._read_texts = lru_cache(maxsize=1)(partial(trajectory_files.read_texts, config=config))

    def images(self, batch: int, student: Showo | None = None) -> ImageTrajectories:
        """Return random rollouts of one file."""
        file, rng = self._choose_file("images", self._image_files, batch)
        trajectories = self._read_images(file)
        return trajectories.select(_sample(range(len(trajectories.codes)), self.image_batch_size, rng))

    def texts(self, batch: int) -> list[JacobiTrajectory]:
        """Return random blocks of one file."""
        file, rng = self._choose_file("texts", self._text_files, batch)
        return _sample(self._read_texts(file), self.text_batch_size, rng)

    def _choose_file(self, kind: str, files: list[Path], batch: int) -> tuple[Path, random.Random]:
        """Return the file of a batch, and the generator of its rows."""
        file = random.Random(f"{self.seed}/{kind}/{batch // BATCHES_PER_FILE}").choice(files)
        return file, random.Random(f"{self.seed}/{kind}/rows/{batch}")


def check_or_write_trajectory_manifest(
    folder: Path, fresh: FreshTrajectories, origin: dict[str, Any], data: dict[str, Any] | None = None
) -> None:
    """Check that a folder holds trajectories of these settings, or write the manifest of an empty folder.

    Args:
        folder: created if it is missing.
        fresh: the trajectories that the files are to hold.
        origin: what else determines the trajectories, as JSON values: SHA-256 of the teachers' weights, sources.
        data: digests of the sources' data; a change is logged as a warning.

    Raises:
        InputError: if the folder holds trajectories of another teacher or of other settings.
    """
    image, text = (
        {name: value for name, value in asdict(term).items() if name not in _FIELDS_OF_TRAINING_ONLY}
        for term in (fresh.image, fresh.text)
    )
    ends = segment_ends(fresh.image.num_inference_steps, fresh.image.segments)
    started, manifest = any(folder.glob("*.safetensors")), folder / _MANIFEST
    if started and manifest.exists():
        stored_ends = read_json(manifest).get("ends", ends)
        if set(ends) <= set(stored_ends):  # files with labels at more ends serve as well
            ends = stored_ends
    settings = origin | {"image": image, "text": text, "seed": fresh.seed, "ends": ends}
    check_or_write_manifest(manifest, settings, "trajectories", started, data)


def write_missing_files(
    folder: Path, fresh: FreshTrajectories, rollouts: int, dialogues: int, process: int = 0, processes: int = 1
) -> None:
    """Write this process's slice of the missing files of `rollouts` images and of answers to `dialogues`."""
    missing = missing_files(folder, fresh, rollouts, dialogues)
    for number in _own_slice(missing, "image", process, processes):
        batches = [fresh.images(batch) for batch in _batches_of_file(number)]
        trajectory_files.write_images(_file(folder, "image", number), ImageTrajectories.concat(batches))
    for number in _own_slice(missing, "text", process, processes):
        blocks = [block for batch in _batches_of_file(number) for block in fresh.answers(batch)]
        trajectory_files.write_texts(_file(folder, "text", number), blocks)


def missing_files(folder: Path, fresh: FreshTrajectories, rollouts: int, dialogues: int) -> dict[str, list[int]]:
    """Return the numbers of the missing files of `rollouts` images and of answers to `dialogues`, by kind."""
    counts = {
        "image": (rollouts if fresh.captions else 0, fresh.image.batch_size),
        "text": (dialogues if fresh.dialogues else 0, fresh.text.batch_size),
    }
    files = {kind: range(-(-count // (size * BATCHES_PER_FILE))) for kind, (count, size) in counts.items()}
    return {kind: [one for one in numbers if not _file(folder, kind, one).exists()] for kind, numbers in files.items()}


def _own_slice(missing: dict[str, list[int]], kind: str, process: int, processes: int) -> Iterable[int]:
    """Return the numbers of the files that this process writes, with a progress bar."""
    numbers = [number for number in missing[kind] if number % processes == process]
    return tqdm(numbers, desc=f"{kind} trajectories", disable=not numbers)


def _batches_of_file(number: int) -> range:
    return range(number * BATCHES_PER_FILE, (number + 1) * BATCHES_PER_FILE)


def _file(folder: Path, kind: str, number: int) -> Path:
    return folder / f"{kind}-{number:05d}.safetensors"


def _sample(items: Sequence[T], count: int, rng: random.Random) -> list[T]:
    return rng.sample(items, min(len(items), count))
