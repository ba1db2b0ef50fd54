"""Read samples by threads, ahead of the work on them and in their order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(
    threads: ThreadPoolExecutor, read: Callable[[int], T], numbers: Iterable[int], ahead: int
) -> Iterator[T]:
    """Yield what a function returns for numbers, in their order; at most `ahead` results wait in memory."""
    waiting: deque[Future[T]] = deque()
    for number in numbers:
        waiting.append(threads.submit(read, number))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
