"""How the transformer sees images when it answers: as codes, or with `w_clip_vit` as CLIP features."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.models.clip_vision import ClipVisionTower
from showo_turbo.models.showo import Showo
from showo_turbo.models.showo_features import FeatureShowo
from showo_turbo.processing.images import ImageSource


@dataclass(frozen=True)
class Sight:
    """Images, ready to be asked about.

    Attributes:
        model: a transformer that knows what the rows stand for.
        rows: long (images, n), codes or numbers of features, as `PromptBuilder.understanding` takes them.
    """

    model: Showo
    rows: Tensor


@torch.no_grad()
def see_features(model: Showo, tower: ClipVisionTower, images: Sequence[ImageSource]) -> Sight:
    """Images as CLIP features; one that comes several times goes through the tower once.

    Raises:
        InputError: when an image cannot be read.
    """
    different = list({id(image): image for image in images}.values())
    order = {id(image): number for number, image in enumerate(different)}
    seeing = FeatureShowo(model, tower(tower.preprocess(different)))
    return Sight(seeing, seeing.numbers([order[id(image)] for image in images]))


def require_vision_tower(tower: ClipVisionTower | None) -> ClipVisionTower:
    """The CLIP picture tower, without which a `w_clip_vit` checkpoint sees nothing.

    Raises:
        InputError: when there is none.
    """
    if tower is None:
        raise InputError(
            "the checkpoint has no CLIP picture tower: name one, from_pretrained(..., vision_tower=FOLDER); the "
            "published checkpoints take openai/clip-vit-large-patch14-336"
        )
    return tower
