"""Sidecar files of images that the page draws: `showo-turbo generate --from-sidecar` draws them again."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from showo_turbo.cli.draw import new_sidecar
from showo_turbo.cli.drawing_arguments import DrawingArguments
from showo_turbo.generation.options import SamplingOptions, options_in

if TYPE_CHECKING:
    from showo_turbo.pipelines.pipeline import ShowoPipeline
    from showo_turbo.serving.requests import ImageRequest


def page_sidecar(
    models: Mapping[str, str], pipes: "Mapping[str, ShowoPipeline]"
) -> "Callable[[str, ImageRequest], dict[str, Any]]":
    """Return a function that makes sidecar files.

    Args:
        models: models by the names that clients use, as they are given on the command line.
        pipes: their pipelines.
    """

    def describe(name: str, request: "ImageRequest") -> dict[str, Any]:
        pipe = pipes[name]
        size = {side: getattr(request, side) for side in ("height", "width") if getattr(request, side) is not None}
        options = DrawingArguments(model=models[name], seed=request.seed, num_images=request.num_images_per_prompt)
        sidecar = new_sidecar(pipe, "text_to_image", size, str(request.prompt), options)
        sampling = pipe.recommended.override(**options_in(SamplingOptions, request))
        return json.loads(replace(sidecar, sampling=sampling).to_bytes())

    return describe
