"""Training scenes with their image codes, encoded once.

A pool is a seed and a count, so the scenes come back from the generator; only the codes are kept in the file.
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
    """One pool.

    Attributes:
        output: file to write.
        image_tokenizer: folder of the trained image tokenizer; or a shipped model, for its own.
        count: scenes.
        seed: of the scenes.
    """

    output: str = "runs/tiny/scene_pool.safetensors"
    image_tokenizer: str = "runs/tiny/image_tokenizer"
    count: int = 100000
    seed: int = 1


@dataclass(frozen=True)
class ScenePool:
    """Encoded scenes.

    Attributes:
        scenes: what is in the pictures.
        codes: row by row, long (scenes, tokens).
        image_tokenizer: fingerprint of what encoded them.
    """

    scenes: Sequence[Scene]
    codes: Tensor
    image_tokenizer: str


def scene_pixels(scenes: Sequence[Scene]) -> Tensor:
    """Pictures of scenes as the image tokenizer reads them: float32 (scenes, 3, 64, 64) in [-1, 1]."""
    pictures = np.stack([render_array(scene) for scene in scenes])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def training_scenes(count: int, seed: int) -> list[Scene]:
    """The first `count` training scenes of a seed."""
    rng = random.Random(seed)
    return [training_scene(rng) for _ in range(count)]


@torch.inference_mode()
def build_scene_pool(path: Path, image_tokenizer: MagvitV2, count: int, seed: int) -> None:
    """Encode the first `count` training scenes of a seed and write their codes to a safetensors file.

    Raises:
        InputError: when there are to be no scenes.
        OSError: when the folder cannot be made or the disk is full.
    """
    check_integer("count", count, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    scenes = training_scenes(count, seed)
    chunks = [scenes[start : start + 100] for start in range(0, count, 100)]
    codes = [image_tokenizer.get_codes(scene_pixels(chunk)) for chunk in tqdm(chunks, desc="encoding scenes")]
    metadata = {"seed": str(seed), "image_tokenizer": fingerprint(image_tokenizer)}
    weight_files.write(path, {"codes": torch.cat(codes).to(torch.int16)}, metadata)


def load_scene_pool(path: Path) -> ScenePool:
    """Read a pool back; its scenes are drawn anew from its seed.

    Raises:
        InputError: when the file cannot be read or is no pool.
    """
    try:
        with safe_open(path, "pt") as file:
            codes, metadata = file.get_tensor("codes").long(), file.metadata()
            seed, image_tokenizer = int(metadata["seed"]), metadata["image_tokenizer"]
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        reason = f"it does not say {error}" if isinstance(error, KeyError) else error
        raise InputError(
            f"scene pool {str(path)!r} cannot be read ({reason}): make one by pretrain scene-pool"
        ) from error
    return ScenePool(training_scenes(len(codes), seed), codes, image_tokenizer)
