"""Fine-tuning of an image tokenizer on one's own pictures.

Decisions:
- Only the decoder is trained by default: codes stay as they are, so transformers of the image tokenizer draw with
  the new one. With the encoder, codes change, and the transformer has to be trained on them anew.
- A picture is resized to the resolution by its shorter side. Training crops at a random place, validation the middle.
"""

import random
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from showo_turbo.checkpoints.image_tokenizer import load_image_tokenizer
from showo_turbo.checkpoints.loading import locate_image_tokenizer
from showo_turbo.checkpoints.saving import save_image_tokenizer
from showo_turbo.checkpoints.weights import find_weights
from showo_turbo.data import BadSamples, CaptionSample, MixedStream, SampleLoader, WeightedSource
from showo_turbo.data.digests import digest
from showo_turbo.data.held_out import split_source
from showo_turbo.data.sources.picture_folder import PictureFolder
from showo_turbo.data.sources.source import Source
from showo_turbo.errors import InputError
from showo_turbo.files import atomic_file, atomic_folder, sha256_of_files
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.processing.image_files import image_to_pixels, resize_and_crop
from showo_turbo.processing.images import make_grid, pixels_to_images
from showo_turbo.training.before_training import check_environment, check_or_write_run_manifest, set_num_threads
from showo_turbo.training.curves import plot_curve
from showo_turbo.training.image_tokenizer_task import ImageTokenizerTask, ImageTokenizerTaskConfig
from showo_turbo.training.loop import train
from showo_turbo.training.processes import (
    errors_of_lost_processes,
    gather_from_all,
    lock_output,
    process_state,
)
from showo_turbo.training.validations import BEST_FOLDER
from showo_turbo.validation import check_integer

_SHEET_PICTURES = 8
_MAX_RESOLUTION = 4096
_MAX_WORKERS = 256


@dataclass(frozen=True, kw_only=True)
class ImageTokenizerFinetuningConfig(ImageTokenizerTaskConfig):
    """Configure a fine-tuning; see `ImageTokenizerTaskConfig` for losses and optimizers.

    Attributes:
        image_tokenizer: shipped model, folder or hub name.
        pictures: folders, of which all pictures are used.
        resolution: side of the squares that are cropped, in pixels; a multiple of the pixels of a code.
        held_out: fraction of the pictures to validate on, if `loop.validation_steps` is set.
        num_workers: processes that read ahead; 0 reads in the training process.

    Raises:
        InputError: if there are no pictures, or a number is out of its range.
    """

    image_tokenizer: str = "tiny"
    pictures: list[str]
    resolution: int = 256
    held_out: float = 0.1
    num_workers: int = 2
    lr: float = 1e-4
    decoder_only: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("resolution", self.resolution, 1, _MAX_RESOLUTION)
        check_integer("num_workers", self.num_workers, 0, _MAX_WORKERS)
        if not 0 < self.held_out < 1:
            raise InputError(f"held_out is {self.held_out}: choose more than 0 and less than 1")
        if not self.pictures:
            raise InputError("pictures is empty: give one folder with pictures, or several")


def finetune_image_tokenizer(config: ImageTokenizerFinetuningConfig) -> Path:
    """Fine-tune an image tokenizer, from the newest checkpoint if there is one; return the folder of the result.

    Raises:
        InputError: if a folder or the image tokenizer cannot be used, or the output holds a run of other settings.
        TrainingStopped: if a signal stops it, after a checkpoint is written.
    """
    folder = locate_image_tokenizer(config.image_tokenizer)
    model = load_image_tokenizer(folder)
    factor = model.config.downsampling_factor
    if config.resolution % factor:
        raise InputError(f"resolution is {config.resolution}: choose a multiple of {factor}, the pixels of a code")
    sources = {path: PictureFolder(path) for path in config.pictures}
    check_environment(config.loop)
    output = Path(config.loop.output)
    with lock_output(output), errors_of_lost_processes():
        set_num_threads(config.loop)
        settings = {key: value for key, value in asdict(config).items() if key not in ("loop", "num_workers")}
        settings["image_tokenizer"] = sha256_of_files(*find_weights(folder))
        data = {f"pictures {path}": digest([Path(path)]) for path in config.pictures}
        check_or_write_run_manifest(config.loop, settings, "an image tokenizer", data)
        task = ImageTokenizerFinetuning(config, model.train(), sources)
        try:
            train(task, config.loop)
        finally:
            task.training.close()
    process_state().destroy_process_group()
    return (output / BEST_FOLDER if config.loop.validation_steps else output) / "model"


class ImageTokenizerFinetuning(ImageTokenizerTask):
    """Train an image tokenizer on pictures."""

    def __init__(
        self, config: ImageTokenizerFinetuningConfig, model: MagvitV2, sources: dict[str, PictureFolder]
    ) -> None:
        """Open the pictures.

        Args:
            config: the configuration.
            model: in training mode.
            sources: pictures by the names of their folders.
        """
        torch.manual_seed(config.loop.seed)  # of a discriminator
        super().__init__(model, config)
        model.to(process_state().device)
        self.config = config
        parts: dict[str, tuple[Source[CaptionSample], ...]] = {
            name: split_source(source, config.held_out, config.loop.seed) if config.loop.validation_steps else (source,)
            for name, source in sources.items()
        }
        self.training = self._open({name: part[0] for name, part in parts.items()}, "bad_pictures")
        self.held_out: list[Tensor] = []
        if config.loop.validation_steps:
            loader = self._open({name: part[1] for name, part in parts.items()}, "bad_held_out_pictures")
            count = sum(len(part[1]) for part in parts.values())
            self.held_out = [self._crop(loader.stream.sample_at(position)) for position in range(count)]
        first = [self._crop(self.training.stream.sample_at(position)) for position in range(_SHEET_PICTURES)]
        self.sheet = torch.stack((self.held_out or first)[:_SHEET_PICTURES])

    def images(self, number: int) -> tuple[Tensor, torch.Generator]:
        """Crop pictures at random places."""
        rng = random.Random(f"{self.config.loop.seed}/pictures/{number}")
        images = [self._crop(sample, rng) for sample in self.training.batch(number)]
        return torch.stack(images), torch.Generator().manual_seed(rng.getrandbits(48))

    def validate(self, model: MagvitV2) -> dict[str, float]:
        """Return the mean errors of held-out pictures; `loss` is that of pixels alone."""
        state, sums, size = process_state(), {"l1": 0.0, "mse": 0.0}, self.config.batch_size
        own = self.held_out[state.process_index :: state.num_processes]
        for start in range(0, len(own), size):
            targets = torch.stack(own[start : start + size])
            images = model(targets.to(process_state().device)).reconstruction.float().cpu()
            sums["l1"] += float(F.l1_loss(images, targets)) * len(targets)
            sums["mse"] += float(F.mse_loss(images, targets)) * len(targets)
        gathered = gather_from_all(sums)
        means = {name: sum(one[name] for one in gathered) / len(self.held_out) for name in sums}
        loss = means["l1"] + self.config.mse_weight * means["mse"]
        return {name: round(value, 5) for name, value in {"loss": loss, **means}.items()} if self.held_out else {}

    def draw_samples(self, model: MagvitV2, file: Path) -> None:
        """Write pictures in the first row, and below them what is left after encoding and decoding."""
        with torch.no_grad():
            images = self.exported(model)(self.sheet.to(process_state().device)).reconstruction
        file.parent.mkdir(parents=True, exist_ok=True)
        pictures = [*pixels_to_images(self.sheet), *pixels_to_images(images)]
        with atomic_file(file) as written:
            make_grid(pictures, columns=len(self.sheet)).save(written, format="PNG")

    def export(self, model: MagvitV2, folder: Path) -> None:
        """Write the image tokenizer, a sheet of pictures and the loss curves."""
        with atomic_folder(folder / "model", replace=True) as written:
            save_image_tokenizer(written, self.exported(model).half())
        self.draw_samples(model, folder / "samples.png")
        plot_curve(folder / "log.jsonl", folder / "curve.png")

    def _open(self, sources: dict[str, Source[CaptionSample]], log: str) -> SampleLoader[CaptionSample]:
        state = process_state()
        output = Path(self.config.loop.output)
        output.mkdir(parents=True, exist_ok=True)
        weighted = [WeightedSource(name, source, len(source)) for name, source in sources.items()]
        bad = BadSamples(output / f"{log}_{state.process_index}.jsonl")
        stream = MixedStream(weighted, self.config.loop.seed, bad_samples=bad)
        return SampleLoader(stream, self.config.batch_size, self.config.num_workers, state.num_processes)

    def _crop(self, sample: CaptionSample, rng: random.Random | None = None) -> Tensor:
        """Return a square of a picture, float32 (3, resolution, resolution): the middle, or at a random place."""
        image, side = sample.image, self.config.resolution
        assert isinstance(image, Image.Image)
        if rng is None:
            return image_to_pixels(resize_and_crop(image, side))
        scale = side / min(image.size)
        size = [max(side, round(one * scale)) for one in image.size]
        left, top = (rng.randint(0, one - side) for one in size)
        resized = image.resize((size[0], size[1]), Image.Resampling.BICUBIC)
        return image_to_pixels(resized.crop((left, top, left + side, top + side)))
