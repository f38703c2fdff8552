"""Kill -9 of the server in the middle of a write: nothing acknowledged is lost, every row is found."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import vecbridge as vb
from tests.conftest import ROOT
from tests.stores.weaviate import server
from tests.stores.weaviate.helpers import missed, random_vectors, rows, scanned, weaviate_store
from vecbridge import records
from vecbridge.bulk import Progress
from vecbridge.collection import Collection
from vecbridge.driver import Deadline
from vecbridge.errors import DeadlineError, PartialWriteError
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate import repairing
from vecbridge.stores.weaviate.table import Table

# In few dimensions: with 32, HNSW leads to none of a handful of isolated rows once they are written late.
ROWS, DIM, PART = 2000, 16, 100
SPEC = CollectionSpec.single("crash", dim=DIM, metric="l2", fields={"number": "int64"})
IDS = [f"k{number}" for number in range(ROWS)]
VECTORS = random_vectors(ROWS, DIM, seed=7)

pytestmark = pytest.mark.usefixtures("executable")


@pytest.fixture
def genuine() -> Iterator[server.GenuineWeaviate]:
    with server.own() as started:
        yield started


def part(start: int) -> pa.RecordBatch:
    end = start + PART
    return rows(SPEC, IDS[start:end], vector=VECTORS[start:end], number=list(range(start, min(end, ROWS))))


PARTS = [part(start) for start in range(0, ROWS, PART)]


def assert_complete(collection: Collection) -> None:
    """Every row is there once, bit by bit, and found by its own vector."""
    assert collection.count() == ROWS
    assert sorted(scanned(collection)) == sorted(IDS)
    found = collection.fetch(IDS)
    assert np.array_equal(records.vectors(found), VECTORS)
    assert found.column("number").to_pylist() == list(range(ROWS))
    assert missed(collection, IDS, VECTORS) == []


def kill_during_a_write(monkeypatch: pytest.MonkeyPatch, genuine: server.GenuineWeaviate) -> threading.Thread:
    """The next write finds the server dying once its first request is on its way; who kills it."""
    write = Table.write
    killer = threading.Timer(0.02, genuine.kill)
    begun = threading.Lock()

    def write_and_kill(table: Table, request: Any, deadline: Deadline) -> dict[int, str]:
        if begun.acquire(blocking=False):
            killer.start()
        return write(table, request, deadline)

    monkeypatch.setattr(Table, "write", write_and_kill)
    return killer


def test_a_write_that_the_server_interrupts_can_be_repeated_by_another_process(
    genuine: server.GenuineWeaviate, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = len(PARTS) // 3
    with weaviate_store(genuine.url) as store:
        collection = store.create(SPEC)
        for each in PARTS[:third]:
            collection.upsert(each)
        killer = kill_during_a_write(monkeypatch, genuine)
        with pytest.raises(PartialWriteError) as caught:
            collection.upsert(pa.concat_batches(PARTS[third:]))
    killer.join()
    failures = caught.value.report.failures
    assert "unknown" in {each.outcome for each in failures}  # and what was not begun yet is "rejected"
    acknowledged = set(IDS) - {each.id for each in failures}
    assert acknowledged >= set(IDS[: third * PART])
    genuine.start()
    with weaviate_store(genuine.url) as store:  # which knows nothing of the write before
        collection = store.open("crash")
        assert acknowledged <= set(scanned(collection))
        for each in PARTS:
            assert collection.upsert(each).written == PART
        collection.wait_ready()  # it has met rows of the interrupted write, so it looks at every one
        assert_complete(collection)


def test_a_bulk_write_goes_on_by_itself_when_the_server_comes_back(
    genuine: server.GenuineWeaviate, tmp_path: Path
) -> None:
    def outage() -> None:
        time.sleep(0.5)
        genuine.kill()
        time.sleep(1)
        genuine.start()

    with weaviate_store(genuine.url) as store:
        collection = store.create(SPEC)
        breaker = threading.Thread(target=outage)
        breaker.start()
        report = vb.write(collection, PARTS, workers=2, journal=str(tmp_path / "run.journal"))
        breaker.join()
        assert (report.written, report.failed) == (ROWS, 0)
        assert report.retried
        collection.wait_ready()
        assert_complete(collection)


def write_all(url: str, journal: str) -> list[Progress]:
    """The run that is interrupted and continued; says each time that rows were acknowledged."""
    seen: list[Progress] = []

    def show(progress: Progress) -> None:
        seen.append(progress)
        print(progress.written)

    with weaviate_store(url) as store:
        vb.write(store.create(SPEC, if_exists="open"), PARTS, journal=journal, progress=show)
    return seen


def test_a_journal_is_continued_by_another_process_and_repair_finds_what_the_graph_lost(
    genuine: server.GenuineWeaviate, tmp_path: Path
) -> None:
    journal = str(tmp_path / "run.journal")
    program = f"from {__name__} import write_all; write_all({genuine.url!r}, {journal!r})"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as writer:
        assert writer.stdout is not None
        while int(writer.stdout.readline()) < ROWS // 2:
            pass
        genuine.kill()
        writer.kill()
    genuine.start()
    continued = write_all(genuine.url, journal)[-1]
    assert (continued.written, continued.failed) == (ROWS, 0)
    assert ROWS // 2 <= continued.recalled < ROWS
    with weaviate_store(genuine.url) as store:
        collection = store.open("crash")
        collection.repair()
        assert_complete(collection)


def searches_for_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each search for lost rows looks for, from now on."""
    searched: list[int] = []
    search = repairing._missed_in_any_field

    def noted(*arguments: Any) -> list[int]:
        searched.append(len(arguments))
        return search(*arguments)

    monkeypatch.setattr(repairing, "_missed_in_any_field", noted)
    return searched


def test_a_restart_between_two_writes_is_noticed_and_rows_are_looked_for_once(
    genuine: server.GenuineWeaviate, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = len(PARTS) // 2
    with weaviate_store(genuine.url) as store:
        collection = store.create(SPEC)
        for each in PARTS[:half]:
            collection.upsert(each)
        genuine.kill()
        genuine.start()
        vb.write(collection, PARTS[half:])
        with pytest.raises(DeadlineError, match="call again to go on"):
            collection.wait_ready(timeout=0.5)
        searched = searches_for_rows(monkeypatch)
        collection.wait_ready()
        assert searched
        assert_complete(collection)
        searched.clear()
        collection.wait_ready()
        assert searched == [], "once is enough"


def test_repair_says_what_a_sparse_graph_hides(
    genuine: server.GenuineWeaviate, caplog: pytest.LogCaptureFixture
) -> None:
    sparse = CollectionSpec.single("sparse", dim=64, index=vb.HNSW(m=4, ef_construction=8, ef=10))
    ids, vectors = IDS[:2000], random_vectors(2000, 64)
    with weaviate_store(genuine.url) as store:
        collection = store.create(sparse)
        vb.write(collection, [rows(sparse, ids, vector=vectors)])
        repaired = collection.repair()
    assert 0 < repaired < len(ids)
    written_again, hidden = (record.getMessage() for record in caplog.records)
    assert f"{repaired} rows were found by no search" in written_again
    still = re.match(r"sparse: (\d+) of them are still not found", hidden)
    assert still is not None
    assert 0 < int(still[1]) <= repaired
