"""A lock that many can share, or one can have alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vecbridge.driver import Deadline
from vecbridge.errors import DeadlineError


class SharedExclusiveLock:
    """A reader-writer lock: any number of shared holders, or a single exclusive one."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._shared = 0
        self._exclusive = False

    @contextmanager
    def shared(self, deadline: Deadline) -> Iterator[None]:
        """Waits for an exclusive holder to leave.

        Raises:
            DeadlineError: It did not leave in time.
        """
        with self._condition:
            self._wait(lambda: not self._exclusive, deadline, "a repair of the index goes on")
            self._shared += 1
        try:
            yield
        finally:
            with self._condition:
                self._shared -= 1
                self._condition.notify_all()

    @contextmanager
    def exclusive(self, deadline: Deadline) -> Iterator[None]:
        """Waits for all other holders to leave, and keeps new ones out.

        Raises:
            DeadlineError: There was always one.
        """
        with self._condition:
            free = "other threads write without a pause: wait for their end first"
            self._wait(lambda: not (self._shared or self._exclusive), deadline, free)
            self._exclusive = True
        try:
            yield
        finally:
            with self._condition:
                self._exclusive = False
                self._condition.notify_all()

    def _wait(self, free: Callable[[], bool], deadline: Deadline, reason: str) -> None:
        if not self._condition.wait_for(free, deadline.left()):
            raise DeadlineError(reason)
