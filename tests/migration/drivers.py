"""Memory stores that can do less than others, and collections of which another program filled the rows."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pyarrow as pa
import pytest

import vecbridge as vb
from vecbridge import records
from vecbridge.capabilities import Gap
from vecbridge.driver import Deadline, Described, KeyedPage, PageRequest, RequestLimits, WritePart
from vecbridge.query import Unfit
from vecbridge.schema import CollectionSpec
from vecbridge.stores.memory import MemoryCollection, MemoryDriver, _Table
from vecbridge.urls import StoreOptions, StoreURL, parse


class NarrowCollection(MemoryCollection):
    """Refuses long ids, cuts requests by rows, and counts what it is sent."""

    id_bytes: int | None = None
    sent: ClassVar[list[tuple[int, int]]] = []

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        ids = rows.column("id").to_pylist()
        if self.id_bytes is not None:
            long = [row for row, key in enumerate(ids) if len(str(key).encode()) > self.id_bytes]
            if long:
                raise records.invalid(dict.fromkeys(long, "its id is too long here"), rows.column("id"))
        for part in records.ranges(rows, max_rows=limits.rows):
            yield WritePart(part, rows.slice(part.start, len(part)).to_pylist())

    def write(self, part: WritePart, deadline: Deadline) -> Any:
        self.sent.append((len(part.rows), self.request_size(part)))
        return super().write(part, deadline)


class NarrowDriver(MemoryDriver):
    """``narrow:///name``: what it can do is what the test says; a login in its URL is not looked at."""

    refused: ClassVar[Sequence[Gap]] = ()

    def __init__(self, url: StoreURL, options: StoreOptions, *, read_only: bool = False) -> None:
        super().__init__(replace(url, host="", user="", password=""), options)
        self.url = url.without_password()

    @classmethod
    def gaps(cls, spec: CollectionSpec) -> Sequence[Gap]:
        return [gap for gap in cls.refused if gap.subject in spec.column_names]

    def attach(self, found: Described, namespace: str) -> NarrowCollection:
        return self._narrow(NarrowCollection(self._database, found.state, found.spec, namespace))

    def encoder(self, spec: CollectionSpec, found: Described | None, namespace: str) -> NarrowCollection:
        made = super().encoder(spec, found, namespace)
        return self._narrow(NarrowCollection(made._database, made._table, spec, namespace))

    def _narrow(self, collection: NarrowCollection) -> NarrowCollection:
        collection.id_bytes = self.capabilities.id_bytes
        return collection


class ForeignCollection(MemoryCollection):
    """Rows as another program wrote them: some have no vector."""

    def pages(self, request: PageRequest) -> Generator[KeyedPage, None, None]:
        rows = list(self._matching(request.filter))
        for start in range(0, len(rows), request.rows):
            page = [record for _, record in rows[start : start + request.rows]]
            whole = [record for record in page if record["vector"] is not None]
            unfit = {row["id"]: Unfit.of_vector("vector", 0, 2) for row in page if row["vector"] is None}
            yield KeyedPage(self._batch(whole, request.columns), [start + len(page), 0], unfit)


class ForeignDriver(MemoryDriver):
    """``foreign:///name``: collections that vecbridge did not make."""

    losses: ClassVar[Sequence[Gap]] = ()
    extra: ClassVar[str | None] = None

    def describe(self, name: str, deadline: Deadline) -> Described | None:
        found = super().describe(name, deadline)
        return None if found is None else replace(found, losses=tuple(self.losses), extra=self.extra)

    def attach(self, found: Described, namespace: str) -> ForeignCollection:
        return ForeignCollection(self._database, found.state, found.spec, namespace)


def narrow(monkeypatch: pytest.MonkeyPatch, refused: Sequence[Gap] = (), **capabilities: Any) -> str:
    """URL of a store that can do what is said, and else what the memory store can."""
    vb.register("narrow", "tests.migration.drivers:NarrowDriver")
    changed = replace(MemoryDriver.capabilities, backend="narrow", **capabilities)
    monkeypatch.setattr(NarrowDriver, "capabilities", changed)
    monkeypatch.setattr(NarrowDriver, "refused", refused)
    monkeypatch.setattr(NarrowCollection, "sent", [])
    return f"narrow:///{uuid.uuid4().hex}"


def foreign(
    monkeypatch: pytest.MonkeyPatch,
    spec: CollectionSpec,
    rows: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    *,
    losses: Sequence[Gap] = (),
    extra: str | None = None,
) -> str:
    """URL of a collection as another program left it, with rows by namespace."""
    vb.register("foreign", "tests.migration.drivers:ForeignDriver")
    monkeypatch.setattr(ForeignDriver, "losses", losses)
    monkeypatch.setattr(ForeignDriver, "extra", extra)
    url = f"foreign:///{uuid.uuid4().hex}"
    table = _Table(spec, "another program's")
    for namespace, held in (rows or {"": []}).items():
        table.namespaces[namespace] = {}
        for record in held:
            table.inserted += 1
            table.namespaces[namespace][record["id"]] = (table.inserted, dict(record))
    MemoryDriver(parse(url), StoreOptions())._database.tables[spec.name] = table
    return f"{url}#{spec.name}"
