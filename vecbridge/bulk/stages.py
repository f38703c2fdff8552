"""How busy each stage of a bulk write is, so that a user sees which one holds the others up."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final

WINDOW: Final = 10.0  # seconds; the shares are those of so long a time, so that they follow a change
_STEP: Final = 0.5  # seconds between two looks that are kept


class Stage:
    """One stage: a few slots that work or wait.

    Args:
        slots: How many threads may work in it at a time.
        clock: Seconds that only grow.
    """

    def __init__(self, slots: int, clock: Callable[[], float]) -> None:
        self.slots = slots
        self._clock = clock
        self._lock = threading.Lock()
        self._done = 0.0
        self._working = 0
        self._starts = 0.0  # sum of the times at which those began that work now

    @contextmanager
    def work(self) -> Iterator[None]:
        """One slot works."""
        with self._lock:
            start = self._clock()
            self._working += 1
            self._starts += start
        try:
            yield
        finally:
            with self._lock:
                self._working -= 1
                self._starts -= start
                self._done += self._clock() - start

    def busy(self, now: float) -> float:
        """Seconds of work so far, over all slots; what is under way counts up to now."""
        with self._lock:
            return self._done + self._working * now - self._starts


class StageTimes:
    """The stages of one run, in the order in which rows go through them.

    Args:
        slots: How many threads may work in each stage.
        clock: Seconds that only grow.
    """

    def __init__(self, slots: Mapping[str, int], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._stages = {name: Stage(count, clock) for name, count in slots.items()}
        self._looks: deque[tuple[float, dict[str, float]]] = deque(
            [(self._began, dict.fromkeys(self._stages, 0.0))]
        )

    def __contains__(self, name: object) -> bool:
        return name in self._stages

    def work(self, name: str) -> AbstractContextManager[None]:
        """One slot of a stage works."""
        return self._stages[name].work()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self._clock() - self._began

    def totals(self) -> dict[str, float]:
        """Seconds of work in each stage so far, over all its slots."""
        now = self._clock()
        return {name: stage.busy(now) for name, stage in self._stages.items()}

    def average(self) -> dict[str, float]:
        """The share of its time, from 0 to 1, that each stage was busy since the run began."""
        seconds = max(self.seconds, 1e-9)
        return {
            name: min(total / seconds / self._stages[name].slots, 1.0)
            for name, total in self.totals().items()
        }

    def shares(self) -> dict[str, float]:
        """The share of its time, from 0 to 1, that each stage was busy in the last ten seconds."""
        now, totals = self._clock(), self.totals()
        while len(self._looks) > 1 and now - self._looks[1][0] >= WINDOW:
            self._looks.popleft()
        since, before = self._looks[0]
        if now - self._looks[-1][0] >= _STEP:
            self._looks.append((now, totals))
        span = max(now - since, 1e-9)
        return {
            name: min((totals[name] - before[name]) / span / stage.slots, 1.0)
            for name, stage in self._stages.items()
        }
