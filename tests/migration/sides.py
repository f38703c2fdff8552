"""The six kinds of stores between which collections are moved, as the tests of migrations need them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stores.milvus import server as milvus
from tests.stores.weaviate import server as weaviate
from vecbridge.testing.cases import CASES

_CASES = {case.id: case for case in CASES}


@dataclass(frozen=True, slots=True)
class Place:
    """One kind of store.

    Attributes:
        name: What the tests call it.
        make: Its URL without a collection, from a directory of its own.
        missing: What must be installed first; None if nothing.
    """

    name: str
    make: Callable[[Path], str]
    missing: Callable[[], str | None] = lambda: None

    def url(self, directory: Path) -> str:
        """Its URL; the test is skipped where the server is not there."""
        if (absent := self.missing()) is not None:
            pytest.skip(f"{self.name}: {absent}")
        directory.mkdir(parents=True, exist_ok=True)
        return self.make(directory)


PLACES = {
    place.name: place
    for place in (
        Place("faiss", _CASES["faiss"].url, _CASES["faiss"].missing),
        Place("milvus-lite", _CASES["milvus-lite"].url, _CASES["milvus-lite"].missing),
        Place("milvus", lambda _: milvus.shared_url(), milvus.missing),
        Place("weaviate", lambda _: weaviate.shared_url(), weaviate.missing),
        Place("pinecone", _CASES["pinecone"].url, _CASES["pinecone"].missing),
        Place("snapshot", _CASES["snapshot"].url, _CASES["snapshot"].missing),
    )
}


def fresh_name(prefix: str = "photos") -> str:
    """A name that no other collection of a shared server has."""
    return f"{prefix}_{uuid.uuid4().hex[:10]}"
