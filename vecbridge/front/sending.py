"""One upsert as several requests: how many are in flight, and what became of each row."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa

from vecbridge.driver import CollectionDriver, Deadline, RequestLimits, WritePart, WriteResult
from vecbridge.errors import BackendError, Failure, PartialWriteError, TooLargeError, VecbridgeError
from vecbridge.query import WriteReport


class RequestSlots:
    """How many write requests a store has in flight; shared by its collections and by bulk's workers.

    Args:
        at_once: Requests in flight, at most.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._free = threading.Semaphore(at_once)
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> None:
        self._free.acquire()

    def __exit__(self, *_: object) -> None:
        self._free.release()

    def submit(self, call: Callable[[WritePart], Sequence[RowsOutcome]], part: WritePart) -> _Sent:
        """Begins a call in the pool, which is made by the first one."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.at_once, thread_name_prefix="vecbridge-send")
            return self._pool.submit(call, part)

    def close(self) -> None:
        """Lets the threads of the pool go, without waiting for what they do."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(wait=False)
            self._pool = None


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
        self._stopped: VecbridgeError | None = None

    def send(self, parts: Iterator[WritePart]) -> list[RowsOutcome]:
        """Sends the prepared requests; what became of the rows, in their order."""
        first, second = next(parts), next(parts, None)
        if second is None or self._slots.at_once == 1:
            rest = parts if second is None else chain([second], parts)
            return [outcome for part in chain([first], rest) for outcome in self._deliver(part)]
        outcomes: list[RowsOutcome] = []
        in_flight: deque[_Sent] = deque()
        for part in chain([first, second], parts):
            in_flight.append(self._slots.submit(self._deliver, part))
            if len(in_flight) > self._slots.at_once:
                outcomes += in_flight.popleft().result()
        for sent in in_flight:
            outcomes += sent.result()
        return outcomes

    def _deliver(self, part: WritePart) -> list[RowsOutcome]:
        if self._stopped is not None:
            return [RowsOutcome(len(part.rows), self._stopped, rejected=True)]
        try:
            with self._slots:
                result = self._write(part, Deadline.after(self._timeout))
        except Exception as exc:  # noqa: BLE001 - whatever a driver raises is mapped and reported
            return self._failed(part, exc)
        if not result.refused and not result.present:
            return [RowsOutcome(len(part.rows))]
        return [_outcome(result, place) for place in range(len(part.rows))]

    def _failed(self, part: WritePart, exc: Exception) -> list[RowsOutcome]:
        error = self._mapped(exc, "upsert")
        if error is not exc:
            error.__cause__ = exc
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
