"""What the tests of the Milvus stores share: small collections, and ways to read them."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pymilvus import MilvusClient

from vecbridge.errors import NotFoundError
from vecbridge.indexes import Flat
from vecbridge.query import FloatArray
from vecbridge.records import batch
from vecbridge.registry import connect
from vecbridge.schema import CollectionSpec
from vecbridge.store import Collection, Store
from vecbridge.stores.milvus.lite import MilvusLiteDriver
from vecbridge.testing import driver_of

DIM = 8
_RUN = uuid.uuid4().hex[:8]
_numbers = itertools.count()


def milvus_store(url: str, **options: Any) -> Store:
    """A store at a URL."""
    return connect(url, **options)


def lite_url(directory: Path) -> str:
    """The URL of a milvus-lite store in a directory."""
    pytest.importorskip("milvus_lite", reason="pip install '.[milvus]'")
    return f"milvus+lite://{directory}/store.db"


def fresh(word: str) -> str:
    """A name that no other collection of the server has."""
    return f"{word}_{_RUN}_{next(_numbers)}"


def small(name: str, **changes: Any) -> CollectionSpec:
    """A spec of eight dimensions, compared one by one, so that nothing waits for an index."""
    return CollectionSpec.single(name, **({"dim": DIM, "metric": "l2", "index": Flat()} | changes))


@contextmanager
def made(store: Store, spec: CollectionSpec, **options: Any) -> Iterator[Collection]:
    """A collection, dropped afterwards."""
    try:
        yield store.create(spec, **options)
    finally:
        with suppress(NotFoundError):
            store.drop(spec.name)


def random_vectors(count: int, dim: int = DIM, seed: int = 0) -> FloatArray:
    """Normally distributed vectors, not of length one."""
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def rows(spec: CollectionSpec, ids: Sequence[Any], **columns: Any) -> pa.RecordBatch:
    """Records with random vectors."""
    columns.setdefault(spec.vector.name, random_vectors(len(ids), spec.vector.dim))
    return batch(spec, id=ids, **columns)


def scanned(collection: Collection, **options: Any) -> list[Any]:
    """Ids in the order of a scan."""
    return [key for page in collection.scan(include=[], **options) for key in page.batch["id"].to_pylist()]


def contents(collection: Collection) -> dict[Any, dict[str, Any]]:
    """Every record by its id; fails where an id comes twice."""
    found = [record for page in collection.scan() for record in page.batch.to_pylist()]
    assert len({each["id"] for each in found}) == len(found)
    return {each["id"]: each for each in found}


def client_of(store: Store) -> MilvusClient:
    """Milvus's own client of the same server, as another program would use it."""
    store.collections()  # connects, and starts the embedded server
    driver = driver_of(store)
    if isinstance(driver, MilvusLiteDriver):
        return MilvusClient(driver.url.path)
    return MilvusClient(f"http://{driver.connection.target}")
