"""Sending one upsert in several requests, and telling what became of each row."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from vecbridge.errors import Certainty, Failure, PartialWriteError, VecbridgeError
from vecbridge.query import WriteReport

Part = TypeVar("Part", bound=Sized)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of neighbouring rows.

    Attributes:
        rows: How many.
        error: Why they were not acknowledged; None if they were.
        certain: Whether they are then certainly not stored.
    """

    rows: int
    error: VecbridgeError | None = None
    certain: bool = False


def send(
    parts: Iterable[Part],
    call: Callable[[Part], Sequence[Outcome]],
    *,
    at_once: int,
    unsent: Callable[[VecbridgeError], bool],
) -> list[Outcome]:
    """Sends requests; after one that failed no further one is begun.

    Args:
        parts: The rows of each request, or which they are, in their order; made as they are needed.
        call: Sends one. Returns what became of its rows where the backend says so of each, in their order,
            and nothing where it acknowledged them all; raises where the whole request failed.
        at_once: Requests in flight.
        unsent: Whether an error means that certainly nothing of its request is stored.

    Returns:
        What became of the rows of all parts, in their order.
    """
    stopped: list[VecbridgeError] = []

    def deliver(rows: Part) -> Sequence[Outcome]:
        if stopped:
            return [Outcome(len(rows), stopped[0], certain=True)]
        try:
            return call(rows) or [Outcome(len(rows))]
        except VecbridgeError as exc:
            stopped.append(exc)
            return [Outcome(len(rows), exc, unsent(exc))]

    if at_once == 1:
        return [outcome for rows in parts for outcome in deliver(rows)]
    outcomes: list[Outcome] = []
    under_way: deque[Future[Sequence[Outcome]]] = deque()
    with ThreadPoolExecutor(at_once) as pool:
        for rows in parts:
            under_way.append(pool.submit(deliver, rows))
            if len(under_way) > at_once:
                outcomes += under_way.popleft().result()
        for each in under_way:
            outcomes += each.result()
    return outcomes


def report(ids: pa.Array, outcomes: Sequence[Outcome]) -> WriteReport:
    """The report of an upsert.

    Args:
        ids: Of all rows.
        outcomes: What became of them, in their order.

    Raises:
        PartialWriteError: Some rows were not acknowledged, and some were or may have been.
        VecbridgeError: Why none was stored.
    """
    errors = [each.error for each in outcomes if each.error is not None]
    if not errors:
        return WriteReport(written=len(ids))
    if all(each.error is not None and each.certain for each in outcomes):
        raise errors[0]
    failures: list[Failure] = []
    start = 0
    for each in outcomes:
        if each.error is not None:
            rows = range(start, start + each.rows)
            kind: Certainty = "rejected" if each.certain else "unknown"
            failures += [Failure(row, ids[row].as_py(), str(each.error), kind) for row in rows]
        start += each.rows
    found = WriteReport(len(ids) - len(failures), len(failures), failures=tuple(failures))
    raise PartialWriteError(found) from errors[0]
