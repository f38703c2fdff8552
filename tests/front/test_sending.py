"""One upsert in several requests: what is sent, what is not any more, and what is told of each row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest

from vecbridge.driver import Deadline, Refusal, RequestLimits, WritePart, WriteResult
from vecbridge.errors import AuthError, PartialWriteError, TooLargeError, UnavailableError, VecbridgeError
from vecbridge.front.sending import RequestSlots, RowsOutcome, Sender, report
from vecbridge.query import WriteReport

PARTS = [range(2), range(2, 4), range(4, 5)]
IDS = pa.array(["a", "b", "c", "d", "e"])
ROWS = pa.RecordBatch.from_pydict({"id": IDS})
Write = Callable[[list[str]], WriteResult]


class Driver:
    """Cuts rows into requests of two, and does with each what a test says."""

    def __init__(self, write: Write) -> None:
        self.begun: list[str] = []
        self._write = write
        self._lock = threading.Lock()

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        ids = rows.column("id").to_pylist()
        for start in range(0, len(ids), limits.rows):
            part = range(start, min(start + limits.rows, len(ids)))
            yield WritePart(part, ids[part.start : part.stop])

    def write(self, part: WritePart, deadline: Deadline) -> WriteResult:
        with self._lock:
            self.begun.append("".join(part.payload))
        return self._write(part.payload)


def send(driver: Driver, *, at_once: int = 1, atomic: bool = False, rows: int = 2) -> list[RowsOutcome]:
    limits = RequestLimits(rows)
    slots = RequestSlots(at_once)
    sender = Sender(
        driver, driver.write, ROWS, limits, slots, timeout=10.0, atomic=atomic,  # type: ignore[arg-type]
        mapped=lambda exc, what: exc if isinstance(exc, VecbridgeError) else UnavailableError(str(exc)),
    )  # fmt: skip
    try:
        return sender.send(driver.prepare(ROWS, limits))
    finally:
        slots.close()


def failing(at: str, error: Exception) -> Write:
    def write(ids: list[str]) -> WriteResult:
        if at in ids:
            raise error
        return WriteResult()

    return write


@pytest.mark.parametrize("at_once", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 2, 5, 9])
def test_what_is_all_acknowledged_is_all_written(at_once: int, rows: int) -> None:
    driver = Driver(lambda ids: WriteResult())
    assert report(IDS, send(driver, at_once=at_once, rows=rows)) == WriteReport(written=5)
    assert sorted("".join(driver.begun)) == list("abcde")


@pytest.mark.parametrize("error", [UnavailableError("gone"), ConnectionError("gone")])
def test_after_an_error_nothing_more_is_sent_and_each_row_is_told_apart(error: Exception) -> None:
    driver = Driver(failing("c", error))
    outcomes = send(driver)
    assert driver.begun == ["ab", "cd"]
    with pytest.raises(PartialWriteError) as caught:
        report(IDS, outcomes)
    told = caught.value.report
    assert (told.written, told.failed) == (2, 3)
    assert [(failure.row, failure.id, failure.outcome) for failure in told.failures] == [
        (2, "c", "unknown"), (3, "d", "unknown"), (4, "e", "rejected"),
    ]  # fmt: skip
    assert isinstance(caught.value.__cause__, UnavailableError)


@pytest.mark.parametrize("error", [AuthError("no"), UnavailableError("no", unsent=True)])
def test_where_certainly_nothing_was_stored_the_plain_error_is_raised(error: VecbridgeError) -> None:
    driver = Driver(failing("a", error))
    with pytest.raises(type(error), match="no"):
        report(IDS, send(driver))
    assert driver.begun == ["ab"]


def test_of_a_backend_that_stores_whole_requests_an_error_means_that_nothing_is_stored() -> None:
    driver = Driver(failing("a", UnavailableError("gone")))
    with pytest.raises(UnavailableError):
        report(IDS, send(driver, rows=5, atomic=True))
    with pytest.raises(PartialWriteError):
        report(IDS, send(driver, rows=5))


def test_a_row_that_is_refused_by_itself_stops_nobody() -> None:
    refusal = {1: Refusal(UnavailableError("busy"), stored="unknown")}
    driver = Driver(lambda ids: WriteResult(refusal if "b" in ids else {}))
    with pytest.raises(PartialWriteError) as caught:
        report(IDS, send(driver))
    assert [(each.id, each.outcome) for each in caught.value.report.failures] == [("b", "unknown")]
    assert driver.begun == ["ab", "cd", "e"]


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_request_that_is_too_large_is_sent_again_in_halves(at_once: int) -> None:
    def write(ids: list[str]) -> WriteResult:
        if len(ids) > 1:
            raise TooLargeError("too large")
        return WriteResult()

    driver = Driver(write)
    assert report(IDS, send(driver, at_once=at_once, rows=5)) == WriteReport(written=5)
    assert [ids for ids in driver.begun if len(ids) == 1] == list("abcde")


def test_a_row_that_is_too_large_by_itself_is_rejected_and_the_others_are_written() -> None:
    driver = Driver(failing("c", TooLargeError("too large")))
    with pytest.raises(PartialWriteError) as caught:
        report(IDS, send(driver, rows=5))
    assert [(each.row, each.id, each.outcome) for each in caught.value.report.failures] == [
        (2, "c", "rejected")
    ]
    assert caught.value.report.written == 4


def test_as_many_requests_are_in_flight_as_was_said_and_no_more() -> None:
    together = threading.Barrier(2, timeout=10)  # which breaks unless two wait at it
    lock, in_flight, most = threading.Lock(), 0, 0

    def write(ids: list[str]) -> WriteResult:
        nonlocal in_flight, most
        with lock:
            in_flight += 1
            most = max(most, in_flight)
        if len(ids) == 2:
            together.wait()
        with lock:
            in_flight -= 1
        return WriteResult()

    assert report(IDS, send(Driver(write), at_once=2)).written == 5
    assert most == 2


@pytest.mark.parametrize("rows", [2, 5], ids=["three requests each", "one request each"])
def test_upserts_of_several_threads_share_the_slots_of_their_store(rows: int) -> None:
    slots, lock, in_flight, most = RequestSlots(2), threading.Lock(), 0, 0

    def write(ids: list[str]) -> WriteResult:
        nonlocal in_flight, most
        with lock:
            in_flight += 1
            most = max(most, in_flight)
        threading.Event().wait(0.02)
        with lock:
            in_flight -= 1
        return WriteResult()

    def upsert() -> None:
        limits = RequestLimits(rows)
        driver = Driver(write)
        sender = Sender(
            driver, driver.write, ROWS, limits, slots, timeout=9, atomic=False, mapped=lambda exc, _: exc
        )  # type: ignore[arg-type, return-value]
        sender.send(driver.prepare(ROWS, limits))

    threads = [threading.Thread(target=upsert) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slots.close()
    assert most == 2
