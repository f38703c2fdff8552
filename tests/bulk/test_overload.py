"""Bulk writes to backends that fail now and then, or take only so many requests at a time."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pyarrow as pa
import pytest

import vecbridge as vb
from tests.bulk.faults import Faulty, sources
from tests.front.drivers import SPEC, store_of
from vecbridge.driver import Deadline, RequestLimits, WritePart, WriteResult
from vecbridge.stores.memory import MemoryCollection


@pytest.mark.parametrize("error", [vb.UnavailableError("503"), vb.DeadlineError("no answer")])
def test_of_many_requests_one_in_a_hundred_fails_and_all_rows_are_stored(error: Exception) -> None:
    chance, lock, failed = random.Random(7), threading.Lock(), 0

    def fail(call: int, batch: pa.RecordBatch) -> None:
        nonlocal failed
        with lock:
            if chance.random() >= 0.01:
                return
            failed += 1
        raise error

    photos = Faulty(before=fail, parallel_requests=8)
    report = vb.write(photos, sources(1_500, 2))
    assert (report.written, report.failed) == (3_000, 0)
    assert photos.stored() == {f"r{number}" for number in range(3_000)}
    assert failed > 5
    assert len(photos.sent) == 1_500 + failed == 1_500 + report.retried


class Crowded(MemoryCollection):
    """Takes so many requests at a time, of a row each, and refuses further ones.

    Each waits for a while until as many are in flight as a test expects: a busy machine reaches them, too.
    """

    takes: ClassVar[int] = 0
    expected: ClassVar[int] = 0
    reached: ClassVar[threading.Event] = threading.Event()
    now: ClassVar[int] = 0
    most: ClassVar[int] = 0
    sent: ClassVar[int] = 0
    refused: ClassVar[int] = 0
    lock: ClassVar[Any] = threading.Lock()

    @classmethod
    def begin(cls, *, expected: int, takes: int = 1_000) -> None:
        """Forgets what other tests have sent."""
        cls.takes, cls.expected, cls.reached = takes, expected, threading.Event()
        cls.now, cls.most, cls.sent, cls.refused = 0, 0, 0, 0

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        for number, row in enumerate(rows.to_pylist()):
            yield WritePart(range(number, number + 1), [row])

    def write(self, part: WritePart, deadline: Deadline) -> WriteResult:
        kind = type(self)
        with kind.lock:
            kind.now += 1
            kind.sent += 1
            kind.most = max(kind.most, kind.now)
            if kind.now >= kind.expected:
                kind.reached.set()
            refuse = kind.now > kind.takes
            kind.refused += refuse
        try:
            if refuse:
                raise vb.RateLimitedError("slow down")
            kind.reached.wait(0.1)
            time.sleep(0.002)  # in which one too many would come
            return super().write(part, deadline)
        finally:
            with kind.lock:
                kind.now -= 1


def numbered(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"r{number}", "vector": [1, number]} for number in range(first, first + count)]


def test_where_a_backend_refuses_the_number_of_requests_falls_and_all_rows_are_stored() -> None:
    Crowded.begin(expected=5, takes=4)
    able = {"request_rows": 1, "parallel_requests": 16, "max_parallel_requests": 16}
    with store_of(Crowded, **able) as store:
        photos = store.create(SPEC)
        report = vb.write(photos, [numbered(400)])
        assert (report.written, report.failed, photos.count()) == (400, 0, 400)
        assert 0 < report.retried <= Crowded.refused  # an upsert may have had several that were refused
        assert Crowded.most > 4
        assert photos._connection.slots.at_once < 16


def test_the_number_of_requests_rises_to_the_most_while_they_succeed() -> None:
    Crowded.begin(expected=6)
    with store_of(Crowded, request_rows=1, parallel_requests=1, max_parallel_requests=6) as store:
        photos = store.create(SPEC)
        vb.write(photos, [numbered(300)])
        assert Crowded.most == 6


def test_one_large_upsert_has_more_requests_in_flight_as_they_succeed() -> None:
    Crowded.begin(expected=6)
    with store_of(Crowded, request_rows=1, parallel_requests=2, max_parallel_requests=6) as store:
        photos = store.create(SPEC)
        assert photos.upsert(numbered(300)).written == 300
        assert Crowded.most == 6


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_cap_the_requests_of_a_run_also_where_an_upsert_takes_several(workers: int) -> None:
    Crowded.begin(expected=workers)
    with store_of(Crowded, request_rows=50, parallel_requests=8, max_parallel_requests=8) as store:
        assert vb.write(store.create(SPEC), [numbered(200)], workers=workers).written == 200
    assert Crowded.sent == 200
    assert Crowded.most == workers


def test_writes_to_several_collections_of_a_store_share_its_number_of_requests() -> None:
    Crowded.begin(expected=3)
    with store_of(Crowded, request_rows=1, parallel_requests=3, max_parallel_requests=3) as store:
        targets = [store.create(vb.CollectionSpec.single(name, dim=2)) for name in ("one", "two", "three")]
        threads = [threading.Thread(target=vb.write, args=(target, [numbered(60)])) for target in targets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [target.count() for target in targets] == [60, 60, 60]
        assert Crowded.most == 3


# pytest has threads, and Python warns of a fork among threads
FORK = """
import os
import vecbridge as vb
from tests.front.drivers import SPEC, Changed
from vecbridge.store import Store
from vecbridge.urls import parse
from dataclasses import replace
able = replace(Changed.capabilities, parallel_requests=1, max_parallel_requests=4)
driver = type("Driver", (Changed,), {"capabilities": able, "on_fork": "reopen"})
store = Store(driver, parse("memory://"), {})
photos = store.create(SPEC)
with photos._connection.slots:  # whoever sends in the parent is not there in the child
    child = os.fork()
    if not child:
        here = store.create(SPEC)
        report = vb.write(here, [[{"id": f"r{n}", "vector": [1, 1]}] for n in range(20)])
        os._exit(0 if report.written == here.count() == 20 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert vb.write(photos, [[{"id": "a", "vector": [1, 1]}]]).written == 1
print("done")
"""


def test_a_forked_child_waits_for_no_request_of_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr
