"""Stores on a Weaviate: genuine where there is one, else emulated."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

if find_spec("weaviate") is None:  # importing it here would warn of authlib, and warnings are errors
    pytest.skip("pip install '.[weaviate]'", allow_module_level=True)

from tests.stores.weaviate import server
from tests.stores.weaviate.helpers import weaviate_store
from vecbridge.store import Store


@pytest.fixture
def executable() -> None:
    """A server that a test can start for itself."""
    if (absent := server.missing_executable()) is not None:
        pytest.skip(f"no Weaviate of one's own: {absent}")


@pytest.fixture
def server_url() -> str:
    """The URL of the server of this run."""
    return server.url()


@pytest.fixture
def store(server_url: str) -> Iterator[Store]:
    """A store on the server of this run."""
    with weaviate_store(server_url) as opened:
        yield opened


@pytest.fixture
def genuine_store() -> Iterator[Store]:
    """A store on the genuine server, whose graphs and quantizers an exact search has not."""
    if (absent := server.missing()) is not None:
        pytest.skip(f"no genuine Weaviate: {absent}")
    with weaviate_store(server.shared_url()) as opened:
        yield opened
