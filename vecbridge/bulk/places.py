"""How many upserts of a bulk write are under way at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext


def _no_limit(rows: int) -> None:
    """Default pace: waits for nothing."""


class Places:
    """Has at most so many upserts under way; one that waits for its retry does not count.

    Args:
        count: Upserts at a time.
        pace: Waits until so many rows may be sent.
        work: Is entered for as long as an upsert is under way.
    """

    def __init__(
        self,
        count: int,
        pace: Callable[[int], None] = _no_limit,
        work: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._count = count
        self._pace, self._work = pace, work
        self._free = threading.Semaphore(count)
        self._lock = threading.Lock()
        self._pausing = 0
        self._next_pause: Future[None] = Future()

    @property
    def threads(self) -> int:
        """Threads that are needed: beside those that send, as many may wait for their retries.

        With one place there is one thread, which keeps the order.
        """
        return self._count if self._count == 1 else 2 * self._count

    def crowded(self, begun: int) -> Future[None] | None:
        """Whether to wait before one more part is begun.

        Args:
            begun: Parts that are begun and not done.

        Returns:
            None if one more may be begun. Else what ends when a part begins to wait for its retry.
        """
        with self._lock:
            return self._next_pause if begun > min(self._count + self._pausing, self.threads) else None

    @contextmanager
    def held(self, rows: int) -> Iterator[None]:
        """Waits until so many rows may be sent and a place is free, and holds it for an upsert."""
        self._pace(rows)
        with self._free, self._work():
            yield

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """For the pause before a retry, in which another upsert may be under way."""
        with self._lock:
            self._pausing += 1
            begun, self._next_pause = self._next_pause, Future()
        begun.set_result(None)
        try:
            yield
        finally:
            with self._lock:
                self._pausing -= 1
