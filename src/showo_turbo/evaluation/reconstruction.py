"""The ceiling of every other score: how often the detector reads true pictures right, and their reconstructions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm

from showo_turbo.evaluation.statistics import Estimate, mean_of_groups
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.scenes.detector import detect
from showo_turbo.scenes.render import check_resolution, render
from showo_turbo.scenes.scene import Scene


@dataclass(frozen=True)
class ReconstructionResult:
    """How much of a scene survives.

    Attributes:
        renders: scenes that the detector reads off their pictures without a fault.
        reconstructions: the same off pictures that went through the image tokenizer.
        psnr: peak signal-to-noise ratio of all reconstructions together, in decibels.
    """

    renders: Estimate
    reconstructions: Estimate
    psnr: float


def evaluate_reconstruction(pipe: ShowoPipeline, scenes: Sequence[Scene]) -> ReconstructionResult:
    """Read scenes off their pictures, before and after the image tokenizer.

    Raises:
        InputError: when the model has pictures of another size than the built-in world.
    """
    check_resolution(pipe.resolution)
    pictures = [render(scene) for scene in scenes]
    rebuilt = [pipe.decode_codes(pipe.encode_image(picture))[0] for picture in tqdm(pictures, desc="reconstructing")]
    difference = _stack(pictures) - _stack(rebuilt)
    return ReconstructionResult(
        renders=_read_right(scenes, pictures),
        reconstructions=_read_right(scenes, rebuilt),
        psnr=float(10 * np.log10(255**2 / np.mean(difference**2))),
    )


def _stack(pictures: Sequence[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(picture, dtype=np.float64) for picture in pictures])


def _read_right(scenes: Sequence[Scene], pictures: Sequence[Image.Image]) -> Estimate:
    found = [detect(picture) for picture in pictures]
    return mean_of_groups(
        [[float(one.scene == scene and not one.unrecognised)] for one, scene in zip(found, scenes, strict=True)]
    )
