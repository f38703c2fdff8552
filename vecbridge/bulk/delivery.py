"""One request of a bulk write: sent, sent again, cut in halves, until each row is acknowledged or refused."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from vecbridge.errors import (
    AuthError,
    BackendError,
    CorruptStoreError,
    DeadlineError,
    Failure,
    InvalidRecordError,
    Outcome,
    PartialWriteError,
    RateLimitedError,
    StorageFullError,
    StoreLockedError,
    TooLargeError,
)
from vecbridge.records import Checked
from vecbridge.store import Collection

MAX_ATTEMPTS: Final = 10
MAX_SECONDS: Final = 300.0
FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0
FATAL: Final = (AuthError, CorruptStoreError, StorageFullError, StoreLockedError)

Rows: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


class StoppedError(Exception):
    """The run is over for another reason; nothing more is sent."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Records to send.

    Attributes:
        checked: The records.
        rows: Position of each in the batch of the source; int64, shape (n,).
    """

    checked: Checked
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> pa.Array:
        """The ids of the records."""
        return self.checked.batch.column("id")

    def take(self, positions: Rows) -> Part:
        """Some of the records, copied."""
        return Part(self.checked.take(positions), self.rows[positions])

    def slice(self, start: int, length: int) -> Part:
        """Neighbouring records, as a view."""
        return Part(self.checked.slice(start, length), self.rows[start : start + length])


@dataclass(slots=True, eq=False)
class Request:
    """A part on its way; only the thread that delivers it writes here.

    Attributes:
        part: What is to be sent.
        written: Rows acknowledged so far.
        calls: Upserts so far.
        failures: Rows given up; ``row`` is the position in the batch of the source.
    """

    part: Part
    written: int = 0
    calls: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def retried(self) -> int:
        """Attempts beyond the first."""
        return max(self.calls - 1, 0)

    def refuse(self, part: Part, errors: Mapping[int, str], outcome: Outcome = "rejected") -> Part:
        """Gives rows up, by position in the part, and returns the others."""
        for position, error in sorted(errors.items()):
            key = part.ids[position].as_py()
            self.failures.append(Failure(int(part.rows[position]), key, error, outcome))
        return part.take(np.setdiff1d(np.arange(len(part)), list(errors)))


class Patience:
    """How often, and how long, one part is sent again: exponential backoff with full jitter.

    The delays are those of "Exponential Backoff And Jitter" (M. Brooker, AWS Architecture Blog, 2015), which
    found full jitter to cost the fewest calls; a service that says when to come back is waited for at least
    so long.

    Args:
        stop: Ends a wait early.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._attempts = 1
        self._seconds_left = MAX_SECONDS

    def wait(self, error: BackendError) -> None:
        """Waits before the next attempt.

        Raises:
            BackendError: The error itself, where no attempt or no time is left.
            StoppedError: The run ended meanwhile.
        """
        delay = random.uniform(0, min(LONGEST_DELAY, FIRST_DELAY * 2 ** (self._attempts - 1)))
        if isinstance(error, RateLimitedError) and error.retry_after is not None:
            delay += error.retry_after
        if self._attempts == MAX_ATTEMPTS or delay > self._seconds_left:
            error.add_note(f"given up after {self._attempts} attempts")
            raise error
        self._attempts += 1
        self._seconds_left -= delay
        pause(self._stop, delay)


def pause(stop: threading.Event, seconds: float) -> None:
    """Sleeps, unless the run ends.

    Raises:
        StoppedError: It did.
    """
    if stop.wait(seconds):
        raise StoppedError


def deliver(collection: Collection, request: Request, stop: threading.Event) -> bool:
    """Sends one request until each of its rows is acknowledged or given up.

    Rows that the backend names are set aside; where it refuses a request and names none, the request is cut
    in halves down to the rows at fault. What may succeed later is sent again.

    Args:
        collection: Where it goes.
        request: What is sent; its counts are kept up to date.
        stop: Ends the run; an error here sets it, so that no other request is begun.

    Returns:
        True; False if the run ended before, and rows are neither acknowledged nor given up.

    Raises:
        BackendError: No retry can help, or none was left.
        VecbridgeError: What else the collection raises.
    """
    parts = [request.part]
    try:
        while parts:
            parts = _send(collection, request, parts[0], stop) + parts[1:]
    except StoppedError:
        return False
    except BaseException:
        stop.set()
        raise
    return True


def _send(collection: Collection, request: Request, part: Part, stop: threading.Event) -> list[Part]:
    """Sends one part until it is settled; returns the halves where it has to be cut."""
    patience = Patience(stop)
    while len(part):
        if stop.is_set():
            raise StoppedError
        request.calls += 1
        try:
            collection.upsert(part.checked)
        except InvalidRecordError as exc:
            if not exc.rows:
                return _cut(request, part, str(exc))
            part = request.refuse(part, {each.row: each.error for each in exc.rows})
        except PartialWriteError as exc:
            left = _unacknowledged(exc, part)
            reason = _reason_to_wait(exc)
            if len(left) < len(part):
                request.written += len(part) - len(left)
                part, patience = part.take(np.array(sorted(left))), Patience(stop)
            elif reason is None:
                return _cut(request, part, left[0].error, left[0].outcome)
            if reason is not None:
                patience.wait(reason)
        except FATAL:
            raise
        except BackendError as exc:
            if isinstance(exc, TooLargeError) or not exc.retryable:
                return _cut(request, part, str(exc))
            patience.wait(exc)
        else:
            request.written += len(part)
            return []
    return []


def _cut(request: Request, part: Part, error: str, outcome: Outcome = "rejected") -> list[Part]:
    """The halves of a part that was refused; a single row is given up."""
    if len(part) == 1:
        request.refuse(part, {0: error}, outcome)
        return []
    middle = len(part) // 2
    return [part.slice(0, middle), part.slice(middle, len(part) - middle)]


def _unacknowledged(exc: PartialWriteError, part: Part) -> dict[int, Failure]:
    """By position in the part, what went wrong; where the backend names no row, all are in doubt."""
    named = {each.row: each for each in exc.report.failures}
    return named or {row: Failure(row, None, str(exc), "unknown") for row in range(len(part))}


def _reason_to_wait(exc: PartialWriteError) -> BackendError | None:
    """Why the rows that are not acknowledged may be taken later; None where they were refused as they are.

    Raises:
        BackendError: The cause, if no retry can help.
    """
    cause = exc.__cause__
    if isinstance(cause, FATAL):
        raise cause
    if isinstance(cause, BackendError):
        return cause if cause.retryable else None
    refused = exc.report.failures and all(each.outcome == "rejected" for each in exc.report.failures)
    return None if refused else DeadlineError(f"it is not known whether all rows were written: {exc}")
