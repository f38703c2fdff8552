"""The memory driver with one thing changed, to see what the front makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import vecbridge as vb
from vecbridge.driver import Deadline, Identity
from vecbridge.store import Store
from vecbridge.stores.memory import MemoryCollection, MemoryDriver
from vecbridge.urls import parse

SPEC = vb.CollectionSpec.single("photos", dim=2, metric="l2", fields={"year": "int64", "title": "string"})


class Changed(MemoryDriver):
    """Gives out a collection class of the test's own."""

    collection: type[MemoryCollection] = MemoryCollection

    def attach(self, found: Any, namespace: str) -> Any:
        return self.collection(self._database, found.state, found.spec, namespace)


class Blind(MemoryCollection):
    """Notices nothing of a replacement, as a server's answers do not show one."""

    looks = 0

    def _require_current(self) -> None:
        pass

    def identity(self, deadline: Deadline) -> Identity | None:
        type(self).looks += 1
        return super().identity(deadline)


def store_of(collection: type[MemoryCollection] = MemoryCollection, **capabilities: Any) -> Store:
    """A store over the memory driver with another collection class and other figures."""
    changed = replace(MemoryDriver.capabilities, backend="changed", **capabilities)
    driver = type("Driver", (Changed,), {"collection": collection, "capabilities": changed})
    return Store(driver, parse("memory://"), {})


def filled(collection: type[MemoryCollection] = MemoryCollection, rows: int = 20, **capabilities: Any) -> Any:
    """A collection of such a store: ids r0, r1, …; vectors (n, 0); year n; title "t0", …."""
    photos = store_of(collection, **capabilities).create(SPEC)
    photos.upsert(
        vb.batch(
            SPEC,
            id=[f"r{number}" for number in range(rows)],
            vector=[[number, 0] for number in range(rows)],
            year=list(range(rows)),
            title=[f"t{number}" for number in range(rows)],
        )
    )
    return photos


__all__ = ["SPEC", "Blind", "Changed", "filled", "store_of"]
