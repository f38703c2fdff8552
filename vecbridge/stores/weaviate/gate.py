"""Writers side by side, or one who is alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vecbridge.errors import DeadlineError


class Gate:
    """Lets any number in, or one alone."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._inside = 0

    @contextmanager
    def among_others(self) -> Iterator[None]:
        """Waits until nobody is alone inside."""
        with self._condition:
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self, deadline: float) -> Iterator[None]:
        """Waits until nobody is inside, and keeps others out.

        Raises:
            DeadlineError: Somebody was inside all the time until ``deadline``, on the monotonic clock.
        """
        with self._condition:
            left = max(deadline - time.monotonic(), 0)
            if not self._condition.wait_for(lambda: not self._inside, left):
                raise DeadlineError("other threads wrote all the time: wait for their end first")
            yield
