"""What the tests of added fields share; without pytest, for the processes that they start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.stores.faiss.helpers import contents, faiss_store, random_vectors, rows, scanned, small
from vecbridge.collection import Collection
from vecbridge.deadlines import Deadline
from vecbridge.exchange import Described
from vecbridge.filters import Filter
from vecbridge.query import Query
from vecbridge.records import batch
from vecbridge.schema import CollectionSpec, Field
from vecbridge.store import Store
from vecbridge.testing import driver_of

SOON = Deadline.after(600)
YEAR = Field("year", "int64")
PLACE = Field("place", "string")


def described(store: Store) -> Described:
    """What the driver says of the collection."""
    found = driver_of(store).describe("photos", SOON)
    assert isinstance(found, Described)
    return found


def add(store: Store, *fields: Field, found: Described | None = None) -> Described | None:
    """Adds fields as the front does."""
    found = found or described(store)
    spec = replace(found.spec, fields=(*found.spec.fields, *fields))
    grown = driver_of(store).add_fields(found, spec, SOON)
    assert grown is None or isinstance(grown, Described)
    return grown


def records(spec: CollectionSpec, ids: Sequence[str], **values: Any) -> pa.RecordBatch:
    """Records of a grown spec; ``values`` are the same in all of them."""
    plain = rows(small(), ids)
    columns = {name: plain.column(name) for name in ("id", "vector", "n", "s")}
    return batch(spec, **columns, **{name: [value] * len(ids) for name, value in values.items()})


def found_by(photos: Collection, filter: Filter) -> list[str]:
    """Ids that a filter finds, by a scan and by a search."""
    ids = sorted(scanned(photos, filter=filter))
    [hits] = photos.search(Query(random_vectors(1), 100, filter=filter))
    assert sorted(hits.ids) == ids
    assert photos.count(filter) == len(ids)
    return ids


def years(photos: Collection) -> dict[str, Any]:
    """Year and place by id."""
    return {row["id"]: (row.get("year"), row.get("place")) for row in contents(photos)}


def grow_until_killed(place: Path, its: Connection) -> None:
    """Adds a field and writes a row with it, again and again; says so each time."""
    with faiss_store(place) as store:
        while True:
            number = len(described(store).spec.fields) - 2
            name = f"f{number}"
            assert add(store, Field(name, "int64"))
            its.send(("field", number))
            photos = store.open("photos")
            photos.upsert(records(photos.spec, [name], **{name: number}))
            its.send(("row", number))
