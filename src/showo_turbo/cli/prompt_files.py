"""Read files of prompts, and name files after prompts."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from showo_turbo.errors import InputError
from showo_turbo.files import read_text

if TYPE_CHECKING:
    from showo_turbo.processing.prompts import PromptBuilder

_SHOWN_CHARACTERS = 60


def read_prompt_lines(path: Path, option: str, strip: bool = True) -> dict[int, str]:
    """Read the lines of a text file that are not empty, by their numbers, which count from 1.

    Args:
        path: a text file in UTF-8, with or without a byte order mark.
        option: name of the file in error messages.
        strip: remove white space at the ends of lines.

    Raises:
        InputError: if the file cannot be read or has empty lines only.
    """
    try:
        lines = read_text(path, "utf-8-sig").replace("\ufeff", "").splitlines()  # joined files have more marks
    except OSError as error:
        raise InputError(f"{option} {str(path)!r} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{option} {str(path)!r} is not UTF-8 text: save it as such") from error
    prompts = {number: line.strip() if strip else line for number, line in enumerate(lines, 1) if line.strip()}
    if not prompts:
        raise InputError(f"{option} {str(path)!r} is empty: write one prompt on each line")
    return prompts


def check_prompts(builder: "PromptBuilder", prompts: Iterable[str], origins: Mapping[str, str] | None = None) -> None:
    """Check prompts.

    Args:
        builder: checks each of them.
        prompts: the texts.
        origins: where prompts are from, such as "prompts file 'a.txt', line 2", for error messages.

    Raises:
        InputError: as `PromptBuilder.check_prompt`.
    """
    for prompt in prompts:
        try:
            builder.check_prompt(prompt)
        except InputError as error:
            if origins is None or prompt not in origins:
                raise
            raise InputError(f"{origins[prompt]}, {prompt[:_SHOWN_CHARACTERS]!r}: {error}") from error


def slug(text: str) -> str:
    """Return a text as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:60].strip("-") or "picture"
