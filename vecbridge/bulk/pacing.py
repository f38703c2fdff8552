"""A limit to the rows a second, shared by threads."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from vecbridge.bulk.delivery import pause
from vecbridge.errors import ConfigError


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
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not rate > 0):
            raise ConfigError(f"max_rate={rate!r}: rows a second, above 0, or None")
        self.rate = rate
        self._stop, self._clock = stop, clock
        self._free_at = clock()
        self._mutex = threading.Lock()

    @property
    def rows(self) -> int:
        """The most rows that are sent at a time, so that they pass evenly: those of a second."""
        return sys.maxsize if self.rate is None else int(max(1, min(self.rate, sys.maxsize)))

    def wait(self, rows: int) -> None:
        """Waits until these rows may pass.

        Raises:
            StoppedError: The run ended meanwhile.
        """
        if self.rate is None:
            return
        with self._mutex:
            now = self._clock()
            begin = max(self._free_at, now)
            self._free_at = begin + rows / self.rate
        if begin > now:
            pause(self._stop, begin - now)
