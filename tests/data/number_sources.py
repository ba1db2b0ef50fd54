"""Sources for tests with worker processes, in a module that imports quickly."""

import os
from dataclasses import dataclass

from showo_turbo.data.samples import BadSampleError, TextSample
from showo_turbo.errors import InputError


@dataclass
class Numbers:
    """Give samples with their numbers as texts; some are bad, some raise another InputError."""

    length: int
    bad: frozenset[int] = frozenset()
    unreadable: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> TextSample:
        if index in self.bad:
            raise BadSampleError(f"number {index}", "it is bad")
        if index in self.unreadable:
            raise InputError(f"number {index}: the disk is gone")
        return TextSample(str(index), str(index))


class ProcessIds(Numbers):
    """Give samples with the id of the reading process as text."""

    def __getitem__(self, index: int) -> TextSample:
        return TextSample(str(index), str(os.getpid()))


class LongTexts(Numbers):
    """Give samples that are larger than the buffer of a pipe."""

    def __getitem__(self, index: int) -> TextSample:
        return TextSample(str(index), str(index) * 4_000_000)


class Defect(Numbers):
    """Raise a programming error for each sample."""

    def __getitem__(self, index: int) -> TextSample:
        raise ZeroDivisionError
