"""What the tests of the snapshot store share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge.collection import Collection
from vecbridge.records import batch
from vecbridge.registry import connect
from vecbridge.schema import CollectionSpec
from vecbridge.store import Store
from vecbridge.stores.snapshot.driver import SnapshotDriver
from vecbridge.testing import driver_of

DIM = 4


def snapshot_store(root: Path) -> Store:
    """A store in a directory."""
    store = connect(f"snapshot://{root}")
    assert isinstance(driver_of(store), SnapshotDriver)
    return store


def small(name: str = "photos", **changes: Any) -> CollectionSpec:
    """A spec of four dimensions with a number and a text."""
    return CollectionSpec.single(
        name, **({"dim": DIM, "metric": "l2", "fields": {"n": "int64", "s": "string"}} | changes)
    )


def names(count: int, start: int = 0) -> list[str]:
    """Ids in order."""
    return [f"r{number:06d}" for number in range(start, start + count)]


def rows(spec: CollectionSpec, ids: Sequence[str], version: int = 0) -> pa.RecordBatch:
    """Records that follow from their ids and a version, so that anybody can tell whether one is right."""
    numbers = np.array([int(each[1:]) for each in ids], np.float32)
    vectors = np.stack([numbers, np.full_like(numbers, version), numbers + 1, numbers * 2], axis=1)
    texts = [f"{each} at {version}" for each in ids]
    return batch(spec, id=list(ids), vector=vectors, n=[version] * len(ids), s=texts)


def versions(collection: Collection) -> dict[str, int]:
    """Version by id; every way of counting agrees, and no row is another's."""
    found = [page.batch for page in collection.scan(batch_rows=7_000)]
    state: dict[str, int] = {}
    for each in found:
        for version in set(each["n"].to_pylist()):
            some = each.filter(pa.compute.equal(each["n"], version))
            assert some.equals(rows(collection.spec, some["id"].to_pylist(), version))
            assert not state.keys() & set(some["id"].to_pylist()), "an id came twice"
            state |= dict.fromkeys(some["id"].to_pylist(), version)
    assert collection.count() == len(state)
    return state


def files(root: Path) -> list[str]:
    """Every file of a collection but the lock, by its path."""
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != "lock"
    )


def parts(root: Path) -> list[Path]:
    """The Parquet files of a collection."""
    return sorted(root.rglob("*.parquet"))
