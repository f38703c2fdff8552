"""Work on items ahead of their consumer, in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_MOST_THREADS: Final = 32


def default_threads() -> int:
    """One a core, 32 at most."""
    return min(os.cpu_count() or 1, _MOST_THREADS)


def ahead(items: Iterable[T], work: Callable[[T], R], *, threads: int, depth: int, name: str) -> Iterator[R]:
    """Does the work for up to ``depth`` items ahead of the consumer; results come in the order of the items.

    An exception of ``work`` reaches the consumer at the place of its item. Where the consumer stops early,
    what has not begun is not done.

    Args:
        items: Read one by one, as results are taken.
        work: Called in the threads.
        threads: How many.
        depth: Results that may wait at most; they bound the memory.
        name: What the threads are called.
    """
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
