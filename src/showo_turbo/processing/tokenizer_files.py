"""Check the files of a text tokenizer before another library reads them.

Decisions:
- A normalizer or decoder may replace texts by longer ones, and 40 doublings of one letter fill any memory. So the
  factor by which a text can grow is bounded. Tokenizers in use add a few characters.
- Regular expressions are bounded in time, see `tokenizer_patterns`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from showo_turbo.errors import InputError
from showo_turbo.files import MAX_TEXT_BYTES, check_plain_file, parse_json, read_text
from showo_turbo.processing.tokenizer_patterns import check_pattern, parse_pattern
from showo_turbo.validation import shown

_MAX_BYTES = 4 * MAX_TEXT_BYTES
_PATTERNS = ("*.json", "*.txt", "*.jinja", "*.model")
_MAX_GROWTH = 1000
_LOOKAROUND = re.compile(r"\(\?<?[=!][^()]*\)")
_STEPS = ("normalizer", "pre_tokenizer", "decoder")


def check_tokenizer_files(folder: Path) -> None:
    """Check that the files of a tokenizer are plain, of a bounded size, and bound the length of texts and the time.

    Raises:
        InputError: if they are not, or `tokenizer.json` is not a JSON object.
    """
    for path in sorted(path for pattern in _PATTERNS for path in folder.glob(pattern)):
        try:
            check_plain_file(path, _MAX_BYTES)
        except OSError as error:
            raise InputError(f"text tokenizer file {str(path)!r} cannot be read ({error.strerror})") from error
    path = folder / "tokenizer.json"
    if not path.exists():
        return
    try:
        values = parse_json(read_text(path, max_bytes=_MAX_BYTES))
    except (OSError, ValueError) as error:
        raise InputError(f"text tokenizer file {str(path)!r} cannot be read ({error}): expected JSON") from error
    if not isinstance(values, dict):
        raise InputError(f"text tokenizer: none could be loaded from {str(folder)!r}: tokenizer.json holds no object")
    growth = 1.0
    for step in (step for name in _STEPS for step in _steps(values.get(name))):
        if isinstance(regex := step.get("Regex"), str):
            try:
                check_pattern(regex)
            except InputError as error:
                raise InputError(f"text tokenizer file {str(path)!r}: {error}") from error
        growth *= _growth(step)
        if growth > _MAX_GROWTH:
            raise InputError(
                f"text tokenizer file {str(path)!r} makes texts more than {_MAX_GROWTH:,} times as long, such as by "
                f"{shown(step)}: use another tokenizer"
            )


def _steps(step: Any) -> Iterator[dict[str, Any]]:
    """Yield the steps of a sequence of normalizers, pre-tokenizers or decoders, nested or not."""
    if isinstance(step, dict):
        yield step
        for value in step.values():
            yield from _steps(value)
    elif isinstance(step, list):
        for value in step:
            yield from _steps(value)


def _shortest_match(pattern: str) -> int:
    """Return a lower bound for the length of a match of a regular expression."""
    try:
        return parse_pattern(_LOOKAROUND.sub("", pattern)).getwidth()[0]
    except (re.error, RecursionError, OverflowError):
        return 0


def _growth(step: dict[str, Any]) -> float:
    """Return by which factor one step can lengthen a text."""
    if step.get("type") == "Replace":
        pattern, content = step.get("pattern"), str(step.get("content") or "")
        shortest = 0
        if isinstance(pattern, dict) and isinstance(pattern.get("String"), str):
            shortest = len(pattern["String"])
        elif isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
            shortest = _shortest_match(pattern["Regex"])
        return max(len(content) / shortest, 1.0) if shortest else len(content) + 1.0
    if step.get("type") == "Prepend":
        return 1.0 + len(str(step.get("prepend") or ""))
    return 1.0
