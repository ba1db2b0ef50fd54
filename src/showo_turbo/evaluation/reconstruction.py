"""Measure the upper bound of every other score: the detector's accuracy on renders and on their reconstructions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import Image
from tqdm import tqdm

from showo_turbo.evaluation.statistics import Estimate, mean_of_groups
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.scenes.scene import Scene
from showo_turbo.scenes.shapes.shape_world import SHAPES
from showo_turbo.scenes.world import World


@dataclass(frozen=True)
class ReconstructionResult:
    """Hold the fractions of scenes that are detected without an error.

    Attributes:
        renders: detected in rendered images.
        reconstructions: detected in images that were encoded and decoded by the image tokenizer.
        psnr: peak signal-to-noise ratio over all reconstructions, in decibels.
    """

    renders: Estimate
    reconstructions: Estimate
    psnr: float


def evaluate_reconstruction(
    pipe: ShowoPipeline, scenes: Sequence[Scene], world: World = SHAPES
) -> ReconstructionResult:
    """Detect scenes in their images, before and after the image tokenizer.

    Raises:
        InputError: if the model's images have another size than the world's.
    """
    world.check_resolution(pipe.resolution)
    images = [world.render(scene) for scene in scenes]
    decoded = [pipe.decode_codes(pipe.encode_image(image)) for image in tqdm(images, desc="reconstructing")]
    reconstructions = [cast(list[Image.Image], one)[0] for one in decoded]  # PIL is the default output type
    difference = _stack(images) - _stack(reconstructions)
    return ReconstructionResult(
        renders=_accuracy(scenes, images, world),
        reconstructions=_accuracy(scenes, reconstructions, world),
        psnr=float(10 * np.log10(255**2 / np.mean(difference**2))),
    )


def _stack(images: Sequence[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image, dtype=np.float64) for image in images])


def _accuracy(scenes: Sequence[Scene], images: Sequence[Image.Image], world: World) -> Estimate:
    found = [world.detect(image) for image in images]
    return mean_of_groups(
        [[float(one.scene == scene and not one.unrecognised)] for one, scene in zip(found, scenes, strict=True)]
    )
