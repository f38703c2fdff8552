"""Stores in fresh directories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

faiss = pytest.importorskip("faiss", reason="pip install '.[faiss]'")

from tests.stores.faiss.helpers import faiss_store, names, rows, small
from vecbridge.store import Store


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """FAISS's threads wait for each other in a loop, which takes long where the cores are shared."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "store"


@pytest.fixture
def store(place: Path) -> Iterator[Store]:
    """An empty store."""
    with faiss_store(place) as store:
        yield store


@pytest.fixture
def made(place: Path) -> Path:
    """A closed store with three rows, one of them written twice."""
    with faiss_store(place) as store:
        photos = store.create(small())
        photos.upsert(rows(small(), names(3)))
        photos.upsert(rows(small(), names(1)))
    return place
