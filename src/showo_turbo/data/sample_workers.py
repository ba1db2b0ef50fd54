"""Worker processes that read batches of samples ahead.

    requests: [(source, index), ..] --pipe--> worker 0: reads files, decodes images --pipe--> {(source, index): sample}
                                    --pipe--> worker 1

Decisions:
- Each worker has a pipe of its own, and no lock or queue is shared. So a worker that is killed at any moment, while it
  writes too, is the end of its pipe and nothing else. A queue that is shared by processes can stay locked forever.
- A worker has one request at a time: the next one is sent after its result is received. So a full pipe cannot block
  both processes, and each worker prefetches one batch.
- Workers start from a fork server, or are spawned where the system has none. A training process has threads (OpenMP,
  pyarrow, CUDA), and `fork` copies their locks: after a parallel region in the main process, the first one in a forked
  worker hangs. The fork server imports this package once, so a worker starts in tenths of a second instead of seconds.
- Results are pickled here, since a connection would send each tensor of a batch as a file descriptor of its own.
"""

import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

import torch

from showo_turbo.data.samples import BadSampleError, Sample
from showo_turbo.data.sources.source import Source
from showo_turbo.data.stream import Prefetched

_START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"

S = TypeVar("S", bound=Sample)
Request = list[tuple[int, int]]


class WorkerEndedError(Exception):
    """Raised if a worker has ended before it gave its result."""


class SampleWorkers(Generic[S]):
    """Read the samples of endless requests in worker processes, in the order of the requests."""

    def __init__(self, sources: Sequence[Source[S]], requests: Iterator[Request], num_workers: int) -> None:
        """Start the workers and send the first requests.

        Args:
            sources: sources to read from; each worker gets a pickled copy.
            requests: number of the source and index of each sample of a batch, without an end.
            num_workers: number of worker processes, at least 1.
        """
        context: Any = multiprocessing.get_context(_START_METHOD)  # typeshed knows `Process` of single contexts only
        context.set_forkserver_preload([__name__])
        self._requests = requests
        self._workers: deque[tuple[multiprocessing.Process, Connection]] = deque()
        for _ in range(num_workers):
            connection, connection_of_worker = context.Pipe()
            process = context.Process(target=_read_requests, args=(connection_of_worker, sources), daemon=True)
            process.start()
            connection_of_worker.close()  # the worker holds the only copy, so its end is the end of the pipe
            self._workers.append((process, connection))
            self._send_request(connection)

    def read(self) -> Prefetched[S]:
        """Return the samples of the next request, or their errors.

        A sample that is missing could not be read; reading it here raises the error of the worker.

        Raises:
            WorkerEndedError: if the worker of this request has ended.
        """
        _, connection = self._workers[0]
        self._workers.rotate(-1)
        try:
            result = connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise WorkerEndedError from error
        self._send_request(connection)
        return pickle.loads(result)

    def close(self) -> None:
        """Stop the workers. They only read, so nothing is lost."""
        for process, connection in self._workers:
            process.kill()
            process.join()
            connection.close()
        self._workers.clear()

    def __del__(self) -> None:
        self.close()

    def _send_request(self, connection: Connection) -> None:
        request = next(self._requests)
        with suppress(OSError):  # reading the result tells that the worker has ended
            connection.send(request)


def _read_requests(connection: Connection, sources: Sequence[Source[Any]]) -> None:
    """Answer requests until the main process closes the pipe or ends.

    Ctrl-C and a closed terminal reach all processes of a terminal; a worker ignores them, so that the main process can
    take its step to the end.
    """
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # Windows lacks SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    torch.set_num_threads(1)
    with suppress(EOFError, OSError):  # the main process has ended
        while True:
            connection.send_bytes(pickle.dumps(_read_samples(sources, connection.recv())))


def _read_samples(sources: Sequence[Source[S]], request: Request) -> Prefetched[S]:
    samples: dict[tuple[int, int], S | BadSampleError] = {}
    for source, index in request:
        try:
            samples[source, index] = sources[source][index]
        except BadSampleError as error:
            samples[source, index] = BadSampleError(error.key, error.reason)  # without the traceback
        except Exception:  # the main process reads the sample again and raises the same error
            continue
    return samples
