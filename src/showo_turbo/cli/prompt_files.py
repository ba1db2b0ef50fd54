"""Files of prompts, and names of files that tell a prompt."""

import re
from pathlib import Path

from showo_turbo.errors import InputError


def read_prompts(path: Path, option: str) -> list[str]:
    """The lines of a file that hold anything.

    Args:
        path: a text file in UTF-8, with or without a byte order mark.
        option: what errors call it.

    Raises:
        InputError: when it cannot be read, or no line holds anything.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{option} {str(path)!r} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{option} {str(path)!r} is not UTF-8 text: save it as such") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise InputError(f"{option} {str(path)!r} is empty: write one prompt on each line")
    return prompts


def slug(text: str) -> str:
    """A text as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:60].strip("-") or "picture"
