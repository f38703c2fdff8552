"""Limits that all parts of a copy share: rows a second, and bytes in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from vecbridge.bulk.delivery import StoppedError, pause
from vecbridge.errors import ConfigError

_POLL_SECONDS: Final = 0.2  # between two looks at whether the copy has ended


class Pace:
    """Lets rows pass at a rate, whichever thread they come from.

    Args:
        rate: Rows a second; None is no limit.
        stop: Ends the wait.
        clock: The time in seconds.

    Raises:
        ConfigError: A rate that is not above 0.
    """

    def __init__(
        self, rate: float | None, stop: threading.Event, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if rate is not None and not rate > 0:
            raise ConfigError(f"max_rate={rate}: rows a second, above 0, or None")
        self.rate = rate
        self._stop, self._clock = stop, clock
        self._free_at = clock()
        self._mutex = threading.Lock()

    def wait(self, rows: int) -> None:
        """Waits until these rows may pass.

        Raises:
            StoppedError: The copy ended meanwhile.
        """
        if self.rate is None:
            return
        with self._mutex:
            now = self._clock()
            begin = max(self._free_at, now)
            self._free_at = begin + rows / self.rate
        if begin > now:
            pause(self._stop, begin - now)


class Room:
    """Bytes of pages that may be in memory at a time, over all parts.

    One page fits always, however large it is. A part that holds pages must give them back before it waits:
    then whoever has room goes on, and nobody waits for ever.

    Args:
        size: Bytes.
        stop: Ends a wait.
    """

    def __init__(self, size: int, stop: threading.Event) -> None:
        self._size, self._stop = size, stop
        self._used = 0
        self._changed = threading.Condition()

    def try_take(self, size: int) -> bool:
        """Takes room if there is some now."""
        with self._changed:
            return self._take(size)

    def take(self, size: int) -> None:
        """Waits for room, and takes it.

        Raises:
            StoppedError: The copy ended meanwhile.
        """
        with self._changed:
            while not self._take(size):
                if self._stop.is_set():
                    raise StoppedError
                self._changed.wait(_POLL_SECONDS)

    def resize(self, before: int, now: int) -> None:
        """Corrects what was taken for a page before its size was known; gives it back where ``now`` is 0."""
        with self._changed:
            self._used += now - before
            self._changed.notify_all()

    def _take(self, size: int) -> bool:
        if self._used and self._used + size > self._size:
            return False
        self._used += size
        return True
