"""A server with ASYNC_INDEXING acknowledges rows before they are in the index: flush() waits for that."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.stores.weaviate import server
from tests.stores.weaviate.helpers import made, random_vectors, rows, weaviate_store
from vecbridge.driver import Deadline
from vecbridge.errors import DeadlineError
from vecbridge.query import Query
from vecbridge.schema import CollectionSpec
from vecbridge.store import Store
from vecbridge.stores.weaviate.readiness import wait_for_queue

COUNT, DIM = 600, 32
IDS = [str(number) for number in range(COUNT)]


@pytest.fixture(scope="module")
def late_store() -> Iterator[Store]:
    """A store on a genuine server of its own that indexes asynchronously."""
    if (absent := server.missing_executable()) is not None:
        pytest.skip(f"no Weaviate of one's own: {absent}")
    with (
        # a chunk that is not full waits so long: no search finds its rows by chance before a flush
        server.own(ASYNC_INDEXING="true", ASYNC_INDEXING_STALE_TIMEOUT="2s") as late,
        weaviate_store(late.url) as store,
    ):
        yield store


def test_after_a_flush_searches_find_what_was_written_replaced_and_deleted(late_store: Store) -> None:
    spec = CollectionSpec.single("photos", dim=DIM, metric="l2")
    vectors = random_vectors(COUNT, DIM)
    with made(late_store, spec) as collection:

        def nearest(numbers: range) -> list[list[str | int]]:
            return [
                list(hits.ids) for hits in collection.search(Query(vectors[numbers.start : numbers.stop], 1))
            ]

        collection.upsert(rows(spec, IDS, vector=vectors))
        assert collection.count() == COUNT  # what is no search sees a row when it is acknowledged
        assert collection.fetch(["7"]).num_rows == 1
        collection.flush()
        assert collection.status().index == "ready"
        assert nearest(range(300)) == [[key] for key in IDS[:300]]

        vectors[:100] = random_vectors(100, DIM, seed=1) + np.float32(9)
        collection.upsert(rows(spec, IDS[:100], vector=vectors[:100]))
        collection.delete(IDS[100:200])
        collection.flush()
        assert nearest(range(100)) == [[key] for key in IDS[:100]]
        assert nearest(range(200, 300)) == [[key] for key in IDS[200:300]]
        found = nearest(range(100, 200))
        assert all(found), "the next row stands in for a deleted one"
        assert not {hits[0] for hits in found} & set(IDS[100:200])


@pytest.mark.parametrize(
    "late",
    [
        {"vectorQueueLength": 3, "vectorIndexingStatus": "READY"},
        {"vectorQueueLength": 0, "vectorIndexingStatus": "INDEXING"},
    ],
    ids=["queued", "indexing"],
)
def test_rows_that_are_queued_or_being_indexed_are_waited_for(late: dict[str, Any]) -> None:
    ready = {"vectorQueueLength": 0, "vectorIndexingStatus": "READY"}
    answers = [late, late, ready]
    connection = SimpleNamespace(shards=lambda name, deadline: [{"name": "s", **answers.pop(0)}])
    table: Any = SimpleNamespace(
        spec=SimpleNamespace(name="photos"),
        layout=SimpleNamespace(class_name="Photos", tenants=False),
        connection=connection,
    )
    assert wait_for_queue(table, Deadline.after(60)).waiting == 0
    assert answers == []
    answers = [late]
    with pytest.raises(DeadlineError, match="is not ready in time"):
        wait_for_queue(table, Deadline.after(0))
