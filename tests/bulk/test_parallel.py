"""How many requests of a bulk write are in flight, and at which rate its rows are sent."""

from __future__ import annotations

import threading
from typing import Any

import pyarrow as pa
import pytest

import vecbridge as vb
from tests.bulk.faults import Faulty, ids, rows, sources
from vecbridge.bulk import delivery
from vecbridge.bulk.pacing import Pace
from vecbridge.bulk.places import Places
from vecbridge.capabilities import Capabilities
from vecbridge.stores.faiss.driver import FaissDriver
from vecbridge.stores.memory import MemoryDriver
from vecbridge.stores.milvus.dialects import LITE, SERVER
from vecbridge.stores.pinecone.limits import CAPABILITIES as PINECONE
from vecbridge.stores.snapshot.driver import SnapshotDriver
from vecbridge.stores.weaviate.limits import CAPABILITIES as WEAVIATE


class InFlight:
    """Counts the upserts under way; each waits until there were as many as are expected."""

    def __init__(self, expected: int) -> None:
        self.most = 0
        self._expected = expected
        self._reached = threading.Event()
        self._now = 0
        self._lock = threading.Lock()

    def begin(self, call: int, batch: pa.RecordBatch) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            if self._now == self._expected:
                self._reached.set()
        self._reached.wait(10)
        threading.Event().wait(0.002)  # in which one too many would begin

    def end(self, call: int, batch: pa.RecordBatch) -> None:
        with self._lock:
            self._now -= 1


@pytest.mark.parametrize(
    ("workers", "start", "most", "expected"),
    [(None, 3, 5, 5), (2, 3, 5, 2), (9, 3, 5, 5), (None, 3, 1, 3), (4, 1, 1, 1), (None, 1, 1, 1)],
)
def test_workers_cap_the_requests_of_a_run_and_the_store_caps_the_workers(
    workers: int | None, start: int, most: int, expected: int
) -> None:
    in_flight = InFlight(expected)
    photos = Faulty(
        before=in_flight.begin, after=in_flight.end, parallel_requests=start, max_parallel_requests=most
    )
    assert vb.write(photos, sources(60), workers=workers).written == 600
    assert in_flight.most == expected


def test_what_waits_for_its_retry_leaves_its_place_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two workers: two upserts wait for their retries until all others are written."""
    failed: set[Any] = set()
    others_done = threading.Event()
    lock, written = threading.Lock(), 0

    def fail_two(call: int, batch: pa.RecordBatch) -> None:
        first = ids(batch)[0]
        with lock:
            again = first in failed or len(failed) >= 2
            failed.add(first)
        if not again:
            raise vb.UnavailableError("503")

    def count(call: int, batch: pa.RecordBatch) -> None:
        nonlocal written
        with lock:
            written += 1
            if written == 18:
                others_done.set()

    def pause(stop: threading.Event, seconds: float) -> None:
        assert others_done.wait(20), "the others wait for those that wait for their retry"

    monkeypatch.setattr(delivery, "pause", pause)
    photos = Faulty(before=fail_two, after=count, parallel_requests=2)
    report = vb.write(photos, sources(20), workers=2)
    assert (report.written, report.retried) == (200, 2)


def test_no_more_parts_are_begun_while_many_wait_for_their_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that is down: of a long source only as much is read as there are threads for it."""
    taken, stuck = 0, threading.Event()
    waiting = threading.Semaphore(0)

    def down(call: int, batch: pa.RecordBatch) -> None:
        if not stuck.is_set():
            raise vb.UnavailableError("503")

    def pause(stop: threading.Event, seconds: float) -> None:
        waiting.release()
        assert stuck.wait(20)

    def source() -> Any:
        nonlocal taken
        for batch in sources(50):
            taken += 1
            yield batch

    def release() -> None:
        for _ in range(6):
            assert waiting.acquire(timeout=60)
        threading.Event().wait(0.05)
        seen.append(taken)
        stuck.set()

    seen: list[int] = []
    monkeypatch.setattr(delivery, "pause", pause)
    watcher = threading.Thread(target=release)
    watcher.start()
    report = vb.write(Faulty(before=down, parallel_requests=3), source(), workers=3)
    watcher.join()
    assert report.written == 500
    assert seen[0] <= 2 * 3 + 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_places_are_free_during_a_pause(count: int) -> None:
    places = Places(count)
    assert places.threads == (1 if count == 1 else 2 * count)
    assert places.crowded(count) is None
    waits = places.crowded(count + 1)
    assert waits is not None
    assert not waits.done()
    with places.pausing():
        assert waits.done(), "whoever waits for a place looks again"
        assert (places.crowded(count + 1) is None) == (count > 1)
    assert places.crowded(count + 1) is not None


# ------------------------------------------------------------------------------------------------ rate


@pytest.mark.parametrize("rate", [0, -1, float("nan"), True, "fast"])
def test_a_rate_that_cannot_be_is_refused_before_anything_is_read(rate: Any) -> None:
    def source() -> Any:
        raise AssertionError("the source was read")
        yield

    with pytest.raises(vb.ConfigError, match="max_rate"):
        vb.write(Faulty(), source(), max_rate=rate)


@pytest.mark.parametrize("workers", [1, 3])
def test_rows_are_sent_at_the_rate_in_parts_of_a_second(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []
    monkeypatch.setattr(Pace, "wait", lambda self, count: waited.append(count))
    photos = Faulty(parallel_requests=3)
    assert vb.write(photos, [rows(0, 25)], workers=workers, max_rate=10).written == 25
    assert sorted(waited) == [5, 10, 10]
    assert sorted(map(len, photos.sent)) == [5, 10, 10]


def test_rows_that_are_sent_again_count_against_the_rate_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr(Pace, "wait", lambda self, count: waited.append(count))

    def fail_first(call: int, batch: pa.RecordBatch) -> None:
        if call == 0:
            raise vb.UnavailableError("503")

    assert vb.write(Faulty(before=fail_first), [rows(0, 10)], max_rate=1000).written == 10
    assert waited == [10, 10]


def test_the_pace_is_kept_by_all_threads_together() -> None:
    now, pauses = [0.0], []
    stop = threading.Event()
    stop.wait = lambda seconds=None: pauses.append(seconds) or False  # type: ignore[method-assign,assignment,func-returns-value]
    pace = Pace(100, stop, clock=lambda: now[0])
    for _ in range(4):
        pace.wait(50)
    assert pauses == [0.5, 1.0, 1.5]
    now[0] = 10.0  # nothing is saved up
    pace.wait(50)
    pace.wait(50)
    assert pauses[3:] == [0.5]


def test_the_number_at_first_is_the_most_where_no_other_is_given() -> None:
    assert Capabilities(backend="mine", indexes=frozenset(), parallel_requests=4).requests_at_most == 4
    more = Capabilities(backend="mine", indexes=frozenset(), parallel_requests=4, max_parallel_requests=9)
    assert more.requests_at_most == 9


@pytest.mark.parametrize(
    "able",
    [MemoryDriver.capabilities, FaissDriver.capabilities, SnapshotDriver.capabilities, LITE.capabilities],
    ids=lambda able: able.backend,
)
def test_embedded_stores_take_one_request_at_a_time(able: Capabilities) -> None:
    assert (able.parallel_requests, able.requests_at_most) == (1, 1)


@pytest.mark.parametrize("able", [SERVER.capabilities, WEAVIATE, PINECONE], ids=lambda able: able.backend)
def test_servers_take_more_requests_than_at_first(able: Capabilities) -> None:
    assert 1 < able.parallel_requests < able.max_parallel_requests
