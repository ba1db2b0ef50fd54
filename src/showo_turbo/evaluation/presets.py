"""Rows of the paper's tables as data: the settings of a number, and the number (arXiv 2502.05415, its later version).

Decisions:
- Understanding does not depend on the steps of text to image, so every row of a model has its scores.
- HPS is the score of v2.0 divided by 100, as the paper prints it. Its CLIP score is a cosine, here times 100.
- The paper does not name the prompts of ImageReward and CLIP score, nor POPE's score, which is taken for accuracy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from showo_turbo.errors import InputError


@dataclass(frozen=True)
class Preset:
    """Hold a row of a published table.

    Attributes:
        name: on the command line.
        model: name of the model on the hub, for the stamp; the model that is evaluated is chosen separately.
        resolution: side of its images in pixels.
        sampling: sampling options.
        published: scores by benchmark and name of the score.
    """

    name: str
    model: str
    resolution: int
    sampling: Mapping[str, Any]
    published: Mapping[str, Mapping[str, float]]


def _drawing(geneval: float, hps: float, image_reward: float, clip: float) -> dict[str, dict[str, float]]:
    return {
        "geneval": {"overall": geneval},
        "hpsv2": {"HPS v2.0": hps},
        "image-reward": {"ImageReward": image_reward},
        "clip-score": {"CLIP score": clip},
    }


def _understanding(*scores: float) -> dict[str, dict[str, float]]:
    pope, mme, mmmu, scienceqa, flickr30k, nocaps = scores
    return {
        "pope": {"accuracy": pope},
        "mme": {"perception": mme},
        "mmmu": {"accuracy": mmmu},
        "scienceqa": {"accuracy": scienceqa},
        "captions": {"CIDEr, Flickr30k": flickr30k, "CIDEr, NoCaps": nocaps},
    }


_SHOWO_512 = _understanding(83.2, 1042.5, 24.6, 34.9, 24.9, 29.4)
_TURBO_512 = _understanding(78.4, 865.8, 26.3, 37.1, 22.2, 26.5)


def _showo(resolution: int, published: dict[str, dict[str, float]]) -> Preset:
    model = "showlab/show-o" if resolution == 256 else "showlab/show-o-512x512"
    sampling = {"num_inference_steps": 16, "guidance_scale": 10.0, "top_k": None}
    return Preset(f"paper-{resolution}-showo-16", model, resolution, sampling, published)


def _turbo(resolution: int, steps: int, top_k: int | None, published: dict[str, dict[str, float]]) -> Preset:
    sampling = {"num_inference_steps": steps, "guidance_scale": 0.0, "top_k": top_k}
    model = f"SJTU-Deng-Lab/Show-o-Turbo-{resolution}"
    return Preset(f"paper-{resolution}-{steps}", model, resolution, sampling, published)


PRESETS = {
    preset.name: preset
    for preset in (
        _showo(256, _drawing(0.591, 0.254, 0.739, 31.0)),
        _turbo(256, 8, None, _drawing(0.552, 0.255, 0.738, 30.9)),
        _turbo(256, 4, 200, _drawing(0.523, 0.252, 0.706, 30.9)),
        _turbo(256, 2, 200, _drawing(0.494, 0.240, 0.529, 30.6)),
        _showo(512, _drawing(0.674, 0.277, 0.992, 31.8) | _SHOWO_512),
        _turbo(512, 8, None, _drawing(0.638, 0.273, 0.963, 31.8) | _TURBO_512),
        _turbo(512, 4, 500, _drawing(0.625, 0.269, 0.934, 31.8) | _TURBO_512),
        _turbo(512, 2, 200, _drawing(0.557, 0.247, 0.680, 31.2) | _TURBO_512),
    )
}


def find_preset(name: str) -> Preset:
    """Return a preset by its name.

    Raises:
        InputError: if there is none.
    """
    if name not in PRESETS:
        raise InputError(f"preset {name!r} is unknown: choose {', '.join(PRESETS)}")
    return PRESETS[name]


def published_score(published: Mapping[str, float], name: str) -> float | None:
    """Return the published value of a score, or None; the name of a CLIP score also says the CLIP model."""
    return published.get(name, published.get("CLIP score") if name.startswith("CLIP score, ") else None)
