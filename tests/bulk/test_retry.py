"""What each error of a backend leads to: another attempt, a cut, a row set aside, or the end."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

import vecbridge as vb
from tests.bulk.faults import Faulty, ids, partial, rows, sources
from vecbridge.bulk import delivery
from vecbridge.errors import BackendError, Failure


def fails(error: Exception, times: int) -> Callable[[int, pa.RecordBatch], None]:
    def fault(call: int, batch: pa.RecordBatch) -> None:
        if call < times:
            raise error

    return fault


def poison(*bad: str, error: Exception) -> Callable[[int, pa.RecordBatch], None]:
    def fault(call: int, batch: pa.RecordBatch) -> None:
        if set(bad) & set(ids(batch)):
            raise error

    return fault


@pytest.mark.parametrize(
    "error",
    [
        vb.UnavailableError("starting"),
        vb.RateLimitedError("slow down"),
        vb.DeadlineError("no answer"),
        BackendError("leader election", retryable=True),
    ],
)
def test_what_may_succeed_later_is_sent_again(error: Exception, pauses: list[float]) -> None:
    photos = Faulty(before=fails(error, 3))
    report = vb.write(photos, sources(2))
    assert (report.written, report.failed, report.retried) == (20, 0, 3)
    assert len(pauses) == 3
    assert len(photos.stored()) == 20


def test_pauses_grow_have_jitter_and_stay_bounded(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[tuple[float, float]] = []

    def longest(low: float, high: float) -> float:
        bounds.append((low, high))
        return high

    monkeypatch.setattr(delivery.random, "uniform", longest)
    with pytest.raises(vb.UnavailableError):
        vb.write(Faulty(before=fails(vb.UnavailableError("down"), 99)), sources(1))
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert bounds == [(0, each) for each in [*pauses, 30]]


def test_a_service_is_not_asked_before_the_time_it_names(pauses: list[float]) -> None:
    vb.write(Faulty(before=fails(vb.RateLimitedError("slow", retry_after=7.5), 2)), sources(1))
    assert len(pauses) == 2
    assert all(7.5 <= each <= 8.5 for each in pauses)


def test_a_service_that_wants_an_hour_is_not_waited_for(pauses: list[float]) -> None:
    with pytest.raises(vb.RateLimitedError):
        vb.write(Faulty(before=fails(vb.RateLimitedError("quota", retry_after=3600), 2)), sources(1))
    assert pauses == []


def test_a_backend_that_stays_away_ends_the_write_and_no_row_is_blamed(pauses: list[float]) -> None:
    def down(call: int, batch: pa.RecordBatch) -> None:
        if call >= 2:
            raise vb.UnavailableError("down")

    photos = Faulty(before=down)
    with pytest.raises(vb.UnavailableError) as raised:
        vb.write(photos, sources(50))
    assert len(photos.sent) == 2 + delivery.MAX_ATTEMPTS
    assert raised.value.__notes__ == ["given up after 10 attempts", "20 rows were acknowledged until then"]


@pytest.mark.parametrize(
    "kind",
    [
        vb.AuthError,
        vb.StorageFullError,
        vb.CorruptStoreError,
        vb.StoreLockedError,
        vb.NotFoundError,
        ZeroDivisionError,
    ],
)
@pytest.mark.parametrize("parallel", [False, True])
def test_what_no_retry_mends_ends_the_write_at_once(
    kind: type[Exception], parallel: bool, pauses: list[float]
) -> None:
    error = kind("no")

    def fault(call: int, batch: pa.RecordBatch) -> None:
        if call == 5:
            raise error

    photos = Faulty(before=fault, parallel_requests=8 if parallel else 1)
    with pytest.raises(kind) as raised:
        vb.write(photos, sources(100), workers=3)
    assert raised.value is error
    assert len(photos.sent) < 20
    assert pauses == []
    assert error.__notes__ == [f"{len(photos.stored())} rows were acknowledged until then"]


@pytest.mark.parametrize("bad", [("r0",), ("r9",), ("r3", "r4"), tuple(f"r{n}" for n in range(10))])
@pytest.mark.parametrize("error", [BackendError("400"), vb.TooLargeError("413")])
def test_rows_that_the_backend_refuses_are_found_by_halving(
    bad: tuple[str, ...], error: Exception, pauses: list[float]
) -> None:
    photos = Faulty(before=poison(*bad, error=error))
    report = vb.write(photos, sources(2))
    assert (report.written, report.failed) == (20 - len(bad), len(bad))
    assert [failure.id for failure in report.failures] == list(bad)
    assert {(each.error, each.outcome) for each in report.failures} == {(str(error), "rejected")}
    assert report.retried == len(photos.sent) - 2
    assert photos.stored() == {f"r{n}" for n in range(20)} - set(bad)
    assert pauses == []


def test_one_bad_row_costs_few_requests() -> None:
    photos = Faulty(before=poison("r777", error=BackendError("400")))
    assert vb.write(photos, [rows(0, 1024)]).failed == 1
    assert len(photos.sent) == 1 + 2 * 10


def test_a_request_that_is_too_large_is_halved_until_it_fits() -> None:
    def small_only(call: int, batch: pa.RecordBatch) -> None:
        if batch.num_rows > 3:
            raise vb.TooLargeError("413")

    photos = Faulty(before=small_only)
    assert vb.write(photos, [rows(0, 20)]).written == 20
    assert photos.stored() == {f"r{n}" for n in range(20)}


def test_rows_that_the_adapter_names_are_set_aside_without_halving() -> None:
    def fault(call: int, batch: pa.RecordBatch) -> None:
        bad = [
            Failure(row, key, f"{key} is too long") for row, key in enumerate(ids(batch)) if key[-1] in "37"
        ]
        if bad:
            raise vb.InvalidRecordError("bad rows", bad)

    photos = Faulty(before=fault)
    report = vb.write(photos, sources(2))
    assert (report.written, report.failed, len(photos.sent)) == (16, 4, 4)
    assert [(each.row, each.error) for each in report.failures] == [
        (row, f"r{row} is too long") for row in (3, 7, 13, 17)
    ]


def test_a_refusal_that_names_no_row_is_halved() -> None:
    photos = Faulty(before=poison("r3", error=vb.InvalidRecordError("something", [])))
    report = vb.write(photos, sources(1))
    assert (report.written, [each.id for each in report.failures]) == (9, ["r3"])


# ---------------------------------------------------------------------------------- partial writes


def test_after_a_partial_write_only_the_rest_is_sent_again(pauses: list[float]) -> None:
    def fault(call: int, batch: pa.RecordBatch) -> None:
        if call == 0:
            cause = vb.RateLimitedError("slow", retry_after=2)
            raise partial(photos, batch, {1: "slow", 8: "slow"}, "rejected", cause)

    photos = Faulty(before=fault)
    report = vb.write(photos, sources(1))
    assert (report.written, report.failed, report.retried) == (10, 0, 1)
    assert photos.sent[1] == ["r1", "r8"]
    assert len(pauses) == 1
    assert pauses[0] >= 2


def test_rows_of_unknown_outcome_are_sent_again_after_a_pause(pauses: list[float]) -> None:
    def fault(call: int, batch: pa.RecordBatch) -> None:
        if call < 2:
            raise partial(photos, batch, dict.fromkeys(range(batch.num_rows), "no answer"), "unknown", None)

    photos = Faulty(before=fault)
    report = vb.write(photos, sources(1))
    assert (report.written, report.failed, report.retried, len(pauses)) == (10, 0, 2, 2)


def test_rows_of_unknown_outcome_end_the_write_when_retries_run_out() -> None:
    def fault(call: int, batch: pa.RecordBatch) -> None:
        raise partial(photos, batch, dict.fromkeys(range(batch.num_rows), "no answer"), "unknown", None)

    photos = Faulty(before=fault)
    with pytest.raises(vb.DeadlineError, match="no answer"):
        vb.write(photos, sources(1))
    assert len(photos.sent) == delivery.MAX_ATTEMPTS


def test_a_slow_backend_that_takes_some_rows_each_time_is_never_given_up(pauses: list[float]) -> None:
    def fault(call: int, batch: pa.RecordBatch) -> None:
        if batch.num_rows > 1:
            left = dict.fromkeys(range(1, batch.num_rows), "slow")
            raise partial(photos, batch, left, "rejected", vb.RateLimitedError("slow"))

    photos = Faulty(before=fault)
    assert vb.write(photos, [rows(0, 30)]).written == 30
    assert len(pauses) == 29


@pytest.mark.parametrize("again", ["partial", "plain"])
def test_rows_refused_in_a_partial_write_are_set_aside_with_their_reason(
    again: str, pauses: list[float]
) -> None:
    def fault(call: int, batch: pa.RecordBatch) -> None:
        bad = {row: "bad" for row, key in enumerate(ids(batch)) if key in ("r2", "r5")}
        if len(bad) == batch.num_rows and again == "plain":
            raise BackendError("bad")
        if bad:
            raise partial(photos, batch, bad, "rejected", BackendError("422"))

    photos = Faulty(before=fault)
    report = vb.write(photos, sources(1))
    assert report.written == 8
    assert [(each.id, each.error, each.outcome) for each in report.failures] == [
        ("r2", "bad", "rejected"),
        ("r5", "bad", "rejected"),
    ]
    assert pauses == []


def test_a_partial_write_for_a_reason_that_no_retry_mends_ends_the_write() -> None:
    def fault(call: int, batch: pa.RecordBatch) -> None:
        raise partial(photos, batch, {9: "full"}, "rejected", vb.StorageFullError("full"))

    photos = Faulty(before=fault)
    with pytest.raises(vb.StorageFullError):
        vb.write(photos, sources(3))
    assert len(photos.sent) == 1


def test_a_partial_write_that_names_no_rows_is_repeated_whole(pauses: list[float]) -> None:
    def fault(call: int, batch: pa.RecordBatch) -> None:
        if call == 0:
            raise vb.PartialWriteError(vb.WriteReport(written=4, failed=6))

    photos = Faulty(before=fault)
    assert vb.write(photos, sources(1)).written == 10
    assert photos.sent[0] == photos.sent[1]


def test_an_upsert_that_was_stored_before_its_error_is_repeated_without_harm() -> None:
    photos = Faulty(after=fails(vb.DeadlineError("no answer"), 4), parallel_requests=8)
    report = vb.write(photos, sources(10))
    assert (report.written, report.retried) == (100, 4)
    assert photos.count() == 100
