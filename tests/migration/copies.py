"""Collections to copy, and a look at what arrived, as the tests of copies need them."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from vecbridge.capabilities import Capabilities
from vecbridge.collection import Collection
from vecbridge.migration import reading
from vecbridge.query import Unfit
from vecbridge.store import Store

DIM = 4
FIELDS = {"year": "int64", "title": "string", "tags": "list<string>"}


def memory(name: str = "photos") -> str:
    """The URL of a collection in a memory store that no other test has."""
    return f"memory:///{uuid.uuid4().hex}#{name}"


def fill(
    url: str, rows: int = 100, *, namespaces: Sequence[str] = ("",), id_type: Any = "string", first: int = 0
) -> dict[str, dict[Any, dict[str, Any]]]:
    """Writes rows to every namespace; what the collection holds by namespace and id."""
    store_url, _, name = url.partition("#")
    spec = vb.CollectionSpec.single(
        name, dim=DIM, metric="l2", fields=FIELDS, id_type=id_type, namespaced=namespaces != ("",)
    )
    with vb.connect(store_url, **options(url)) as store:
        for place, namespace in enumerate(namespaces):
            numbers = np.arange(first, first + rows)
            records = [
                {
                    "id": int(number) - 5 if id_type == "int64" else f"r{number:04}",
                    "vector": [number, place, 0.1, -1e-30],
                    "year": None if number % 7 == 0 else int(number) * 2**40,
                    "title": f"t{number}" if number % 5 else "",
                    "tags": [] if number % 3 == 0 else ["a", str(number)],
                }
                for number in numbers
            ]
            collection = store.create(spec, if_exists="open", namespace=namespace)
            collection.upsert(records)
            collection.flush()
    return contents(url)


def contents(url: str) -> dict[str, dict[Any, dict[str, Any]]]:
    """Every row, by namespace and id."""
    store_url, _, name = url.partition("#")
    with vb.connect(store_url, **options(url)) as store:
        found = {}
        for namespace in store.namespaces(name):
            scan = store.open(name, namespace=namespace).scan()
            found[namespace] = {row["id"]: row for page in scan for row in page.batch.to_pylist()}
        return found


def exists(url: str) -> bool:
    store_url, _, name = url.partition("#")
    with vb.connect(store_url, **options(url)) as store:
        return name in store.collections()


def options(url: str) -> dict[str, str]:
    return {"api_key": "emulated"} if url.startswith("pinecone") else {}


def journal_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def pages_noted(path: Path) -> int:
    """Rows of the pages in a journal."""
    return sum(line["rows"] for line in journal_lines(path) if "cursor" in line)


@contextmanager
def small_pages(rows: int = 10) -> Iterator[None]:
    """Pages of a few rows, so that a small collection has many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "MAX_PAGE_ROWS", rows)
        yield


def later_page_fails(patch: pytest.MonkeyPatch, first: str, later: str, error: Exception) -> None:
    """The upsert with the later id fails for good while the one with the first id waits for a retry."""
    original, failed = Collection.upsert, threading.Event()

    def upsert(collection: Collection, data: Any, **arguments: Any) -> vb.WriteReport:
        ids = data.batch.column("id").to_pylist()
        if later in ids:
            failed.set()
            raise error
        if first in ids:
            assert failed.wait(30)
            raise vb.UnavailableError("down")
        return original(collection, data, **arguments)

    patch.setattr(Collection, "upsert", upsert)


def parallel(patch: pytest.MonkeyPatch, *, only: str = "", **changes: Any) -> None:
    """Every store, or those of one scheme, say that they take several requests at a time."""
    original = Store.capabilities
    assert isinstance(original, property)
    read = original.fget
    assert read is not None

    def say(store: Store) -> Capabilities:
        able: Capabilities = read(store)
        wanted = store.url.scheme.startswith(only)
        return replace(able, **({"parallel_requests": 4} | changes)) if wanted else able

    changed = property(say)
    patch.setattr(Store, "capabilities", changed)


class Reads:
    """Counts the rows that scans of one store give, and may fail between two pages.

    Attributes:
        ids: What was read, in order.
        fail_after: Rows after which ``error`` is raised, once; None is never.
    """

    def __init__(self, patch: pytest.MonkeyPatch, url: str) -> None:
        self.ids: list[Any] = []
        self.fail_after: int | None = None
        self.error: BaseException = vb.UnavailableError("down")
        self.forever = False
        self._store = url.partition("#")[0]
        original = Collection.scan

        def scan(collection: Collection, **arguments: Any) -> Iterator[vb.Page]:
            pages = original(collection, **arguments)
            return self._counted(pages) if str(collection.url).startswith(self._store) else pages

        patch.setattr(Collection, "scan", scan)

    def _counted(self, pages: Iterator[vb.Page]) -> Iterator[vb.Page]:
        while True:
            if self.fail_after is not None and len(self.ids) >= self.fail_after:
                self.fail_after = self.fail_after if self.forever else None
                raise self.error
            page = next(pages, None)
            if page is None:
                return
            self.ids += page.batch.column("id").to_pylist()
            yield page


def unfit(patch: pytest.MonkeyPatch, url: str, key: str) -> None:
    """Scans of a store name a row that a batch cannot hold."""
    original = Collection.scan

    def scan(collection: Collection, *, unfit: Any = None, **arguments: Any) -> Iterator[vb.Page]:
        for page in original(collection, unfit=unfit, **arguments):
            ids = page.batch.column("id").to_pylist()
            if unfit is None or key not in ids or not str(collection.url).startswith(url.partition("#")[0]):
                yield page
                continue
            unfit(key, Unfit.of_vector("vector", 0, 4))
            kept = [row for row, id in enumerate(ids) if id != key]
            yield replace(page, batch=page.batch.take(kept))

    patch.setattr(Collection, "scan", scan)
