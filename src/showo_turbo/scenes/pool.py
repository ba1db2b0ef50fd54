"""Training scenes with their image codes, encoded once.

The scenes are generated from a seed and a count, so the file of a pool holds only the codes.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from showo_turbo.checkpoints import weight_files
from showo_turbo.checkpoints.image_tokenizer import fingerprint
from showo_turbo.errors import InputError
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.scenes.scene import Scene
from showo_turbo.scenes.shapes.shape_world import SHAPES
from showo_turbo.scenes.world import World
from showo_turbo.scenes.worlds import find_world
from showo_turbo.validation import check_integer


@dataclass(frozen=True)
class ScenePoolConfig:
    """Configure the encoding of a pool.

    Attributes:
        world: name of the world.
        output: file to write.
        image_tokenizer: folder of the trained image tokenizer, or the name of a shipped model.
        count: number of scenes.
        seed: seed of the scenes.
    """

    world: str = "shapes"
    output: str = "runs/tiny/scene_pool.safetensors"
    image_tokenizer: str = "runs/tiny/image_tokenizer"
    count: int = 100000
    seed: int = 1


@dataclass(frozen=True)
class ScenePool:
    """Hold scenes with their codes.

    Attributes:
        world: their world.
        scenes: the scenes.
        codes: image codes of each scene in row-major order, long (num_scenes, num_tokens).
        image_tokenizer_sha256: hash of the weights of the image tokenizer, see `checkpoints.image_tokenizer`.
    """

    world: World
    scenes: Sequence[Scene]
    codes: Tensor
    image_tokenizer_sha256: str


def scene_pixels(scenes: Sequence[Scene], world: World = SHAPES) -> Tensor:
    """Render scenes as input of the image tokenizer: float32 (num_scenes, 3, resolution, resolution) in [-1, 1]."""
    return pixels_of([world.render_array(scene) for scene in scenes])


def pixels_of(images: Sequence[np.ndarray]) -> Tensor:
    """Stack uint8 images (height, width, 3) as float32 (num_images, 3, height, width) in [-1, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def training_scenes(count: int, seed: int, world: World = SHAPES) -> list[Scene]:
    """Generate the first `count` training scenes of a seed."""
    rng = random.Random(seed)
    return [world.training_scene(rng) for _ in range(count)]


@torch.inference_mode()
def build_scene_pool(path: Path, image_tokenizer: MagvitV2, count: int, seed: int, world: World = SHAPES) -> None:
    """Encode the first `count` training scenes of a seed and write their codes to a safetensors file.

    Raises:
        InputError: if `count` is less than 1.
        OSError: if the folder cannot be made or the disk is full.
    """
    check_integer("count", count, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    scenes = training_scenes(count, seed, world)
    chunks = [scenes[start : start + 100] for start in range(0, count, 100)]
    progress, tile_codes = tqdm(chunks, desc="encoding scenes"), dict[bytes, Tensor]()
    tile_size = image_tokenizer.config.encoder_tile_size
    if tile_size is None:
        codes = [image_tokenizer.get_codes(scene_pixels(chunk, world)) for chunk in progress]
    else:
        codes = [_codes_by_tile(image_tokenizer, tile_size, chunk, world, tile_codes) for chunk in progress]
    metadata = {"world": world.name, "seed": str(seed), "image_tokenizer": fingerprint(image_tokenizer)}
    weight_files.write(path, {"codes": torch.cat(codes).to(torch.int16)}, metadata)


def _codes_by_tile(
    image_tokenizer: MagvitV2, size: int, scenes: Sequence[Scene], world: World, known: dict[bytes, Tensor]
) -> Tensor:
    """Return the codes of scenes, long (num_scenes, num_tokens); every distinct tile is encoded once.

    Args:
        image_tokenizer: encodes tiles independently.
        size: side of a tile in pixels.
        scenes: the scenes.
        world: their world.
        known: codes by the pixels of a tile; new ones are added.
    """
    images = np.stack([world.render_array(scene) for scene in scenes])
    tiles = rearrange(images, "n (r h) (c w) rgb -> (n r c) h w rgb", h=size, w=size)
    new = {tile.tobytes(): tile for tile in tiles if tile.tobytes() not in known}
    if new:
        known |= zip(new, image_tokenizer.get_codes(pixels_of(list(new.values()))), strict=True)
    rows, side = images.shape[1] // size, size // image_tokenizer.config.downsampling_factor
    codes = torch.stack([known[tile.tobytes()] for tile in tiles])
    return rearrange(codes, "(n r c) (h w) -> n (r h c w)", r=rows, c=images.shape[2] // size, h=side)


def load_scene_pool(path: Path) -> ScenePool:
    """Read the codes of a pool and generate its scenes from its seed.

    Raises:
        InputError: if the file cannot be read or is not a pool.
    """
    try:
        with safe_open(path, "pt") as file:
            codes, metadata = file.get_tensor("codes").long(), file.metadata()
            seed, image_tokenizer_sha256 = int(metadata["seed"]), metadata["image_tokenizer"]
            world = find_world(metadata.get("world", SHAPES.name))  # older pools do not name it
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(
            f"scene pool {str(path)!r} cannot be read ({reason}): make one with pretrain scene-pool"
        ) from error
    return ScenePool(world, training_scenes(len(codes), seed, world), codes, image_tokenizer_sha256)
