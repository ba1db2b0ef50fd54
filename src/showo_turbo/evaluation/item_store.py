"""Results of items in a folder that several processes fill, resumable to the item.

    FOLDER/items-0000.jsonl    {"run": ..} {"id": "17", ..} {"id": "19", ..}      written by process 0
    FOLDER/items-0001.jsonl    {"run": ..} {"id": "18", ..}                       written by process 1

Decisions:
- Every process appends to a file of its own and reads all, so processes need no connection, and a run can be resumed
  with another number of them.
- A line is written when the files of its item are complete. A kill can cut the last line only; it has no line end, is
  skipped by readers and removed when the file is written again.
- Which items a process takes depends on the list of items and the number of processes only, never on what others have
  done, so that no item is done twice.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from showo_turbo.errors import InputError
from showo_turbo.evaluation.items import Item
from showo_turbo.files import parse_json


@dataclass(frozen=True)
class Process:
    """Hold the position of this process among those of a run.

    Attributes:
        index: 0 is the first.
        count: number of processes.
        local_index: index among those of this machine.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0

    @classmethod
    def from_environment(cls) -> Self:
        """Return the process that `torchrun` or `accelerate launch` has started; the only one without a launcher.

        Raises:
            InputError: if one of RANK, WORLD_SIZE and LOCAL_RANK is invalid.
        """
        values: dict[str, int] = {}
        for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)):
            text = os.environ.get(name, str(default))
            if not text.isdecimal():
                raise InputError(f"environment variable {name} is {text!r}: expected the number that a launcher sets")
            values[name] = int(text)
        if values["RANK"] >= values["WORLD_SIZE"]:
            raise InputError(f"RANK is {values['RANK']} of WORLD_SIZE {values['WORLD_SIZE']}: expected a smaller one")
        return cls(values["RANK"], values["WORLD_SIZE"], values["LOCAL_RANK"])

    def select(self, items: Sequence[Item]) -> list[Item]:
        """Return the items of this process; consecutive questions about one image are never divided."""
        groups = [list(group) for _, group in groupby(items, key=lambda item: item.image or item.id)]
        return [item for group in groups[self.index :: self.count] for item in group]


class ItemStore:
    """Read the results in a folder, and add those of one process."""

    def __init__(self, folder: Path) -> None:
        """Open a folder of results."""
        self.folder = folder
        self._file: Path | None = None
        self._start = 0.0

    def results(self) -> dict[str, dict[str, Any]]:
        """Return the results of all processes by the id of the item.

        Raises:
            InputError: if a line is damaged.
        """
        return {record["id"]: record for record in self._records() if "id" in record}

    def runs(self) -> list[dict[str, Any]]:
        """Return one record for every process of every run: `processes`, `start` and `seconds` up to its last item."""
        found: list[dict[str, Any]] = []
        for record in self._records():
            if "run" in record:
                found.append(record["run"] | {"seconds": 0.0})
            else:
                found[-1]["seconds"] = record["at"]
        return found

    def begin(self, process: Process) -> None:
        """Start a run of a process: later results are added to its file."""
        self._file, self._start = self.folder / f"items-{process.index:04}.jsonl", time.monotonic()
        if self._file.exists():
            content = self._file.read_bytes()
            os.truncate(self._file, content.rfind(b"\n") + 1)
        self._append({"run": {"process": process.index, "processes": process.count, "start": time.time()}})

    def add(self, key: str, result: dict[str, Any]) -> None:
        """Add the result of an item by its id; its files are complete.

        Raises:
            OSError: if the disk is full or the like.
        """
        self._append({"id": key, **result, "at": round(time.monotonic() - self._start, 3)})

    def _append(self, record: dict[str, Any]) -> None:
        assert self._file is not None
        line = json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
        with self._file.open("ab", buffering=0) as file:
            if file.write(line) != len(line):
                raise OSError(f"{str(self._file)!r} could not be written: is the disk full?")

    def _records(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self.folder.glob("items-*.jsonl")):
            lines = path.read_bytes().split(b"\n")
            for number, line in enumerate(lines[:-1], 1):  # what follows the last line end was cut by a kill
                try:
                    record = parse_json(line)
                except ValueError:
                    record = None
                if not isinstance(record, dict) or not {"id", "run"} & set(record):
                    raise InputError(f"{str(path)!r}, line {number} is damaged: remove the line to do its item again")
                yield record


def wall_seconds(runs: Sequence[dict[str, Any]]) -> float:
    """Return the time in which at least one process was working: the length of the union of their intervals."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted((run["start"], run["start"] + run["seconds"]) for run in runs):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
