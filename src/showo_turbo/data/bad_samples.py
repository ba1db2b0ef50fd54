"""Log of the samples that cannot be used.

The first time that a bad sample is read, a line is written: `{"source": .., "index": .., "key": .., "reason": ..}`.
Samples in the log are not read again, neither in later epochs nor after a resume. Remove lines to retry repaired
samples.
"""

from collections import Counter
from pathlib import Path

from showo_turbo.data.samples import BadSampleError
from showo_turbo.errors import InputError
from showo_turbo.files import append_json_line, parse_json


class BadSamples:
    """Hold the bad samples that a stream has found so far."""

    def __init__(self, log: str | Path | None = None) -> None:
        """Read the log of an earlier run, if there is one.

        Args:
            log: JSONL file to read and append to, a different one for each stream and process; None keeps the bad
                samples in memory only.

        Raises:
            InputError: if the file cannot be read or written.
        """
        self.log = None if log is None else Path(log)
        self._known: dict[tuple[str, int], str] = {}
        if self.log is not None:
            self._read(self.log)

    def __contains__(self, source_and_index: tuple[str, int]) -> bool:
        return source_and_index in self._known

    def __len__(self) -> int:
        return len(self._known)

    def counts(self) -> dict[str, int]:
        """Return the number of bad samples of each source that has any."""
        return dict(Counter(source for source, _ in self._known))

    def reason(self, source: str, index: int) -> str:
        """Return key and error of a known bad sample."""
        return self._known[source, index]

    def add(self, source: str, index: int, error: BadSampleError) -> None:
        """Add a bad sample and write its line."""
        self._known[source, index] = str(error)
        if self.log is not None:
            append_json_line(self.log, {"source": source, "index": index, "key": error.key, "reason": error.reason})

    def _read(self, log: Path) -> None:
        """Read the lines, and end the last one if a process was killed while writing it."""
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a+") as file:
                file.seek(0)
                content = file.read()
                if content and not content.endswith("\n"):
                    file.write("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"log of bad samples {str(log)!r} cannot be used ({error})") from error
        for line in content.splitlines():
            try:
                values = parse_json(line)
                self._known[values["source"], int(values["index"])] = f"{values['key']}: {values['reason']}"
            except (ValueError, KeyError, TypeError):
                continue  # truncated line: its sample is read and logged again
