"""What the tests of the Weaviate store share."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge.query import FloatArray, Query
from vecbridge.records import batch
from vecbridge.registry import connect
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate.collection import WeaviateCollection
from vecbridge.stores.weaviate.store import WeaviateStore

_numbers = itertools.count()
WIDE = 100  # hits of a search that is to find a row wherever the graph has put it


def weaviate_store(url: str, **options: Any) -> WeaviateStore:
    """A store at a URL."""
    store = connect(url, **options)
    assert isinstance(store, WeaviateStore)
    return store


def fresh(word: str) -> str:
    """A name that no other collection of this run has, nor of another that shares its server."""
    return f"{word}_{os.getpid()}_{next(_numbers)}"


@contextmanager
def made(store: WeaviateStore, spec: CollectionSpec, **options: Any) -> Iterator[WeaviateCollection]:
    """A collection, dropped afterwards."""
    yield store.create(spec, **options)
    store.drop(spec.name)


@contextmanager
def foreign(store: WeaviateStore, described: dict[str, Any], rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A class as another program makes it, with objects; dropped afterwards."""
    rest = store.connection().rest
    rest("POST", "/v1/schema", described)
    for each in rows:
        rest("POST", "/v1/objects", {"class": described["class"], **each})
    yield described["class"]
    rest("DELETE", f"/v1/schema/{described['class']}")


def random_vectors(count: int, dim: int, seed: int = 0) -> FloatArray:
    """Normally distributed vectors."""
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def rows(spec: CollectionSpec, ids: Sequence[Any], **columns: Any) -> pa.RecordBatch:
    """Records with random vectors, unless some are given."""
    columns.setdefault(spec.vector.name, random_vectors(len(ids), spec.vector.dim))
    return batch(spec, id=ids, **columns)


def missed(collection: WeaviateCollection, ids: Sequence[str], vectors: FloatArray) -> list[str]:
    """Those rows that a search for their own vector does not find."""
    found = collection.search(Query(vectors, WIDE))
    return [key for key, hits in zip(ids, found, strict=True) if key not in hits.ids]


def scanned(collection: WeaviateCollection, **options: Any) -> list[Any]:
    """Ids in the order of a scan."""
    return [key for page in collection.scan(include=[], **options) for key in page.batch["id"].to_pylist()]
