"""The teacher's trajectories: new ones for every batch, or files made before the stage.

Both are functions of the number of the batch, so a resumed run learns from what an uninterrupted one would have.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from showo_turbo.data import MixedStream, Sample
from showo_turbo.distillation import rollouts as teacher
from showo_turbo.distillation import trajectory_files as store
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.segments import segment_ends
from showo_turbo.distillation.terms import ImageTerm, TextTerm
from showo_turbo.distillation.text_trajectories import JacobiTrajectory
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.run_manifest import claim, claimed

BATCHES_PER_FILE = 16
"""So many batches of roll-outs, or of answers, are in one file; and so many batches in a row are drawn from it."""

T = TypeVar("T")

_SETTING = "setting.json"
_NOT_CLAIMED = ("weight", "segments", "self_weight", "stride", "on_policy", "autoregressive_weight", "teacher")


class RollOuts(Protocol):
    """Image trajectories of one stage, by the number of the batch."""

    def images(self, batch: int, student: Showo) -> ImageTrajectories:
        """`batch_size` roll-outs, for a student as it is now."""

    def state_dict(self) -> dict[str, Any]:
        """What does not follow from the number of the batch."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""


class Answers(Protocol):
    """Text trajectories of one stage, by the number of the batch."""

    def texts(self, batch: int) -> list[JacobiTrajectory]:
        """At most `batch_size` blocks."""


class _NoState:
    """All follows from the number of the batch."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state


class FreshTrajectories(_NoState):
    """Made when they are asked for."""

    def __init__(
        self,
        image_teacher: ShowoPipeline,
        text_teacher: ShowoPipeline,
        captions: MixedStream | None,
        dialogues: MixedStream | None,
        image: ImageTerm,
        text: TextTerm,
        seed: int,
    ) -> None:
        """Take samples from the streams by the number of the batch; a kind that nobody asks for needs no stream."""
        self.image_teacher, self.text_teacher = image_teacher, text_teacher
        self.captions, self.dialogues = captions, dialogues
        self.image, self.text, self.seed = image, text, seed

    def images(self, batch: int, student: Showo | None = None) -> ImageTrajectories:
        """New roll-outs of the teacher's."""
        samples = samples_of(self.captions, batch, self.image.batch_size)
        return teacher.draw(self.image_teacher, [sample.text for sample in samples], self.image)

    def blocks(self, batch: int) -> list[JacobiTrajectory]:
        """All blocks of new answers to `batch_size` dialogues."""
        samples = samples_of(self.dialogues, batch, self.text.batch_size)
        rng = random.Random(f"{self.seed}/answers/{self.dialogues.rank}/{batch}")
        return teacher.answer(self.text_teacher, samples, self.text, rng)

    def texts(self, batch: int) -> list[JacobiTrajectory]:
        """Some of the blocks."""
        return _some(
            self.blocks(batch), self.text.batch_size, random.Random(f"{self.seed}/blocks/{self.dialogues.rank}/{batch}")
        )


class StoredTrajectories(_NoState):
    """Read from the files that `make_files` wrote."""

    def __init__(self, folder: Path, image: ImageTerm, text: TextTerm, seed: str) -> None:
        """Open a folder; who has another seed draws other rows of it."""
        self.image, self.text, self.seed = image, text, seed
        self._image_files = sorted(folder.glob("image-*.safetensors"))
        self._text_files = sorted(folder.glob("text-*.safetensors"))
        self._read_images = lru_cache(maxsize=1)(store.read_images)
        self._read_texts = lru_cache(maxsize=1)(store.read_texts)

    def images(self, batch: int, student: Showo | None = None) -> ImageTrajectories:
        """Random roll-outs of one file."""
        file, rng = self._choose("images", self._image_files, batch)
        trajectories = self._read_images(file)
        return trajectories.rows(_some(range(len(trajectories.codes)), self.image.batch_size, rng))

    def texts(self, batch: int) -> list[JacobiTrajectory]:
        """Random blocks of one file."""
        file, rng = self._choose("texts", self._text_files, batch)
        return _some(self._read_texts(file), self.text.batch_size, rng)

    def _choose(self, kind: str, files: list[Path], batch: int) -> tuple[Path, random.Random]:
        file = random.Random(f"{self.seed}/{kind}/{batch // BATCHES_PER_FILE}").choice(files)
        return file, random.Random(f"{self.seed}/{kind}/rows/{batch}")


def claim_folder(folder: Path, fresh: FreshTrajectories, made_of: dict[str, Any]) -> None:
    """Write down what a folder's trajectories are of, or see that they are of just that.

    Args:
        folder: made if there is none.
        fresh: what the files are to hold.
        made_of: what else they are of, by name, as JSON has it: digests of the teachers' weights, sources.

    Raises:
        InputError: when the folder holds trajectories of another teacher or setting.
    """
    image, text = (
        {name: value for name, value in asdict(term).items() if name not in _NOT_CLAIMED}
        for term in (fresh.image, fresh.text)
    )
    ends = segment_ends(fresh.image.num_inference_steps, fresh.image.segments)
    made = any(folder.glob("*.safetensors"))
    there = claimed(folder / _SETTING).get("ends", ends) if made else ends  # labels at more ends serve as well
    setting = {"image": image, "text": text, "seed": fresh.seed, "ends": there if set(ends) <= set(there) else ends}
    claim(folder / _SETTING, made_of | setting, "trajectories", made)


def make_files(
    folder: Path, fresh: FreshTrajectories, roll_outs: int, dialogues: int, process: int = 0, processes: int = 1
) -> None:
    """Write so many roll-outs and answers to so many dialogues: this process's share of the missing files."""
    share = slice(process, None, processes)
    for number in _missing(folder, "image", roll_outs if fresh.captions else 0, fresh.image.batch_size, share):
        batches = [fresh.images(batch) for batch in _batches_of(number)]
        store.write_images(_file(folder, "image", number), ImageTrajectories.joined(batches))
    for number in _missing(folder, "text", dialogues if fresh.dialogues else 0, fresh.text.batch_size, share):
        blocks = [block for batch in _batches_of(number) for block in fresh.blocks(batch)]
        store.write_texts(_file(folder, "text", number), blocks)


def samples_of(stream: MixedStream, batch: int, size: int) -> list[Sample]:
    """The samples of this process's batch of a number."""
    first = batch * size * stream.world_size + stream.rank
    return [stream.sample_at(first + row * stream.world_size) for row in range(size)]


def _missing(folder: Path, kind: str, count: int, batch_size: int, share: slice) -> Iterable[int]:
    files = range(-(-count // (batch_size * BATCHES_PER_FILE)))
    missing = [number for number in files[share] if not _file(folder, kind, number).exists()]
    return tqdm(missing, desc=f"{kind} trajectories", disable=not missing)


def _batches_of(number: int) -> range:
    return range(number * BATCHES_PER_FILE, (number + 1) * BATCHES_PER_FILE)


def _file(folder: Path, kind: str, number: int) -> Path:
    return folder / f"{kind}-{number:05d}.safetensors"


def _some(things: Sequence[T], count: int, rng: random.Random) -> list[T]:
    return rng.sample(things, min(len(things), count))
