"""Stores on a genuine Milvus and on milvus-lite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pymilvus", reason="pip install '.[milvus]'")

from tests.stores.milvus import server
from tests.stores.milvus.helpers import lite_url, milvus_store
from vecbridge.store import Store


@pytest.fixture(scope="module")
def server_url() -> str:
    """The URL of the genuine server of this run; a module with a server of its own may have replaced it."""
    if (absent := server.missing()) is not None:
        pytest.skip(f"no genuine Milvus: {absent}")
    return server.shared_url()


@pytest.fixture
def genuine(server_url: str) -> Iterator[Store]:
    """A store on the genuine server."""
    with milvus_store(server_url) as store:
        yield store


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Store]:
    """A store of milvus-lite, in a fresh directory."""
    with milvus_store(lite_url(tmp_path)) as store:
        yield store


@pytest.fixture(params=["milvus", "milvus-lite"])
def store(request: pytest.FixtureRequest) -> Store:
    """A store on each of them."""
    found = request.getfixturevalue("genuine" if request.param == "milvus" else "lite")
    assert isinstance(found, Store)
    return found
