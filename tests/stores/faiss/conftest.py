"""Stores in fresh directories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("faiss", reason="pip install 'vecbridge[faiss]'")

from tests.stores.faiss.helpers import faiss_store
from vecbridge.stores.faiss.store import FaissStore


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "store"


@pytest.fixture
def store(place: Path) -> Iterator[FaissStore]:
    """An empty store."""
    with faiss_store(place) as store:
        yield store
