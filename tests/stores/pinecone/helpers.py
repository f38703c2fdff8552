"""What the tests of the Pinecone store share: small collections, and ways to read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge.collection import Collection
from vecbridge.query import FloatArray
from vecbridge.records import batch
from vecbridge.registry import connect
from vecbridge.schema import CollectionSpec
from vecbridge.store import Store
from vecbridge.testing.pinecone import Emulator

KEY = "pcsk_hunter2-hunter2"
DIM = 4


def url_of(emulator: Emulator) -> str:
    """The URL of an emulated Pinecone."""
    return emulator.host.replace("http://", "pinecone://")


def pinecone_store(emulator: Emulator, **options: Any) -> Store:
    """A store on an emulator."""
    return connect(url_of(emulator), **({"api_key": KEY} | options))


def small(name: str = "photos", **changes: Any) -> CollectionSpec:
    """A spec of four dimensions."""
    return CollectionSpec.single(name, **({"dim": DIM, "metric": "l2"} | changes))


def random_vectors(count: int, dim: int = DIM, seed: int = 0) -> FloatArray:
    """Normally distributed vectors."""
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
