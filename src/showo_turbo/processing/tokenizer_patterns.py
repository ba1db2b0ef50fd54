"""Check the regular expressions of a text tokenizer, which the tokenizers library runs without a time limit.

Decisions:
- A repeat of something that matches in several ways, such as `(a+)+` or `(a|ab)*`, takes a time that is exponential in
  the length of a text. So what is repeated must be a character, or characters in a fixed order.
- Repeats one after another take a time that is polynomial, with their number as the exponent. So there are few.
- Only the structure matters here. So character classes that Python's parser lacks are replaced by others.
- Tokenizers in use pass: those of GPT-2, GPT-4, Llama, Qwen and DeepSeek are tested.
"""

import re
import warnings
from re import _constants as codes  # type: ignore[attr-defined]
from re._parser import SubPattern  # no public function returns the structure
from re._parser import parse as parse_regex
from typing import Any

from showo_turbo.errors import InputError
from showo_turbo.validation import shown

_MAX_REPEATS = 2
_MAX_CHARACTERS = 10_000

_PROPERTY = re.compile(r"\\[pP]\{[^{}]*\}|\\p[A-Z]|\[:\^?[a-z]+:\]|\\[hHRX]")
_GLOBAL_FLAGS = re.compile(r"\(\?[a-zA-Z]+\)")
_REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)
_SEVERAL_WAYS = (codes.BRANCH, codes.GROUPREF, codes.GROUPREF_EXISTS)
_ONE_CHARACTER = (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN)


def parse_pattern(pattern: str) -> SubPattern:
    """Return the structure of a regular expression in the syntax of Oniguruma.

    Raises:
        re.error: if it cannot be parsed.
        RecursionError: if it is nested too deeply.
        OverflowError: if a count is too large.
    """
    translated = _GLOBAL_FLAGS.sub("", _PROPERTY.sub(r"\\w", pattern))
    translated = translated.replace("(?<", "(?P<").replace("(?P<=", "(?<=").replace("(?P<!", "(?<!")
    with warnings.catch_warnings(action="ignore"):  # of sets in sets
        return parse_regex(translated.replace(r"\z", r"\Z"))


def check_pattern(pattern: str) -> None:
    """Check that a regular expression takes a bounded time.

    Raises:
        InputError: if it may not, or its structure cannot be found.
    """
    if len(pattern) > _MAX_CHARACTERS:
        raise InputError(f"pattern {shown(pattern)} has {len(pattern):,} characters: at most {_MAX_CHARACTERS:,}")
    try:
        repeats = _count_repeats(parse_pattern(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"pattern {shown(pattern)} cannot be checked ({error})") from error
    if repeats > _MAX_REPEATS:
        raise InputError(
            f"pattern {shown(pattern)} may take hours on a text: at most {_MAX_REPEATS} repeats, each of characters in "
            "a fixed order"
        )


def _count_repeats(pattern: Any) -> int:
    """Return how many repeats follow one another at most; more than the limit for a repeat of another structure."""
    count = 0
    for code, argument in pattern:
        if code in _REPEATS:
            least, most, body = argument
            if most > 1 and least != most and not _is_fixed(body):
                return _MAX_REPEATS + 1
            count += _count_repeats(body) + int(most > 1 and least != most)
        elif code is codes.BRANCH:
            count += max(map(_count_repeats, argument[1]))
        elif code is codes.GROUPREF:
            count += 1
        elif code not in _ONE_CHARACTER:
            count += sum(_count_repeats(one) for one in _inner_patterns(argument))
    return count


def _is_fixed(pattern: Any) -> bool:
    """Return whether a pattern is characters in a fixed order, and so matches in one way."""
    for code, argument in pattern:
        if code in _REPEATS:
            least, most, body = argument
            if least != most or not _is_fixed(body):
                return False
        elif code in _ONE_CHARACTER:
            continue
        elif code in _SEVERAL_WAYS or not all(_is_fixed(one) for one in _inner_patterns(argument)):
            return False
    return True


def _inner_patterns(argument: Any) -> list[SubPattern]:
    """Return the patterns of a group, a condition or the like."""
    parts = argument if isinstance(argument, tuple) else (argument,)
    return [part for part in parts if isinstance(part, SubPattern)]
