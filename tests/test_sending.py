"""One upsert in several requests: what is sent, what is not any more, and what is told of each row."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pyarrow as pa
import pytest

from vecbridge.errors import AuthError, PartialWriteError, UnavailableError, VecbridgeError
from vecbridge.query import WriteReport
from vecbridge.sending import Outcome, report, send

PARTS = [range(2), range(2, 4), range(4, 5)]
IDS = pa.array(["a", "b", "c", "d", "e"])


def never(error: VecbridgeError) -> bool:
    return isinstance(error, AuthError)


def sent(error: VecbridgeError, at: int, at_once: int = 1) -> tuple[list[range], list[Outcome]]:
    """Sends all parts, of which one fails; which were sent, and what became of them."""
    begun: list[range] = []

    def call(rows: range) -> Sequence[Outcome]:
        begun.append(rows)
        if rows == PARTS[at]:
            raise error
        return ()

    return begun, send(PARTS, call, at_once=at_once, unsent=never)


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_what_is_all_acknowledged_is_all_written(at_once: int) -> None:
    outcomes = send(PARTS, lambda _: (), at_once=at_once, unsent=never)
    assert report(IDS, outcomes) == WriteReport(written=5)


def test_after_an_error_nothing_more_is_sent_and_each_row_is_told_apart() -> None:
    begun, outcomes = sent(UnavailableError("gone"), at=1)
    assert begun == PARTS[:2]
    with pytest.raises(PartialWriteError) as caught:
        report(IDS, outcomes)
    found = caught.value.report
    assert (found.written, found.failed) == (2, 3)
    assert [(each.row, each.id, each.outcome) for each in found.failures] == [
        (2, "c", "unknown"), (3, "d", "unknown"), (4, "e", "rejected"),
    ]  # fmt: skip
    assert isinstance(caught.value.__cause__, UnavailableError)


def test_where_certainly_nothing_was_stored_the_plain_error_is_raised() -> None:
    begun, outcomes = sent(AuthError("no"), at=0)
    assert begun == PARTS[:1]
    with pytest.raises(AuthError, match="no"):
        report(IDS, outcomes)


def test_a_row_that_is_refused_by_itself_stops_nobody() -> None:
    def call(rows: range) -> Sequence[Outcome]:
        return [Outcome(1), Outcome(1, UnavailableError("busy"))] if rows == PARTS[0] else ()

    with pytest.raises(PartialWriteError) as caught:
        report(IDS, send(PARTS, call, at_once=1, unsent=never))
    assert [each.id for each in caught.value.report.failures] == ["b"]


def test_as_many_requests_are_in_flight_as_was_said() -> None:
    together = threading.Barrier(2, timeout=10)  # which breaks unless two wait at it

    def call(rows: range) -> Sequence[Outcome]:
        if len(rows) == 2:
            together.wait()
        return ()

    assert len(send(PARTS, call, at_once=2, unsent=never)) == 3
