"""Stores in fresh directories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.snapshot.helpers import snapshot_store
from vecbridge.store import Store


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "store"


@pytest.fixture
def store(place: Path) -> Iterator[Store]:
    """An empty store."""
    with snapshot_store(place) as store:
        yield store
