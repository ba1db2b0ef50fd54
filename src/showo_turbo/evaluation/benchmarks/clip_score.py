"""CLIP score: 100 times the cosine of an image and its prompt in CLIP's space, at least 0 (arXiv 2104.08718).

Decisions:
- torchmetrics computes it. Its own way of loading CLIP breaks with transformers 5, whose `get_image_features` returns
  an object, so it is given a model that returns tensors.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from showo_turbo.errors import InputError, one_line
from showo_turbo.evaluation.benchmarks.definition import DrawingBenchmark, Judging, Score
from showo_turbo.evaluation.benchmarks.drawn_images import image_path, mean_score, read_prompts, write_plain
from showo_turbo.extras import require_module
from showo_turbo.processing.image_files import load_image


class TensorFeatures(torch.nn.Module):
    """Return CLIP's features as tensors."""

    def __init__(self, clip: Any) -> None:
        """Wrap a `transformers.CLIPModel`."""
        super().__init__()
        self.clip, self.config = clip, clip.config

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return float (images, width)."""
        return self.clip.get_image_features(pixel_values).pooler_output

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return float (texts, width)."""
        return self.clip.get_text_features(input_ids, attention_mask).pooler_output


def _load_clip(folder: Path) -> tuple[TensorFeatures, Any]:
    from transformers import CLIPModel, CLIPProcessor

    try:
        return TensorFeatures(CLIPModel.from_pretrained(folder).eval()), CLIPProcessor.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"judge {str(folder)!r} is no CLIP model ({one_line(error)}): give its folder") from error


def _score(judging: Judging) -> dict[str, Score]:
    multimodal = require_module("torchmetrics.multimodal.clip_score", "clip-score", extra="evaluate")
    if judging.judge is None or not judging.judge.is_dir():
        raise InputError(
            "judge is missing: give a folder of CLIP's weights, such as a clone of its hub page, as --judge"
        )
    clip = _load_clip(judging.judge)
    metric = multimodal.CLIPScore(model_name_or_path=lambda: clip)
    groups = []
    for item in judging.items:
        files = [image_path(judging.folder, item, number) for number in range(judging.images_per_prompt)]
        images = [torch.from_numpy(np.array(load_image(file))).permute(2, 0, 1) for file in files]
        with torch.inference_mode():
            groups.append([float(metric(image, item.text)) for image in images])
    return {f"CLIP score, {judging.judge.name}": mean_score(groups, ids=[item.id for item in judging.items])}


CLIP_SCORE = DrawingBenchmark(
    name="clip-score",
    title="CLIP score",
    measures="Agreement of images with their prompts: 100 x cosine in CLIP's space, at least 0.",
    data="prompts of your choice: a text file with one on each line, or a JSONL file with `prompt`",
    licence="that of your prompts",
    judge="computed here: torchmetrics, with the CLIP folder of --judge",
    cost="as many images as prompts",
    read=read_prompts,
    images_per_prompt=1,
    write=write_plain,
    score=_score,
)
