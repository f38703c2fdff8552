"""Filters over a large collection are evaluated in pieces, and say the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

import vecbridge as vb
from vecbridge import field
from vecbridge.stores.faiss import masks
from vecbridge.testing import driver_of
from vecbridge.testing.checks import ids_of
from vecbridge.testing.model import Model

SPEC = vb.CollectionSpec.single(
    "photos",
    dim=2,
    metric="l2",
    fields={
        "year": "int64",
        "tags": "list<string>",
        "title": "string",
        "taken": "timestamp",
        "people": "list<int64>",
        "scores": "list<float64>",
    },
)
NOON = datetime(2020, 5, 17, 12, tzinfo=UTC)
FILTERS = [
    field("year") >= 2010,
    ~(field("year") >= 2010),
    field("tags").contains("t1"),
    ~field("tags").contains("t1"),
    ~field("tags").contains("nowhere"),
    field("title").isin(["T1", "T2"]) & (field("year") < 2015) | field("tags").is_null(),
    field("taken") < NOON + timedelta(microseconds=40),
    field("taken").isin([NOON + timedelta(microseconds=n) for n in range(1, 300, 9)]),
    ~field("taken").isin([NOON]),
    field("people").contains(2),
    ~field("people").contains(2),
    field("scores").contains(0.5) | (field("id") >= "r250"),
    field("tags").is_empty() | field("people").is_empty(),
    ~field("scores").is_empty() & ~field("id").isin(["r2", "r3"]),
]


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("coded_from", [16, 4096])
@pytest.mark.parametrize("piece", [1, 7, 64, 1000])
def test_pieces_of_any_size_find_the_rows_that_the_oracle_finds(
    filter: vb.Filter, piece: int, coded_from: int, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(masks, "_PIECE", piece)
    monkeypatch.setattr(masks, "_CODED_FROM", coded_from)
    count = 300
    columns = {
        "id": [f"r{n}" for n in range(count)],
        "vector": np.arange(2 * count, dtype=np.float32).reshape(count, 2),
        "year": [None if n % 7 == 0 else 2000 + n % 30 for n in range(count)],
        "tags": [None if n % 5 == 0 else [f"t{n % 3}"] * (n % 4) for n in range(count)],
        "title": [None if n % 11 == 0 else f"T{n % 6}" for n in range(count)],
        "taken": [None if n % 3 == 0 else NOON + timedelta(microseconds=n) for n in range(count)],
        "people": [None if n % 5 == 1 else list(range(n % 4)) for n in range(count)],
        "scores": [None if n % 5 == 2 else [n % 3 / 2] * (n % 4) for n in range(count)],
    }
    batch, model, dropped = vb.batch(SPEC, **columns), Model(SPEC), [f"r{n}" for n in range(0, count, 13)]
    model.upsert(columns)
    model.delete(dropped)
    with vb.connect(f"faiss://{tmp_path}/s") as disk:
        collection = disk.create(SPEC)
        for start in range(0, count, 90):
            collection.upsert(batch.slice(start, 90))
        collection.delete(dropped)
        for _ in range(5):  # one piece more is coded each time
            condition = collection.capabilities.resolve_filter(filter, SPEC)
            masks.mask(condition, driver_of(collection).reader.view().snapshot)
        found = ids_of(collection, filter)
    assert found == model.find(filter)
    assert found


@pytest.mark.parametrize("distinct", [3, 300, 70_000])
def test_lists_of_few_and_of_many_distinct_strings(distinct: int, tmp_path: object) -> None:
    count = 80_000
    batch = vb.batch(
        SPEC,
        id=[f"r{n}" for n in range(count)],
        vector=np.ones((count, 2), np.float32),
        tags=[[f"t{n % distinct}"] for n in range(count)],
    )
    with vb.connect(f"faiss://{tmp_path}/s") as disk:
        collection = disk.create(SPEC)
        collection.upsert(batch)
        for tag in range(0, distinct, max(1, distinct // 7)):  # the first is answered without codes
            wanted = len(range(tag, count, distinct))
            assert collection.count(field("tags").contains(f"t{tag}")) == wanted
        collection.delete(["r0"])
        assert collection.count(field("tags").contains("t0")) == len(range(0, count, distinct)) - 1
        assert collection.count(field("tags").contains("absent")) == 0
