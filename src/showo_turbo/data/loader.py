"""Batches of a stream by number, read ahead by worker processes.

    stream.candidates --> (source, index) ..           main process: order, known bad samples
                               |
                         SampleWorkers                 workers: read files, decode images
                               |
    stream.sample_at <-- sample or its error           main process: check, log of bad samples, replacement

Decisions:
- Workers only read samples. State and everything that needs the model stay in the main process, which uses the results
  of the workers as a cache. So batches, log and errors are the same for any number of workers. The replacement of a
  newly found bad sample is read in the main process, once per bad sample.
- A signal that stops a training may end its workers too: schedulers send SIGTERM to all processes of a group. The main
  process then reads the batch itself, so the training takes its step to the end and saves.
"""

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

from showo_turbo.data.sample_workers import Request, SampleWorkers, WorkerEndedError
from showo_turbo.data.samples import Sample
from showo_turbo.data.stream import MixedStream, Prefetched

logger = logging.getLogger(__name__)

S = TypeVar("S", bound=Sample)


class SampleLoader(Generic[S]):
    """Read the batches of one process by number."""

    def __init__(self, stream: MixedStream[S], batch_size: int, num_workers: int = 0, stride: int = 1) -> None:
        """Configure the loader; the first batch starts the workers.

        Args:
            stream: the stream to read; its sources must be picklable if there are workers.
            batch_size: number of samples in a batch of this process.
            num_workers: number of worker processes; 0 reads in this process. With workers, a script needs the guard
                `if __name__ == "__main__":`, since each worker imports the script.
            stride: distance between the numbers of batches that are read one after another. If all processes read the
                same stream, and each of `stride` processes every `stride`-th batch, their samples differ, and runs may
                be resumed with another number of processes.
        """
        self.stream, self.batch_size, self.num_workers, self.stride = stream, batch_size, num_workers, stride
        self._workers: SampleWorkers[S] | None = None
        self._next_number: int | None = None

    def batch(self, number: int) -> list[S]:
        """Return the samples of a batch, counted from 0. Any order is possible; only one by `stride` is prefetched.

        Raises:
            InputError: if `MixedStream.sample_at` does.
        """
        prefetched = self._prefetched(number) if self.num_workers else None
        return [
            self.stream.sample_at(position, prefetched) for position in _positions(self.stream, self.batch_size, number)
        ]

    def close(self) -> None:
        """Stop the workers; a later batch starts new ones."""
        if self._workers is not None:
            self._workers.close()
        self._workers = self._next_number = None

    def _prefetched(self, number: int) -> Prefetched[S]:
        if self._workers is None or number != self._next_number:
            self.close()
            sources = [one.source for one in self.stream.sources]
            requests = _requests(self.stream, self.batch_size, number, self.stride)
            self._workers = SampleWorkers(sources, requests, self.num_workers)
        try:
            samples = self._workers.read()
        except WorkerEndedError:
            logger.warning("workers that read data have ended: batch %s is read without them", number)
            self.close()
            return {}
        self._next_number = number + self.stride
        return samples


def _requests(stream: MixedStream[Any], batch_size: int, first: int, stride: int) -> Iterator[Request]:
    """Yield (source, index) of the samples to prefetch for each batch: the first candidates not known to be bad."""
    number = first
    while True:
        batch = []
        for position in _positions(stream, batch_size, number):
            source, indices = stream.candidates(position)
            name = stream.sources[source].name
            usable = (index for index in indices if (name, index) not in stream.bad_samples)
            batch += [(source, index) for index in islice(usable, 1)]
        yield batch
        number += stride


def _positions(stream: MixedStream[Any], batch_size: int, number: int) -> range:
    """Return the positions of a batch of this process in the stream."""
    size = batch_size * stream.world_size
    return range(number * size + stream.rank, (number + 1) * size, stream.world_size)
