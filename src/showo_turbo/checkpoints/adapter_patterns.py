"""Match the regular expressions of an adapter's config, which come from a stranger, within a time limit."""

import re
import time

import regex

from showo_turbo.errors import InputError

_SECONDS = 0.5
_MAX_CHARACTERS = 1000


class AdapterPatterns:
    """Compile and match the regular expressions of one adapter, within a time limit for all of them.

    Attributes:
        source: the adapter, for error messages.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._deadline = time.monotonic() + _SECONDS

    def compile(self, name: str, expression: str, form: str = "{}") -> "regex.Pattern[str]":
        """Compile a regular expression of a field of the config.

        Args:
            name: the field.
            expression: its value.
            form: the expression that PEFT makes of the value.

        Raises:
            InputError: if it is too long, or no regular expression.
        """
        try:
            if len(expression) > _MAX_CHARACTERS:
                raise ValueError(f"it has {len(expression):,} characters")
            re.compile(form.format(expression))  # this library accepts less, and PEFT uses it
            return regex.compile(form.format(expression))
        except (re.error, regex.error, ValueError, OverflowError, RecursionError) as error:
            shown = expression if len(expression) <= 60 else f"{expression[:60]}..."
            raise InputError(f"{self.source} has {name} {shown!r}, which is no regular expression ({error})") from error

    def match(self, pattern: "regex.Pattern[str]", module: str) -> "regex.Match[str] | None":
        """Match the beginning of the name of a module.

        Raises:
            InputError: if it takes too long.
        """
        try:
            return pattern.match(module, timeout=max(self._deadline - time.monotonic(), 0.001))
        except TimeoutError as error:
            raise InputError(
                f"{self.source} has pattern {pattern.pattern!r}, which takes too long to match: simplify it"
            ) from error
