"""Sending one upsert in several requests, and telling what became of each record."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from vecbridge.errors import Failure, PartialWriteError, TooLargeError, VecbridgeError
from vecbridge.errors import Outcome as Certainty
from vecbridge.query import WriteReport
from vecbridge.stores.pinecone import errors
from vecbridge.stores.pinecone.planes import Encoded
from vecbridge.stores.pinecone.table import IN_FLIGHT

Send = Callable[[Sequence[Encoded]], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of neighbouring records.

    Attributes:
        rows: How many.
        error: Why they were not acknowledged; None if they were.
        certain: Whether they are then certainly not stored.
    """

    rows: int
    error: VecbridgeError | None = None
    certain: bool = False


def send(parts: Iterable[Sequence[Encoded]], call: Send) -> list[Outcome]:
    """Sends requests, some of them at a time; after an error no further one is begun.

    Args:
        parts: The records of each request, made as they are needed.
        call: Sends one.
    """
    stopped: list[VecbridgeError] = []
    outcomes: list[Outcome] = []
    under_way: deque[Future[list[Outcome]]] = deque()

    def deliver(part: Sequence[Encoded]) -> list[Outcome]:
        if stopped:
            return [Outcome(len(part), stopped[0], certain=True)]
        found = _delivered(part, call)
        stopped.extend(each.error for each in found if each.error is not None)
        return found

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        for part in parts:
            under_way.append(pool.submit(deliver, part))
            if len(under_way) > IN_FLIGHT:
                outcomes += under_way.popleft().result()
        for each in under_way:
            outcomes += each.result()
    return outcomes


def _delivered(part: Sequence[Encoded], call: Send) -> list[Outcome]:
    """Sends one request, in halves where the service finds it too large."""
    try:
        call(part)
    except TooLargeError as exc:
        if len(part) == 1:
            return [Outcome(1, exc, certain=True)]
        middle = len(part) // 2
        first = _delivered(part[:middle], call)
        error = next((each.error for each in first if each.error is not None), None)
        if error is not None:
            return [*first, Outcome(len(part) - middle, error, certain=True)]
        return first + _delivered(part[middle:], call)
    except VecbridgeError as exc:
        return [Outcome(len(part), exc, certain=errors.never_stored(exc))]
    return [Outcome(len(part))]


def reported(batch: pa.RecordBatch, outcomes: Sequence[Outcome]) -> WriteReport:
    """The report of an upsert.

    Raises:
        PartialWriteError: Some records were not acknowledged, and some were or may have been.
        VecbridgeError: Why none was stored.
    """
    failed = [each for each in outcomes if each.error is not None]
    if not failed:
        return WriteReport(written=batch.num_rows)
    first = next(each.error for each in failed if each.error is not None)
    if len(failed) == len(outcomes) and all(each.certain for each in failed):
        raise first
    ids = batch.column("id")
    failures: list[Failure] = []
    start = 0
    for each in outcomes:
        if each.error is not None:
            kind: Certainty = "rejected" if each.certain else "unknown"
            rows = range(start, start + each.rows)
            failures += [Failure(row, ids[row].as_py(), str(each.error), kind) for row in rows]
        start += each.rows
    report = WriteReport(batch.num_rows - len(failures), len(failures), failures=tuple(failures))
    raise PartialWriteError(report) from first
