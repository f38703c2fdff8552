"""`Status.built` says which index the server has, also where another program altered it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from pymilvus import MilvusClient

from tests.stores.milvus.helpers import client_of, fresh, made, random_vectors, rows, small
from vecbridge.indexes import HNSW, Auto, Flat, IndexParams, IVFFlat, Other
from vecbridge.query import Query
from vecbridge.store import Collection, Store

ROWS = 3_000


@contextmanager
def indexed(store: Store, index: IndexParams) -> Iterator[tuple[Collection, MilvusClient]]:
    """A collection whose index is built, and the client of another program."""
    spec = small(fresh("built"), index=index)
    with made(store, spec) as photos:
        photos.upsert(rows(spec, [f"r{number}" for number in range(ROWS)], vector=random_vectors(ROWS, 8)))
        photos.wait_ready(timeout=120)
        client = client_of(store)
        try:
            yield photos, client
        finally:
            client.close()


def test_an_index_is_built_once_it_answers_for_rows(store: Store) -> None:
    spec = small(fresh("built"), index=HNSW(m=9, ef_construction=70))
    with made(store, spec) as photos:
        assert photos.status().built == {"vector": None}
        photos.upsert(rows(spec, [f"r{number}" for number in range(ROWS)], vector=random_vectors(ROWS, 8)))
        assert photos.status().built == {"vector": None}
        photos.wait_ready(timeout=120)
        assert photos.status().built == {"vector": HNSW(m=9, ef_construction=70)}


def test_what_the_server_chooses_and_what_it_compares_one_by_one_are_told(store: Store) -> None:
    with indexed(store, Auto()) as (photos, _):
        assert photos.status().built == {"vector": Auto()}
    with made(store, small(fresh("built"), index=Flat())) as photos:
        assert photos.status().built == {"vector": Flat()}


def test_an_index_for_which_there_are_too_few_rows_was_not_built(genuine: Store) -> None:
    spec = small(fresh("built"), index=HNSW())
    with made(genuine, spec) as photos:
        photos.upsert(rows(spec, [f"r{number}" for number in range(100)]))
        photos.wait_ready(timeout=60)
        assert photos.status().built == {"vector": None}


def test_an_index_that_another_program_dropped_is_missing(genuine: Store) -> None:
    with indexed(genuine, HNSW()) as (photos, client):
        client.release_collection(photos.spec.name)
        client.drop_index(photos.spec.name, "vb_vector")
        status = photos.status()
        assert (status.rows, status.built) == (ROWS, {"vector": None})
        assert status.index.startswith("missing: ")


def test_an_index_that_another_program_replaced_is_told_instead_of_the_declared_one(store: Store) -> None:
    with indexed(store, HNSW()) as (photos, client):
        name = photos.spec.name
        client.release_collection(name)
        client.drop_index(name, "vb_vector")
        other = client.prepare_index_params()
        other.add_index("vector", "IVF_FLAT", "other", metric_type="L2", params={"nlist": 16})
        client.create_index(name, other)
        client.load_collection(name)
        photos.wait_ready(timeout=120)
        told = photos.status().built["vector"]
        assert told in (
            IVFFlat(nlist=16),
            Other("IVF_FLAT", {}),
        )  # milvus-lite does not get the nlist
        assert photos.spec.vector.index == HNSW()
        assert len(photos.search(Query(np.ones(8), k=3))[0]) == 3


def test_milvus_lite_without_an_index_has_none(lite: Store) -> None:
    with indexed(lite, HNSW()) as (photos, client):
        client.release_collection(photos.spec.name)
        client.drop_index(photos.spec.name, "vb_vector")
        assert photos.status().built == {"vector": None}
        assert photos.count() == ROWS
