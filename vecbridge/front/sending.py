"""One upsert as several requests: how many are in flight, and what became of each row."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Final

import pyarrow as pa

from vecbridge.driver import CollectionDriver, Deadline, RequestLimits, WritePart, WriteResult
from vecbridge.errors import BackendError, Failure, PartialWriteError, TooLargeError, VecbridgeError
from vecbridge.front.adaptive import RequestLimit, Sent, is_overload
from vecbridge.query import WriteReport

_LOG: Final = logging.getLogger(__name__)
_THREAD: Final = threading.local()


class RequestCap:
    """The requests that one bulk write may have in flight, whatever the store takes.

    Args:
        count: Requests in flight, at most.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = threading.Semaphore(count)

    def __enter__(self) -> None:
        self._free.acquire()

    def __exit__(self, *_: object) -> None:
        self._free.release()

    def hold(self) -> None:
        """From now on, the upserts of this thread keep to it."""
        _THREAD.cap = self


class RequestSlots:
    """The write requests that a store has in flight; shared by its collections and by bulk writes.

    Args:
        start: Requests in flight at first, at most.
        most: That number at most, as the backend's answers raise it; 1 keeps it at 1.
        backend: Its name, in what is logged.
        clock: The time in seconds.
    """

    def __init__(
        self, start: int, most: int | None = None, *, backend: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.most = start if most is None else max(start, most)
        self._backend = backend
        self._clock = clock
        self._limit = RequestLimit(start, self.most)
        self._in_flight = 0
        self._freed = threading.Condition(threading.Lock())
        self._pool: ThreadPoolExecutor | None = None

    @property
    def at_once(self) -> int:
        """How many requests may be in flight now."""
        return self._limit.requests

    def __enter__(self) -> Sent:
        """Waits until one more request may be in flight."""
        with self._freed:
            while self._in_flight >= self._limit.requests:
                self._freed.wait()
            self._in_flight += 1
            return Sent(self._clock(), self._in_flight >= self._limit.requests)

    def __exit__(self, *_: object) -> None:
        with self._freed:
            self._in_flight -= 1
            self._freed.notify()

    def succeeded(self, sent: Sent, rows: int) -> None:
        """Has the limit learn from an answer."""
        if self.most == 1:
            return
        with self._freed:
            now = self._clock()
            before, lowered = self._limit.requests, self._limit.succeeded(sent, rows, now)
            if self._limit.requests > before:
                self._freed.notify_all()
        if lowered:
            self._log_lowered(f"an answer took {now - sent.at:.2f} s")

    def failed(self, sent: Sent, error: BaseException) -> None:
        """Has the limit learn from an error."""
        if self.most == 1:
            return
        with self._freed:
            lowered = self._limit.failed(sent, error, self._clock())
        if lowered:
            self._log_lowered(type(error).__name__)

    def submit(self, call: Callable[[WritePart], Sequence[RowsOutcome]], part: WritePart) -> _Sent:
        """Begins a call in the pool, which is made by the first one."""
        with self._freed:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.most, thread_name_prefix="vecbridge-send")
            return self._pool.submit(call, part)

    def close(self) -> None:
        """Lets the threads of the pool go, without waiting for what they do."""
        with self._freed:
            if self._pool is not None:
                self._pool.shutdown(wait=False)
            self._pool = None

    def _log_lowered(self, why: str) -> None:
        now = self.at_once
        _LOG.info(
            "%s: %d write requests in flight at most from now on: %s", self._backend, now, why,
            extra={"backend": self._backend, "requests": now, "reason": why},
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RowsOutcome:
    """What became of adjacent rows.

    Attributes:
        rows: How many.
        error: Why they were not acknowledged; None if they were.
        rejected: Whether they are then certainly not stored.
        present: Whether they were left out because their ids are there already.
    """

    rows: int
    error: VecbridgeError | None = None
    rejected: bool = False
    present: bool = False


_Sent = Future[Sequence[RowsOutcome]]


class Sender:
    """Sends the requests of one upsert. After one that failed, no further one is begun.

    Args:
        driver: Where they go.
        write: Sends a request: a verb of the driver.
        rows: The checked rows.
        limits: Of a request.
        slots: Requests in flight.
        timeout: Seconds for each request.
        atomic: Whether the backend stores a request whole or not at all.
        mapped: What an exception of the driver becomes.
    """

    def __init__(
        self, driver: CollectionDriver, write: Callable[[WritePart, Deadline], WriteResult],
        rows: pa.RecordBatch, limits: RequestLimits, slots: RequestSlots, *, timeout: float, atomic: bool,
        mapped: Callable[[Exception, str], VecbridgeError],
    ) -> None:  # fmt: skip
        self._driver = driver
        self._write = write
        self._rows = rows
        self._limits = limits
        self._slots = slots
        self._timeout = timeout
        self._atomic = atomic
        self._mapped = mapped
        self._cap: RequestCap | None = getattr(_THREAD, "cap", None)
        self._stopped: VecbridgeError | None = None

    def send(self, parts: Iterator[WritePart]) -> list[RowsOutcome]:
        """Sends the prepared requests; what became of the rows, in their order."""
        first, second = next(parts), next(parts, None)
        most = self._slots.most if self._cap is None else min(self._slots.most, self._cap.count)
        if second is None or most == 1:
            rest = parts if second is None else chain([second], parts)
            return [outcome for part in chain([first], rest) for outcome in self._deliver(part)]
        outcomes: list[RowsOutcome] = []
        in_flight: deque[_Sent] = deque()
        for part in chain([first, second], parts):
            in_flight.append(self._slots.submit(self._deliver, part))
            if len(in_flight) > min(self._slots.at_once, most):
                outcomes += in_flight.popleft().result()
        for sent in in_flight:
            outcomes += sent.result()
        return outcomes

    def _deliver(self, part: WritePart) -> list[RowsOutcome]:
        try:
            with self._cap or nullcontext(), self._slots as sent:
                if self._stopped is not None:
                    return [RowsOutcome(len(part.rows), self._stopped, rejected=True)]
                result = self._write(part, Deadline.after(self._timeout))
        except Exception as exc:  # noqa: BLE001 - whatever a driver raises is mapped and reported
            return self._failed(part, sent, exc)
        self._learn(sent, part, result)
        if not result.refused and not result.present:
            return [RowsOutcome(len(part.rows))]
        return [_outcome(result, place) for place in range(len(part.rows))]

    def _learn(self, sent: Sent, part: WritePart, result: WriteResult) -> None:
        """Has the store's limit learn from an answer, in which single rows may have failed."""
        for refusal in result.refused.values():
            if is_overload(refusal.error):
                self._slots.failed(sent, refusal.error)
                return
        self._slots.succeeded(sent, len(part.rows))

    def _failed(self, part: WritePart, sent: Sent, exc: Exception) -> list[RowsOutcome]:
        error = self._mapped(exc, "upsert")
        if error is not exc:
            error.__cause__ = exc
        self._slots.failed(sent, error)
        if isinstance(error, TooLargeError):
            if len(part.rows) > 1:
                return self._halved(part.rows)
            return [RowsOutcome(1, error, rejected=True)]  # the fault of this row alone: the others go on
        self._stopped = error
        rejected = self._atomic or not isinstance(error, BackendError) or error.unsent
        return [RowsOutcome(len(part.rows), error, rejected)]

    def _halved(self, rows: range) -> list[RowsOutcome]:
        """Sends a request that was too large again, as two."""
        middle = rows.start + len(rows) // 2
        outcomes: list[RowsOutcome] = []
        for half in (range(rows.start, middle), range(middle, rows.stop)):
            batch = self._rows.slice(half.start, len(half))
            for part in self._driver.prepare(batch, self._limits):
                placed = range(half.start + part.rows.start, half.start + part.rows.stop)
                outcomes += self._deliver(WritePart(placed, part.payload))
        return outcomes


def _outcome(result: WriteResult, place: int) -> RowsOutcome:
    if (refusal := result.refused.get(place)) is not None:
        return RowsOutcome(1, refusal.error, refusal.stored == "no")
    return RowsOutcome(1, present=place in result.present)


def rows_written(outcomes: Sequence[RowsOutcome]) -> int:
    """How many rows were acknowledged."""
    return sum(outcome.rows for outcome in outcomes if outcome.error is None and not outcome.present)


def report(ids: pa.Array, outcomes: Sequence[RowsOutcome]) -> WriteReport:
    """The report of an upsert.

    Args:
        ids: Of all rows.
        outcomes: What became of them, in their order.

    Raises:
        PartialWriteError: Some rows were not acknowledged, and some were or may have been.
        VecbridgeError: Why none was stored.
    """
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    skipped = sum(outcome.rows for outcome in outcomes if outcome.present)
    if not errors:
        return WriteReport(written=len(ids) - skipped, skipped=skipped)
    if all(outcome.error is not None and outcome.rejected for outcome in outcomes):
        raise errors[0]
    failures: list[Failure] = []
    start = 0
    for outcome in outcomes:
        if outcome.error is not None:
            certainty = "rejected" if outcome.rejected else "unknown"
            failures += [
                Failure(row, ids[row].as_py(), str(outcome.error), certainty)  # type: ignore[arg-type]
                for row in range(start, start + outcome.rows)
            ]
        start += outcome.rows
    written = len(ids) - len(failures) - skipped
    raise PartialWriteError(
        WriteReport(written, len(failures), skipped=skipped, failures=tuple(failures))
    ) from errors[0]
