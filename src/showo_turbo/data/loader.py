"""Batches of a stream by number, prefetched by worker processes.

    stream.candidates --> (source, index) ..           main process: order, known bad samples
                               |
                          DataLoader workers           read files, decode images
                               |
    stream.sample_at <-- sample or its error           main process: check, log of bad samples, replacement

Decisions:
- Workers only read samples. State and everything that needs the model stay in the main process, which uses the results
  of the workers as a cache. So batches, log and errors are the same for any number of workers. The replacement of a
  newly found bad sample is read in the main process, once per bad sample.
- Workers start from a fork server, or are spawned where the system has none. A training process has threads (OpenMP,
  pyarrow, CUDA), and `fork` copies their locks: after a parallel region in the main process, the first one in a forked
  worker hangs. The fork server imports this package once, so a worker starts in tenths of a second instead of seconds.
- A signal that stops a training may end its workers too: schedulers send SIGTERM to all processes of a group. The main
  process then reads the batch itself, so the training takes its step to the end and saves.
- A training process that is killed cannot stop its workers, and torch's own check finds the fork server alive. So a
  thread of each worker waits for the end of the training process.
- Results are sent as bytes, since torch sends each tensor of a batch as a file descriptor of its own.
"""

import logging
import multiprocessing
import os
import pickle
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from showo_turbo.data.samples import BadSampleError, Sample
from showo_turbo.data.sources.source import Source
from showo_turbo.data.stream import MixedStream, Prefetched
from showo_turbo.errors import InputError

logger = logging.getLogger(__name__)

_START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"

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
        self.close()

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
        self._batches: Iterator[bytes] = iter(())
        self._next_number: int | None = None

    def _prefetched(self, number: int) -> Prefetched[S]:
        if number != self._next_number:
            self.close()
            self._batches = self._start_workers(number)
        self._next_number = None  # if the next line raises, a later batch starts new workers
        try:
            samples = pickle.loads(next(self._batches))
        except RuntimeError as error:
            if not isinstance(error.__cause__, queue.Empty):  # which torch waits for until a worker has ended
                raise
            logger.warning("workers that read data have ended: batch %s is read without them", number)
            return {}
        self._next_number = number + self.stride
        return samples

    def _start_workers(self, first: int) -> Iterator[bytes]:
        context = multiprocessing.get_context(_START_METHOD)
        context.set_forkserver_preload([__name__])
        loader: DataLoader[Prefetched[S]] = DataLoader(
            _SampleReader([one.source for one in self.stream.sources]),
            batch_size=None,
            sampler=_requests(self.stream, self.batch_size, first, self.stride),
            collate_fn=pickle.dumps,
            num_workers=self.num_workers,
            worker_init_fn=_prepare_worker,
            multiprocessing_context=context,
            generator=torch.Generator(),  # keeps the state of the global one
        )
        return iter(loader)


def _prepare_worker(worker: int) -> None:
    """Ignore Ctrl-C and a closed terminal, which reach all processes, and end with the main process.

    The main process stops its workers by SIGTERM, unless it is killed.
    """
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # Windows lacks SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_main_process, daemon=True).start()


def _end_with_main_process() -> None:
    main_process = multiprocessing.parent_process()
    assert main_process is not None  # in a worker
    main_process.join()
    os._exit(1)


class _SampleReader(Dataset[Prefetched[S]]):
    """Read samples in a worker: a map-style data set whose items are batches."""

    def __init__(self, sources: Sequence[Source[S]]) -> None:
        self.sources = sources

    def __getitem__(self, batch: list[tuple[int, int]]) -> Prefetched[S]:
        samples: dict[tuple[int, int], S | BadSampleError] = {}
        for number, index in batch:
            try:
                samples[number, index] = self.sources[number][index]
            except BadSampleError as error:
                samples[number, index] = BadSampleError(error.key, error.reason)  # without the traceback
            except InputError:  # the main process reads the sample again and raises the same error
                continue
        return samples


def _requests(stream: MixedStream[Any], batch_size: int, first: int, stride: int) -> Iterator[list[tuple[int, int]]]:
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
