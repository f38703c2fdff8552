"""Kill -9 of the server in the middle of a write: nothing acknowledged is lost, every row is found."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import vecbridge as vb
from tests.stores.weaviate import server
from tests.stores.weaviate.helpers import missed, random_vectors, rows, scanned, weaviate_store
from vecbridge import records
from vecbridge.errors import PartialWriteError, VecbridgeError
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate.collection import WeaviateCollection

ROWS, DIM, PART = 6000, 32, 250
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


def assert_complete(collection: WeaviateCollection) -> None:
    """Every row is there once, bit by bit, and found by its own vector."""
    assert collection.count() == ROWS
    assert sorted(scanned(collection)) == sorted(IDS)
    found = collection.fetch(IDS)
    assert np.array_equal(records.vectors(found), VECTORS)
    assert found.column("number").to_pylist() == list(range(ROWS))
    assert missed(collection, IDS, VECTORS) == []


def write_until_killed(
    collection: WeaviateCollection, genuine: server.GenuineWeaviate
) -> tuple[set[str], VecbridgeError]:
    """Writes part by part while the server dies; what was acknowledged, and how it ended."""
    acknowledged: set[str] = set()
    killer: threading.Thread | None = None
    for start in range(0, ROWS, PART):
        if start == ROWS // 3:
            killer = threading.Timer(0.15, genuine.kill)
            killer.start()
        try:
            collection.upsert(part(start))
        except VecbridgeError as error:
            assert killer is not None
            killer.join()
            return acknowledged, error
        acknowledged.update(IDS[start : start + PART])
    raise AssertionError("the server outlived the write: write more rows")


def test_a_write_that_the_server_interrupts_can_be_repeated_by_another_process(
    genuine: server.GenuineWeaviate,
) -> None:
    with weaviate_store(genuine.url) as store:
        acknowledged, error = write_until_killed(store.create(SPEC), genuine)
        assert isinstance(error, PartialWriteError)
        assert {each.outcome for each in error.report.failures} == {"unknown"}
    genuine.start()
    with weaviate_store(genuine.url) as store:  # which knows nothing of the write before
        collection = store.open("crash")
        assert acknowledged <= set(scanned(collection))
        for start in range(0, ROWS, PART):
            assert collection.upsert(part(start)).written == PART
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
        report = vb.write(
            collection, map(part, range(0, ROWS, PART)), workers=2, journal=str(tmp_path / "run.journal")
        )
        breaker.join()
        assert (report.written, report.failed) == (ROWS, 0)
        assert report.retried
        collection.wait_ready()  # a server that was killed forgets links of acknowledged rows, too
        assert_complete(collection)
