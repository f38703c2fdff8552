"""What is asked of an index is what is built: read back, and shown by answers that change with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

import vecbridge as vb
from tests.stores.weaviate import server
from tests.stores.weaviate.helpers import compressed, fresh, made, random_vectors, rest, rows
from vecbridge.driver import Deadline
from vecbridge.errors import DeadlineError
from vecbridge.indexes import HNSW
from vecbridge.query import Query
from vecbridge.schema import CollectionSpec
from vecbridge.store import Store
from vecbridge.stores.weaviate.lock import SharedExclusiveLock
from vecbridge.stores.weaviate.readiness import Shard, status

COUNT, DIM = 2000, 32


def spec_of(index: HNSW) -> CollectionSpec:
    return CollectionSpec.single(fresh("index"), dim=DIM, metric="l2", index=index)


def recall(store: Store, index: HNSW) -> float:
    """The share of the 10 nearest rows that a graph finds, of 100 queries."""
    vectors, queries = random_vectors(COUNT, DIM), random_vectors(100, DIM, seed=1)
    squares = ((queries[:, None, :] - vectors[None, :, :]) ** 2).sum(axis=2)
    nearest = squares.argsort(axis=1)[:, :10].tolist()
    spec = spec_of(index)
    with made(store, spec) as collection:
        collection.upsert(rows(spec, list(map(str, range(COUNT))), vector=vectors))
        found = collection.search(Query(queries, k=10))
    right = sum(
        len({int(key) for key in hits.ids} & set(ids)) for hits, ids in zip(found, nearest, strict=True)
    )
    return right / 1000


def test_the_stored_ef_is_obeyed(genuine_store: Store) -> None:
    assert recall(genuine_store, HNSW(ef=10)) < 0.9 < recall(genuine_store, HNSW(ef=400))


def test_the_width_of_the_graph_is_obeyed(genuine_store: Store) -> None:
    thin, thick = HNSW(m=4, ef_construction=8, ef=20), HNSW(m=64, ef_construction=200, ef=20)
    assert recall(genuine_store, thin) + 0.2 < recall(genuine_store, thick)


@pytest.mark.parametrize("quantizer", ["pq", "sq"])
def test_a_quantizer_that_learns_is_trained_by_wait_ready(genuine_store: Store, quantizer: str) -> None:
    spec = spec_of(HNSW(quantizer=quantizer))
    with made(genuine_store, spec) as collection:
        collection.upsert(rows(spec, list(map(str, range(COUNT)))))
        assert collection.status().index == "building"
        collection.wait_ready()
        assert compressed(collection)
        assert collection.status().index == "ready"
        assert collection.upsert(rows(spec, ["one more"])).written == 1


def test_writes_wait_while_a_quantizer_is_trained(genuine_store: Store) -> None:
    spec = spec_of(HNSW(quantizer="pq"))
    late = rows(spec, ["late"])
    with made(genuine_store, spec) as collection:
        collection.upsert(rows(spec, list(map(str, range(COUNT)))))
        trainer = threading.Thread(target=collection.wait_ready)

        def while_it_is_trained() -> Iterator[pa.RecordBatch]:
            yield late
            while trainer.is_alive():
                yield late

        trainer.start()
        report = vb.write(collection, while_it_is_trained(), workers=1)
        trainer.join()
        assert report.failed == 0
        assert collection.count() == COUNT + 1
    if server.version(server.shared_url()).startswith("1.39."):  # it refuses them; 1.40 answers afterwards
        assert report.retried


def test_too_few_rows_to_train_on_are_no_reason_to_wait(genuine_store: Store) -> None:
    spec = spec_of(HNSW(quantizer="pq"))
    with made(genuine_store, spec) as collection:
        collection.upsert(rows(spec, ["a", "b"]))
        collection.wait_ready()
        assert collection.status().index == "ready"


@pytest.mark.parametrize(
    ("now", "config", "state"),
    [
        (Shard(waiting=3, busy=False, compressed=False), {}, "building"),
        (Shard(waiting=0, busy=True, compressed=False), {}, "building"),
        (Shard(waiting=0, busy=False, compressed=False), {}, "ready"),
        (Shard(waiting=0, busy=False, compressed=False), {"skip": True}, "missing"),
    ],
)
def test_vectors_that_wait_and_an_index_that_is_missing_are_told(
    now: Shard, config: dict[str, Any], state: str
) -> None:
    table: Any = SimpleNamespace(spec=spec_of(HNSW()), layout=SimpleNamespace(vectors={"vector": "vector"}))
    settings = {"maxConnections": 16, "efConstruction": 200, "distance": "l2-squared"}
    index = {"vectorIndexType": "hnsw", "vectorIndexConfig": settings | config}
    found = status(table, {"vectorConfig": {"vector": index}}, now, rows=9)
    assert found.indexes["vector"].startswith(state)
    assert found.built == {"vector": None if state == "missing" else HNSW()}


def test_an_exclusive_holder_waits_for_shared_ones_and_keeps_them_out() -> None:
    lock, order = SharedExclusiveLock(), []

    def share() -> None:
        with lock.shared(Deadline.after(10)):
            order.append("shared")

    with (
        lock.shared(Deadline.after(10)),
        lock.shared(Deadline.after(10)),
        pytest.raises(DeadlineError, match="without a pause"),
        lock.exclusive(Deadline.after(0)),
    ):
        pass
    with lock.exclusive(Deadline.after(10)):
        with pytest.raises(DeadlineError, match="repair"), lock.shared(Deadline.after(0)):
            pass
        late = threading.Thread(target=share)
        late.start()
        time.sleep(0.05)
        order.append("exclusive")
    late.join()
    assert order == ["exclusive", "shared"]


def test_the_built_index_is_the_one_that_the_class_has_now(genuine_store: Store) -> None:
    index = HNSW(m=12, ef_construction=90, ef=40)
    spec = spec_of(index)
    with made(genuine_store, spec) as collection:
        assert collection.status().built == {"vector": index}
        path = f"/v1/schema/{spec.name[0].upper()}{spec.name[1:]}"
        described = rest(genuine_store, "GET", path)
        config = described["vectorConfig"]["vector"]["vectorIndexConfig"]
        config |= {"ef": 99, "bq": {"enabled": True}}
        rest(genuine_store, "PUT", path, described)
        assert collection.status().built == {"vector": HNSW(m=12, ef_construction=90, ef=99, quantizer="bq")}
        assert collection.spec.vector.index == index


def test_the_choice_of_the_server_is_told_in_its_own_terms(genuine_store: Store) -> None:
    spec = CollectionSpec.single(fresh("index"), dim=DIM)
    with made(genuine_store, spec) as collection:
        built = collection.status().built["vector"]
        assert isinstance(built, HNSW)
        assert built.quantizer is None


@pytest.mark.parametrize("quantizer", ["pq", "sq"])
def test_a_quantizer_is_built_once_it_is_trained(genuine_store: Store, quantizer: Any) -> None:
    spec = spec_of(HNSW(m=16, ef_construction=64, quantizer=quantizer))
    with made(genuine_store, spec) as collection:
        collection.upsert(rows(spec, list(map(str, range(COUNT)))))
        assert collection.status().built == {"vector": HNSW(m=16, ef_construction=64)}
        collection.wait_ready()
        assert collection.status().built == {"vector": spec.vector.index}
