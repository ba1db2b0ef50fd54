"""Show-o Turbo: one transformer that draws images from text and answers questions about images.

    from showo_turbo import ShowoPipeline

    pipe = ShowoPipeline.from_pretrained("clipart-turbo")
    image = pipe.text_to_image("a dog left of a bicycle").images[0]
    answer = pipe.image_to_text(image, "Where is the dog?").texts[0]

Importing this module is cheap: what needs torch is loaded when a name is first used.
"""

import logging
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from showo_turbo.errors import InputError

if TYPE_CHECKING:
    from showo_turbo.generation.options import SamplingOptions
    from showo_turbo.outputs import ImageOutput, TextOutput
    from showo_turbo.pipelines.pipeline import ShowoPipeline
    from showo_turbo.plots.trajectories import plot_trajectory
    from showo_turbo.serving.requests import (
        ExtrapolateRequest,
        ImageRequest,
        InpaintRequest,
        TextRequest,
        VaryRequest,
    )

__version__ = version("showo-turbo")
__all__ = [
    "ExtrapolateRequest",
    "ImageOutput",
    "ImageRequest",
    "InpaintRequest",
    "InputError",
    "SamplingOptions",
    "ShowoPipeline",
    "TextOutput",
    "TextRequest",
    "VaryRequest",
    "__version__",
    "plot_trajectory",
]


def _is_relevant(record: logging.LogRecord) -> bool:
    """Return False for what torchao logs when it is imported, which transformers does if it can."""
    return not record.getMessage().startswith(("Failed to load", "<enum"))  # kernels of other hardware; enumerations


for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).addFilter(_is_relevant)

_HOMES = {
    "ExtrapolateRequest": "showo_turbo.serving.requests",
    "ImageOutput": "showo_turbo.outputs",
    "ImageRequest": "showo_turbo.serving.requests",
    "InpaintRequest": "showo_turbo.serving.requests",
    "SamplingOptions": "showo_turbo.generation.options",
    "ShowoPipeline": "showo_turbo.pipelines.pipeline",
    "TextOutput": "showo_turbo.outputs",
    "TextRequest": "showo_turbo.serving.requests",
    "VaryRequest": "showo_turbo.serving.requests",
    "plot_trajectory": "showo_turbo.plots.trajectories",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
