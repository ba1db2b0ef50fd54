"""API keys: read from files and options, compared in constant time."""

import hmac
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from showo_turbo.errors import InputError

_SHORTEST = 8


class ApiKeys:
    """Hold the digests of keys; without keys, everybody is let in."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        """Store digests only.

        Raises:
            InputError: if a key is short, or has white space or characters that a header does not take.
        """
        for key in keys:
            if len(key) < _SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
                raise InputError(
                    f"API key number {list(keys).index(key) + 1} is invalid: choose at least {_SHORTEST} printable "
                    "ASCII characters without spaces"
                )
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def find(self, authorization: str | None) -> str | None:
        """Return a name for the key of an `Authorization` header, or None if it is not one of these.

        All keys are compared, so the time does not depend on which one matches.
        """
        if not self._digests:
            return "anonymous"
        scheme, _, key = (authorization or "").partition(" ")
        digest = sha256(key.strip().encode(errors="replace")).digest()
        matches = [hmac.compare_digest(digest, one) for one in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            return None
        return digest.hex()[:8]


def read_keys(file: Path) -> list[str]:
    """Read a file with one key on each line; empty lines and lines that start with # are skipped.

    Raises:
        InputError: if the file cannot be read or has no key.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"API keys file {str(file)!r} cannot be read ({reason}): give one key on each line") from None
    keys = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not keys:
        raise InputError(f"API keys file {str(file)!r} has no key: give one key on each line")
    return keys
