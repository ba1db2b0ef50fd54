"""Training scenes with their image codes, encoded once.

The scenes are generated from a seed and a count, so the file of a pool holds only the codes.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from showo_turbo.checkpoints import weight_files
from showo_turbo.checkpoints.image_tokenizer import fingerprint
from showo_turbo.errors import InputError
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.scenes.render import render_array
from showo_turbo.scenes.scene import Scene
from showo_turbo.scenes.split import training_scene
from showo_turbo.validation import check_integer


@dataclass(frozen=True)
class ScenePoolConfig:
    """Configure the encoding of a pool.

    Attributes:
        output: file to write.
        image_tokenizer: folder of the trained image tokenizer, or the name of a shipped model.
        count: number of scenes.
        seed: seed of the scenes.
    """

    output: str = "runs/tiny/scene_pool.safetensors"
    image_tokenizer: str = "runs/tiny/image_tokenizer"
    count: int = 100000
    seed: int = 1


@dataclass(frozen=True)
class ScenePool:
    """Hold scenes with their codes.

    Attributes:
        scenes: the scenes.
        codes: image codes of each scene in row-major order, long (num_scenes, num_tokens).
        image_tokenizer_sha256: hash of the weights of the image tokenizer, see `checkpoints.image_tokenizer`.
    """

    scenes: Sequence[Scene]
    codes: Tensor
    image_tokenizer_sha256: str


def scene_pixels(scenes: Sequence[Scene]) -> Tensor:
    """Render scenes as input of the image tokenizer: float32 (num_scenes, 3, 64, 64) in [-1, 1]."""
    images = np.stack([render_array(scene) for scene in scenes])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def training_scenes(count: int, seed: int) -> list[Scene]:
    """Generate the first `count` training scenes of a seed."""
    rng = random.Random(seed)
    return [training_scene(rng) for _ in range(count)]


@torch.inference_mode()
def build_scene_pool(path: Path, image_tokenizer: MagvitV2, count: int, seed: int) -> None:
    """Encode the first `count` training scenes of a seed and write their codes to a safetensors file.

    Raises:
        InputError: if `count` is less than 1.
        OSError: if the folder cannot be made or the disk is full.
    """
    check_integer("count", count, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    scenes = training_scenes(count, seed)
    chunks = [scenes[start : start + 100] for start in range(0, count, 100)]
    codes = [image_tokenizer.get_codes(scene_pixels(chunk)) for chunk in tqdm(chunks, desc="encoding scenes")]
    metadata = {"seed": str(seed), "image_tokenizer": fingerprint(image_tokenizer)}
    weight_files.write(path, {"codes": torch.cat(codes).to(torch.int16)}, metadata)


def load_scene_pool(path: Path) -> ScenePool:
    """Read the codes of a pool and generate its scenes from its seed.

    Raises:
        InputError: if the file cannot be read or is not a pool.
    """
    try:
        with safe_open(path, "pt") as file:
            codes, metadata = file.get_tensor("codes").long(), file.metadata()
            seed, image_tokenizer_sha256 = int(metadata["seed"]), metadata["image_tokenizer"]
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(
            f"scene pool {str(path)!r} cannot be read ({reason}): make one with pretrain scene-pool"
        ) from error
    return ScenePool(training_scenes(len(codes), seed), codes, image_tokenizer_sha256)
