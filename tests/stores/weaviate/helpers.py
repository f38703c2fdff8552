"""What the tests of the Weaviate store share."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge.collection import Collection
from vecbridge.driver import Deadline
from vecbridge.query import FloatArray, Query
from vecbridge.records import batch
from vecbridge.registry import connect
from vecbridge.schema import CollectionSpec
from vecbridge.store import Store
from vecbridge.stores.weaviate.driver import WeaviateDriver
from vecbridge.stores.weaviate.readiness import shard
from vecbridge.testing import driver_of

_numbers = itertools.count()
WIDE = 100  # hits of a search that is to find a row wherever the graph has put it


def weaviate_store(url: str, **options: Any) -> Store:
    """A store at a URL."""
    store = connect(url, **options)
    assert isinstance(driver_of(store), WeaviateDriver)
    return store


def rest(store: Store, method: str, path: str, body: Any = None) -> Any:
    """The answer to a REST request."""
    return driver_of(store).connection.rest(method, path, Deadline.after(30), path, body)


def address(store: Store) -> str:
    """ "host:port" of its REST interface."""
    return str(driver_of(store).connection.rest_url.partition("//")[2])


def take_key_back(store: Store) -> None:
    """Has gRPC send another key from now on, as if the right one had been taken back."""
    driver_of(store).connection.grpc._metadata = (("authorization", "Bearer sesame"),)


def fresh(word: str) -> str:
    """A name that no other collection of this run has, nor of another that shares its server."""
    return f"{word}_{os.getpid()}_{next(_numbers)}"


@contextmanager
def made(store: Store, spec: CollectionSpec, **options: Any) -> Iterator[Collection]:
    """A collection, dropped afterwards."""
    yield store.create(spec, **options)
    store.drop(spec.name)


@contextmanager
def foreign(store: Store, described: dict[str, Any], rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A class as another program makes it, with objects; dropped afterwards."""
    rest(store, "POST", "/v1/schema", described)
    for row in rows:
        rest(store, "POST", "/v1/objects", {"class": described["class"], **row})
    yield described["class"]
    rest(store, "DELETE", f"/v1/schema/{described['class']}")


def compressed(collection: Collection) -> bool:
    """Whether searches read quantized vectors."""
    return shard(driver_of(collection).table, Deadline.after(30)).compressed


def random_vectors(count: int, dim: int, seed: int = 0) -> FloatArray:
    """Normally distributed vectors."""
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def rows(spec: CollectionSpec, ids: Sequence[Any], **columns: Any) -> pa.RecordBatch:
    """Records with random vectors, unless some are given."""
    columns.setdefault(spec.vector.name, random_vectors(len(ids), spec.vector.dim))
    return batch(spec, id=ids, **columns)


def missed(collection: Collection, ids: Sequence[str], vectors: FloatArray) -> list[str]:
    """Those rows that a search for their own vector does not find."""
    found = collection.search(Query(vectors, WIDE))
    return [key for key, hits in zip(ids, found, strict=True) if key not in hits.ids]


def scanned(collection: Collection, **options: Any) -> list[Any]:
    """Ids in the order of a scan."""
    return [key for page in collection.scan(include=[], **options) for key in page.batch["id"].to_pylist()]
