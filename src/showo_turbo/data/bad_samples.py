"""The log of samples that cannot be used, which is also the memory of them.

A line is written when a bad sample is met for the first time: `{"source": .., "index": .., "key": .., "reason": ..}`.
What is in the log is never fetched again, in later epochs as after a resume. To have samples tried again once they are
mended, take their lines out.
"""

import json
from collections import Counter
from pathlib import Path

from showo_turbo.data.samples import BadSampleError
from showo_turbo.errors import InputError
from showo_turbo.files import append_json_line


class BadSamples:
    """The known bad samples of a stream."""

    def __init__(self, log: str | Path | None = None) -> None:
        """Read back what an earlier run logged.

        Args:
            log: JSONL file to read and to append to, one for each stream of each process; without one, nothing outlives
                the process.

        Raises:
            InputError: when the file cannot be read or written.
        """
        self.log = None if log is None else Path(log)
        self._known: dict[tuple[str, int], str] = {}
        if self.log is not None:
            self._read(self.log)

    def __contains__(self, place: tuple[str, int]) -> bool:
        """Whether a sample is known to be bad, by name of the source and index."""
        return place in self._known

    def __len__(self) -> int:
        """How many bad samples were met."""
        return len(self._known)

    def counts(self) -> dict[str, int]:
        """How many bad samples were met in each source that has any."""
        return dict(Counter(source for source, _ in self._known))

    def why(self, source: str, index: int) -> str:
        """Key of a known bad sample, and what is wrong with it."""
        return self._known[source, index]

    def add(self, source: str, index: int, error: BadSampleError) -> None:
        """Remember a bad sample and write its line."""
        self._known[source, index] = str(error)
        if self.log is not None:
            append_json_line(self.log, {"source": source, "index": index, "key": error.key, "reason": error.reason})

    def _read(self, log: Path) -> None:
        """Read the lines, and end the last one if the process died while it was written."""
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
                values = json.loads(line)
                self._known[values["source"], int(values["index"])] = f"{values['key']}: {values['reason']}"
            except (ValueError, KeyError, TypeError):
                continue  # a line that was cut short: its sample is met, and logged, again
