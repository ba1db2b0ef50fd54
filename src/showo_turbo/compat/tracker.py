"""Weights & Biases, with `tracker=wandb`."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from showo_turbo.compat.showo_options import CommonOptions
from showo_turbo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image


def check_tracker(options: CommonOptions) -> None:
    """Check that the tracker is installed.

    Raises:
        InputError: if it is not.
    """
    if options.tracker is not None and find_spec(options.tracker) is None:
        raise InputError(
            f"tracker {options.tracker!r} is not installed: pip install {options.tracker}, or leave it out"
        )


def track(options: CommonOptions, task: str, title: str, captioned: "Iterable[tuple[Image, str]]") -> None:
    """Send images with their captions as one run, if a tracker is set."""
    if options.tracker is None:
        return
    import wandb

    section = options.wandb
    with wandb.init(
        project=options.experiment.project,
        name=f"{options.experiment.name}_{task}",
        entity=section.entity,
        id=section.run_id,
        resume=section.resume if section.run_id else None,
    ) as run:
        run.log({title: [wandb.Image(image, caption=caption) for image, caption in captioned]})
