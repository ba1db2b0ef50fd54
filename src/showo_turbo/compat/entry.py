"""Run the two commands on the arguments of the process."""

import sys
from collections.abc import Callable
from functools import partial
from inspect import getdoc
from pathlib import Path
from typing import TypeVar

from showo_turbo.cli.exit_status import run_or_exit
from showo_turbo.compat import inference_mmu as understanding
from showo_turbo.compat import inference_t2i as text_to_image
from showo_turbo.compat.showo_options import CommonOptions, TextToImageOptions, UnderstandingOptions
from showo_turbo.config_reader import read_config

T = TypeVar("T")


def inference_t2i() -> None:
    """Run `inference_t2i.py`."""
    run_or_exit(partial(_run, TextToImageOptions, text_to_image.run))


def inference_mmu() -> None:
    """Run `inference_mmu.py`."""
    run_or_exit(partial(_run, UnderstandingOptions, understanding.run))


def _run(cls: type[T], command: Callable[[T], None]) -> None:
    """Read the options and run a command, or print its help."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"usage: {Path(sys.argv[0]).name} config=FILE key=value ..")
        print(*(f"\n{getdoc(options)}" for options in (cls, CommonOptions)), sep="\n")
        return
    command(read_config(cls, sys.argv[1:]))
