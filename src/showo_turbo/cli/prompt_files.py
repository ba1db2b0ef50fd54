"""Read files of prompts, and name files after prompts."""

import re
from pathlib import Path

from showo_turbo.errors import InputError
from showo_turbo.files import read_text


def read_prompts(path: Path, option: str, strip: bool = True) -> list[str]:
    """Read the lines of a text file that are not empty.

    Args:
        path: a text file in UTF-8, with or without a byte order mark.
        option: name of the file in error messages.
        strip: remove white space at the ends of lines.

    Raises:
        InputError: if the file cannot be read or has empty lines only.
    """
    try:
        lines = read_text(path, "utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{option} {str(path)!r} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{option} {str(path)!r} is not UTF-8 text: save it as such") from error
    prompts = [line.strip() if strip else line for line in lines if line.strip()]
    if not prompts:
        raise InputError(f"{option} {str(path)!r} is empty: write one prompt on each line")
    return prompts


def slug(text: str) -> str:
    """Return a text as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:60].strip("-") or "picture"
