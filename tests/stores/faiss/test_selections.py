"""Rows that match a filter are kept from commit to commit, and say what a fresh evaluation says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.stores.faiss.helpers import faiss_store, found, names, random_vectors, reader_of, small
from vecbridge.collection import Collection
from vecbridge.filters import Filter, field
from vecbridge.indexes import IVFFlat
from vecbridge.records import batch
from vecbridge.store import Store
from vecbridge.stores.faiss import lists, masks, search
from vecbridge.stores.faiss.rows import Snapshot

CONDITION = field("n") < 300


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From which row on a filter was evaluated, each time."""
    evaluated: list[int] = []
    real = masks.mask

    def mask(filter: Filter, snapshot: Snapshot, first: int = 0) -> Any:
        evaluated.append(first)
        return real(filter, snapshot, first)

    monkeypatch.setattr(masks, "mask", mask)
    return evaluated


def require_fresh(photos: Collection) -> None:
    """The kept selection is what a fresh evaluation gives."""
    reader = reader_of(photos)
    snapshot = reader.view().snapshot
    condition = photos.capabilities.resolve_filter(CONDITION, photos.spec)
    kept = reader.selections.get(condition, snapshot)
    fresh = np.flatnonzero(masks.mask(condition, snapshot))
    assert np.flatnonzero(kept.allowed).tolist() == fresh.tolist()
    assert kept.count == len(fresh) == photos.count(CONDITION)
    assert kept.rows.tolist() == fresh.tolist()
    for index in reader.view().indexes["vector"]:
        inside = fresh[(fresh >= index.first) & (fresh < index.first + index.rows)]
        assert np.sort(kept.within(index).rows).tolist() == inside.tolist()


def numbered(ids: list[str], first: int) -> Any:
    return batch(
        small(),
        id=ids,
        vector=random_vectors(len(ids), seed=first),
        n=list(range(first, first + len(ids))),
        s=ids,
    )


def test_a_commit_evaluates_the_new_rows_alone(store: Store, evaluated: list[int]) -> None:
    photos = store.create(small())
    photos.upsert(numbered(names(400), 0))
    assert photos.count(CONDITION) == 300
    evaluated.clear()
    for number in range(5):
        photos.upsert(numbered([f"more {number}"], 100 + number))
        assert photos.count(CONDITION) == 301 + number
    assert evaluated == [400, 401, 402, 403, 404]
    photos.delete(["r000005", "r000399"])
    assert photos.count(CONDITION) == 304
    assert evaluated[5:] == [406 - 1]
    require_fresh(photos)


def test_many_commits_of_every_kind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LISTS_FROM", 500)
    monkeypatch.setattr(search, "EXACT_ROWS", 10)
    spec = small(index=IVFFlat(nlist=8))
    photos = store.create(spec)
    random = np.random.default_rng(1)
    photos.upsert(numbered(names(900), 0))
    photos.wait_ready()
    for step in range(30):
        if step % 3 == 0:
            photos.delete([f"r{number:06d}" for number in random.integers(0, 1200, 7)])
        else:
            start = int(random.integers(0, 1200))
            photos.upsert(numbered(names(20, start), start))
        if step == 12:
            photos.wait_ready()
        if step == 20:
            photos.compact()
        if step == 25:
            photos = photos.add_fields({"extra": "int64"}) or store.open("photos")
            break
        require_fresh(photos)
    require_fresh(photos)
    for hits in found(photos, random_vectors(5, seed=3), 1000, filter=CONDITION):
        assert len(hits) == photos.count(CONDITION)


def test_another_process_that_reads_follows(store: Store, evaluated: list[int]) -> None:
    photos = store.create(small())
    photos.upsert(numbered(names(400), 0))
    with faiss_store(store.url.directory()) as readers:
        mine = readers.open("photos")
        assert mine.count(CONDITION) == 300
        photos.upsert(numbered(["more"], 7))
        evaluated.clear()
        assert mine.count(CONDITION) == 301
        assert evaluated == [400]
        require_fresh(mine)


def test_a_view_from_before_keeps_its_own_answer(store: Store) -> None:
    photos = store.create(small())
    photos.upsert(numbered(names(400), 0))
    reader = reader_of(photos)
    before = reader.view().snapshot
    condition = photos.capabilities.resolve_filter(CONDITION, photos.spec)
    photos.upsert(numbered(names(10), 350))  # ten that matched do no more
    assert reader.selections.get(condition, reader.view().snapshot).count == 290
    assert reader.selections.get(condition, before).count == 300
    assert reader.selections.get(condition, reader.view().snapshot).count == 290
