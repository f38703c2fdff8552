"""How many write requests a store may have in flight: a number that follows what the backend answers."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from typing import Final

from vecbridge.errors import BackendError, DeadlineError, RateLimitedError, UnavailableError

LOWERED_TO: Final = 0.7  # of what it was, as in CUBIC (RFC 9438): halving empties the pipe for longer
SLOW_FACTOR: Final = 2.0  # times the median
WINDOW_SECONDS: Final = 30.0  # of the median
SHORTEST_SLOW: Final = 0.02  # seconds; below, the noise of a busy machine is larger than what it would tell
FEWEST_LATENCIES: Final = 8  # before a median says something
MOST_LATENCIES: Final = 1_000  # of a window, so that a median costs less than 0.1 ms
UNAVAILABLE_IN_A_ROW: Final = 3  # a single answer of this kind happens to every server


@dataclass(frozen=True, slots=True)
class Sent:
    """A request in flight.

    Attributes:
        at: When it was begun, in seconds.
        full: Whether as many requests were in flight as might be, this one among them.
    """

    at: float
    full: bool


class RecentMedian:
    """The median of the last 30 seconds of latencies.

    Of more than a thousand latencies in that time it keeps a thousand, evenly spread over the time.
    """

    def __init__(self) -> None:
        self._latencies: deque[tuple[float, float]] = deque()  # (when, seconds)
        self._value: float | None = None

    def add(self, latency: float, now: float) -> None:
        """Takes a latency in seconds, and forgets those that are too old."""
        kept = self._latencies
        if kept and now - kept[-1][0] < WINDOW_SECONDS / MOST_LATENCIES:
            return
        kept.append((now, latency))
        while kept[0][0] < now - WINDOW_SECONDS:
            kept.popleft()
        enough = len(kept) >= FEWEST_LATENCIES
        self._value = statistics.median(each for _, each in kept) if enough else None

    def exceeded(self, latency: float, now: float) -> bool:
        """Whether a latency is at least twice the median, and long enough to mean something."""
        if self._value is None or self._latencies[-1][0] < now - WINDOW_SECONDS:
            return False
        return latency >= max(self._value * SLOW_FACTOR, SHORTEST_SLOW)


class RequestLimit:
    """Additive increase, multiplicative decrease, as TCP shares a line (Chiu and Jain 1989); not thread-safe.

    It rises by one when as many requests as it allows have succeeded, where so many were in flight. It falls
    to 0.7 of what it was on RateLimitedError, on DeadlineError and on a latency of at least twice the median
    of the last 30 seconds, of requests of about as many rows; on UnavailableError only if three come in a
    row. What was sent before it fell says nothing new and does not count::

        limit  8 ┤────╮ rate limited          ╭── the backend has recovered
                 │    ╰─╮                  ╭──╯
               1 ┤      ╰── slow ──────────╯
                 └─────────────────────────────── time

    Args:
        start: Requests at first.
        most: Requests at most.
    """

    def __init__(self, start: int, most: int) -> None:
        self._value = float(start)
        self._most = max(start, most)
        self._lowered_at = float("-inf")
        self._unavailable = 0
        self._medians: dict[int, RecentMedian] = {}

    @property
    def requests(self) -> int:
        """How many may be in flight; at least one."""
        return int(self._value)

    def succeeded(self, sent: Sent, rows: int, now: float) -> bool:
        """A request was answered; returns whether the limit is lower than before, because that took long.

        Args:
            sent: The request.
            rows: How many it had.
            now: The time, in seconds.
        """
        latency = now - sent.at
        # A request of few rows is faster; hence a median for each power of two.
        median = self._medians.setdefault(rows.bit_length(), RecentMedian())
        slow = median.exceeded(latency, now)
        median.add(latency, now)
        self._unavailable = 0
        if slow:
            return self._lower(sent, now)
        if sent.full and sent.at >= self._lowered_at:
            self._value = min(self._value + 1 / self._value, float(self._most))
        return False

    def failed(self, sent: Sent, error: BaseException, now: float) -> bool:
        """A request failed; returns whether the limit is lower than before.

        Args:
            sent: The request.
            error: Why; as mapped by the driver.
            now: The time, in seconds.
        """
        if isinstance(error, UnavailableError):
            self._unavailable += 1
            if self._unavailable < UNAVAILABLE_IN_A_ROW:
                return False
            self._unavailable = 0
        elif not is_overload(error):
            return False
        return self._lower(sent, now)

    def _lower(self, sent: Sent, now: float) -> bool:
        if sent.at < self._lowered_at:
            return False
        before = self.requests
        self._value = max(self._value * LOWERED_TO, 1.0)
        self._lowered_at = now
        return self.requests < before


def is_overload(error: BaseException) -> bool:
    """Whether an error says that the backend has too much to do."""
    return isinstance(error, BackendError) and isinstance(error, RateLimitedError | DeadlineError)
