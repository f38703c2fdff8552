"""Delivers one part of a batch: retries transient errors, bisects refused parts."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from vecbridge.bulk.places import Places
from vecbridge.errors import (
    AuthError,
    BackendError,
    Certainty,
    CorruptStoreError,
    DeadlineError,
    Failure,
    InvalidRecordError,
    PartialWriteError,
    RateLimitedError,
    SchemaError,
    StorageFullError,
    StoreLockedError,
    TooLargeError,
)
from vecbridge.front.arguments import OnConflict
from vecbridge.front.telemetry import count_retry
from vecbridge.records import Checked
from vecbridge.store import Collection

_LOG: Final = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 10
MAX_SECONDS: Final = 300.0
FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0
FATAL: Final = (AuthError, CorruptStoreError, StorageFullError, StoreLockedError)

Rows: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


class StoppedError(Exception):
    """The run has ended; nothing more is sent."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Records that are written by one upsert.

    Attributes:
        checked: The records.
        rows: Position of each in the batch of the source; int64, shape (n,).
        on_conflict: What becomes of records whose ids are there, as ``Collection.upsert`` has it.
    """

    checked: Checked
    rows: Rows
    on_conflict: OnConflict = "replace"

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> pa.Array:
        """The ids of the records."""
        return self.checked.batch.column("id")

    def take(self, positions: Rows) -> Part:
        """Some of the records, copied."""
        return Part(self.checked.take(positions), self.rows[positions], self.on_conflict)

    def slice(self, start: int, length: int) -> Part:
        """Adjacent records, as a view."""
        return Part(self.checked.slice(start, length), self.rows[start : start + length], self.on_conflict)


@dataclass(slots=True, eq=False)
class Delivery:
    """A part, and what became of its rows; written to by the one thread that delivers it.

    Attributes:
        part: What is to be written.
        share: Its size; 1 is the largest part that a run makes.
        written: Rows acknowledged so far.
        skipped: Rows left out so far because their ids are there.
        calls: Upserts so far.
        failures: Rows that could not be written; ``row`` is the position in the batch of the source.
    """

    part: Part
    share: float = 1.0
    written: int = 0
    skipped: int = 0
    calls: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def retried(self) -> int:
        """Upserts beyond the first."""
        return max(self.calls - 1, 0)

    def fail(self, part: Part, errors: Mapping[int, str], certainty: Certainty = "rejected") -> Part:
        """Records rows as failed, by position in the part, and returns the others."""
        for position, error in sorted(errors.items()):
            row, id = int(part.rows[position]), part.ids[position].as_py()
            self.failures.append(Failure(row, id, error, certainty))
        return part.take(np.setdiff1d(np.arange(len(part)), list(errors)))


class Backoff:
    """The pauses between the attempts to write one part: exponential backoff with full jitter.

    The delays are those of "Exponential Backoff And Jitter" (M. Brooker, AWS Architecture Blog, 2015), which
    found full jitter to cost the fewest calls. The time to wait that a service names is added to the delay.

    Args:
        stop: Ends a pause early.
        places: Lets another upsert begin meanwhile.
        backend: What is written to: each pause is logged and counted. "" for none.
    """

    def __init__(self, stop: threading.Event, places: Places | None = None, *, backend: str = "") -> None:
        self._stop = stop
        self._places = places or Places(1)
        self._backend = backend
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
        if self._backend:
            self._tell(error, delay)
        with self._places.pausing():
            pause(self._stop, delay)

    def _tell(self, error: BackendError, delay: float) -> None:
        """Logs and counts a retry, by the class of the error alone: its message may hold ids."""
        kind = type(error).__name__
        _LOG.info(
            "%s: %s, attempt %d in %.1f s", self._backend, kind, self._attempts, delay,
            extra={"backend": self._backend, "error_type": kind, "attempt": self._attempts, "delay": delay},
        )  # fmt: skip
        count_retry(self._backend, error)


def pause(stop: threading.Event, seconds: float) -> None:
    """Sleeps, unless the run ends.

    Raises:
        StoppedError: It did.
    """
    if stop.wait(seconds):
        raise StoppedError


def deliver(
    collection: Collection, delivery: Delivery, stop: threading.Event, *, grow: bool = False,
    places: Places | None = None,
) -> bool:  # fmt: skip
    """Writes one part: afterwards each of its rows is acknowledged or failed.

    Transient errors are retried. Rows that the backend names as bad are recorded as failed; where it refuses
    a part and names no row, the part is halved until single rows are refused.

    Args:
        collection: Where to write.
        delivery: What to write; its counts are kept up to date.
        stop: Ends the run; an error here sets it, so that no other part is begun.
        grow: Whether to go on where another writer has added fields to the collection.
        places: One is held during each upsert, and none during the pause before a retry.

    Returns:
        True; False if the run ended first, and rows are neither acknowledged nor failed.

    Raises:
        BackendError: No retry can help, or none was left.
        VecbridgeError: What else the collection raises.
    """
    parts, places = [delivery.part], places or Places(1)
    try:
        while parts:
            parts = _write(collection, delivery, parts[0], stop, places, grow=grow) + parts[1:]
    except StoppedError:
        return False
    except BaseException:
        stop.set()
        raise
    return True


def await_delivery(done: Future[bool], others: Iterable[Future[bool]]) -> None:
    """Waits until a part is delivered.

    Args:
        done: Ends when the part has been delivered, as ``deliver`` does.
        others: Later parts of the same run: the error of one stops those before it, too.

    Raises:
        StoppedError: The run ended first, and no part is to blame.
        BackendError: It could not be delivered; or it was stopped because one of the others could not.
        VecbridgeError: What else the collection raises.
    """
    if done.result():
        return
    for other in others:
        other.result()
    raise StoppedError


def _write(
    collection: Collection, delivery: Delivery, part: Part, stop: threading.Event,
    places: Places, *, grow: bool,
) -> list[Part]:  # fmt: skip
    """Writes one part, with retries; returns its two halves where it must be bisected, else nothing."""
    backend = collection.capabilities.backend
    backoff = Backoff(stop, places, backend=backend)
    while len(part):
        try:
            with places.held(len(part)):
                if stop.is_set():
                    raise StoppedError
                delivery.calls += 1
                report = collection.upsert(part.checked, on_conflict=part.on_conflict)
        except SchemaError:
            if not grow or not _knows_new_fields(collection):
                raise
        except InvalidRecordError as exc:
            if not exc.rows:
                return _halves(delivery, part, str(exc))
            part = delivery.fail(part, {failure.row: failure.error for failure in exc.rows})
        except PartialWriteError as exc:
            missing = _unacknowledged(exc, part)
            transient = _transient_cause(exc)
            delivery.skipped += exc.report.skipped
            if part.on_conflict != "replace" and any(each.outcome == "unknown" for each in missing.values()):
                delivery.written += len(part) - len(missing) - exc.report.skipped
                return _apart(part, missing)
            if len(missing) < len(part):  # there was progress, so that all attempts are left for the rest
                delivery.written += len(part) - len(missing) - exc.report.skipped
                part = part.take(np.array(sorted(missing)))
                backoff = Backoff(stop, places, backend=backend)
            elif transient is None:
                return _halves(delivery, part, missing[0].error, missing[0].outcome)
            if transient is not None:
                backoff.wait(transient)
        except FATAL:
            raise
        except BackendError as exc:
            if isinstance(exc, TooLargeError) or not exc.retryable:
                return _halves(delivery, part, str(exc))
            backoff.wait(exc)
        else:
            delivery.written += len(part) - report.skipped
            delivery.skipped += report.skipped
            return []
    return []


def _apart(part: Part, missing: Mapping[int, Failure]) -> list[Part]:
    """The rows that were not acknowledged; those that may be stored are to replace what is there.

    What is there may be what the first attempt wrote, which must be neither skipped nor refused.
    """
    unknown = np.array(sorted(row for row, each in missing.items() if each.outcome == "unknown"), np.int64)
    others = np.array(sorted(set(missing) - set(unknown.tolist())), np.int64)
    again = replace(part.take(unknown), on_conflict="replace")
    return [again, part.take(others)] if len(others) else [again]


def _knows_new_fields(collection: Collection) -> bool:
    """Has a handle learn of the fields that another writer added; False if there are none."""
    before = collection.stored_spec
    collection.add_fields({})
    return collection.stored_spec != before


def _halves(delivery: Delivery, part: Part, error: str, certainty: Certainty = "rejected") -> list[Part]:
    """The halves of a part that was refused; a single row is recorded as failed."""
    if len(part) == 1:
        delivery.fail(part, {0: error}, certainty)
        return []
    middle = len(part) // 2
    return [part.slice(0, middle), part.slice(middle, len(part) - middle)]


def _unacknowledged(exc: PartialWriteError, part: Part) -> dict[int, Failure]:
    """The rows without an acknowledgement, by position in the part; all, where the error names none."""
    named = {failure.row: failure for failure in exc.report.failures}
    return named or {row: Failure(row, None, str(exc), "unknown") for row in range(len(part))}


def _transient_cause(exc: PartialWriteError) -> BackendError | None:
    """The error after which the unacknowledged rows are sent again; None if they were refused for good.

    Raises:
        BackendError: The cause, if no retry can help.
    """
    cause = exc.__cause__
    if isinstance(cause, FATAL):
        raise cause
    if isinstance(cause, BackendError):
        return cause if cause.retryable else None
    failures = exc.report.failures
    if failures and all(failure.outcome == "rejected" for failure in failures):
        return None
    return DeadlineError(f"it is not known whether all rows were written: {exc}")
