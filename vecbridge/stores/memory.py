"""The memory store: exact, slow and obviously right; the oracle that the other stores are tested against.

Nothing here is vectorised beyond one matrix product in float64, and nothing survives the process.
``memory://`` is private to its connection; ``memory:///name`` is shared by name within the process.
"""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from vecbridge import filters, indexes, records
from vecbridge.capabilities import Capabilities, Gap, ResolvedQuery
from vecbridge.errors import (
    CollectionExistsError,
    ConfigError,
    CursorExpiredError,
    InvalidURLError,
    NotFoundError,
)
from vecbridge.filters import Filter
from vecbridge.query import FloatArray, Hits, Page, Query, Status, WriteReport
from vecbridge.schema import CollectionSpec, Metric, check_namespace, require_agreement, suggestion
from vecbridge.store import IfExists, check_delete, check_if_exists, check_whole
from vecbridge.urls import StoreOptions, StoreURL, read_options

Record = dict[str, Any]


@dataclass
class _Table:
    """A collection: its records by namespace and id, each with the number of its insertion."""

    spec: CollectionSpec
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    namespaces: dict[str, dict[str | int, tuple[int, Record]]] = field(default_factory=dict)
    inserted: int = 0


class _Database:
    def __init__(self) -> None:
        self.tables: dict[str, _Table] = {}
        self.lock = threading.RLock()


_SHARED: Final[dict[str, _Database]] = {}
_SHARED_LOCK: Final = threading.Lock()


class MemoryStore:
    """A store in the memory of this process.

    Args:
        url: ``memory://`` or ``memory:///name``.
        **options: None is known.
    """

    capabilities = Capabilities(
        backend="memory",
        indexes=frozenset({indexes.Auto.kind, indexes.Flat.kind}),
        atomic_batch=True,
    )

    def __init__(self, url: StoreURL, **options: Any) -> None:
        self._url = url
        read_options(StoreOptions, url, options)
        if url.host or url.user or url.password:
            raise InvalidURLError(f"{url}: memory:// is private, memory:///name is shared by name")
        if url.path:
            with _SHARED_LOCK:
                self._database = _SHARED.setdefault(url.path, _Database())
        else:
            self._database = _Database()

    def create(
        self, spec: CollectionSpec, *, if_exists: IfExists = "error", namespace: str = ""
    ) -> MemoryCollection:
        """Builds a collection; see :class:`vecbridge.store.Store`."""
        check_if_exists(if_exists)
        self.capabilities.require(spec)
        check_namespace(spec, namespace)
        with self._database.lock:
            existing = self._database.tables.get(spec.name)
            if existing is not None and if_exists == "error":
                raise CollectionExistsError(f'collection {spec.name!r} exists: if_exists="open" or "replace"')
            if existing is not None and if_exists == "open":
                require_agreement(existing.spec, spec)
            else:
                self._database.tables[spec.name] = _Table(spec)
        return self.open(spec.name, namespace=namespace)

    def open(self, name: str, *, namespace: str = "") -> MemoryCollection:
        """Opens a collection; see :class:`vecbridge.store.Store`."""
        table = self._table(name)
        check_namespace(table.spec, namespace)
        url = self._url.of_collection(name, namespace)
        return MemoryCollection(url, self._database, table, namespace)

    def collections(self) -> list[str]:
        """Names of the collections, sorted."""
        return sorted(self._database.tables)

    def namespaces(self, name: str) -> list[str]:
        """Namespaces of a collection; see :class:`vecbridge.store.Store`."""
        table = self._table(name)
        return sorted(table.namespaces) if table.spec.namespaced else [""]

    def drop(self, name: str, *, namespace: str | None = None) -> None:
        """Removes a collection or one namespace of it."""
        table = self._table(name)
        with self._database.lock:
            if namespace is None:
                del self._database.tables[name]
            else:
                table.namespaces.pop(check_namespace(table.spec, namespace), None)

    def close(self) -> None:
        """Releases nothing: what is shared by name stays until the process ends."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _table(self, name: str) -> _Table:
        try:
            return self._database.tables[name]
        except KeyError:
            raise NotFoundError(f"no collection {name!r}{suggestion(name, self._database.tables)}") from None


class MemoryCollection:
    """One namespace of a collection in memory; see :class:`vecbridge.store.Collection`."""

    capabilities = MemoryStore.capabilities
    losses: Sequence[Gap] = ()

    def __init__(self, url: StoreURL, database: _Database, table: _Table, namespace: str) -> None:
        self.url = url
        self.spec = table.spec
        self.namespace = namespace
        self._database = database
        self._table = table

    def upsert(self, batch: pa.RecordBatch) -> WriteReport:
        """Replaces whole records; see :class:`vecbridge.store.Collection`."""
        batch = records.check(batch, self.spec)
        with self._database.lock:
            self._require_current()
            if not batch.num_rows:  # the first row makes a namespace
                return WriteReport()
            rows = self._table.namespaces.setdefault(self.namespace, {})
            for record in batch.to_pylist():
                self._table.inserted += 1
                # a replaced record keeps its number, so that a scan under way meets it once
                number, _ = rows.get(record["id"], (self._table.inserted, None))
                rows[record["id"]] = (number, record)
        return WriteReport(written=batch.num_rows)

    def search(self, query: Query) -> list[Hits]:
        """Scores every matching record in float64; see :class:`vecbridge.store.Collection`."""
        resolved = self.capabilities.resolve(query, self.spec)
        found = [record for _, record in self._matching(resolved.filter)]
        return [self._best(vector, found, resolved) for vector in resolved.vectors]

    def fetch(self, ids: Iterable[str | int], *, include: Sequence[str] | None = None) -> pa.RecordBatch:
        """Records by id; see :class:`vecbridge.store.Collection`."""
        wanted = records.id_array(self.spec, ids).to_pylist()
        rows = self._rows()
        return self._batch([rows[each][1] for each in wanted if each in rows], include)

    def delete(self, ids: Iterable[str | int] | None = None, *, filter: Filter | None = None) -> int:
        """Removes records; see :class:`vecbridge.store.Collection`."""
        check_delete(ids, filter)
        with self._database.lock:
            self._require_current()
            if ids is not None:
                wanted = records.id_array(self.spec, ids).to_pylist()
            else:
                wanted = [record["id"] for _, record in self._matching(self._normalized(filter))]
            rows = self._table.namespaces.get(self.namespace, {})
            return sum(rows.pop(each, None) is not None for each in wanted)

    def scan(
        self,
        *,
        include: Sequence[str] | None = None,
        filter: Filter | None = None,
        batch_rows: int = 10_000,
        cursor: str | None = None,
    ) -> Iterator[Page]:
        """Records in the order of their insertion; see :class:`vecbridge.store.Collection`."""
        condition = self._normalized(filter)
        records.arrow_schema(self.spec, include)
        check_whole("batch_rows", batch_rows)
        return self._pages(include, condition, batch_rows, *self._read_cursor(cursor))

    def count(self, filter: Filter | None = None) -> int:
        """How many match; see :class:`vecbridge.store.Collection`."""
        return len(self._matching(self._normalized(filter)))

    def status(self) -> Status:
        """Always ready."""
        return Status(len(self._rows()), {each.name: "ready" for each in self.spec.vectors})

    def flush(self, timeout: float = 60.0) -> None:
        """Writes are visible at once."""

    def wait_ready(self, timeout: float = 600.0) -> None:
        """There is no index to wait for."""

    def close(self) -> None:
        """Releases nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_current(self) -> None:
        if self._database.tables.get(self.spec.name) is not self._table:
            raise NotFoundError(f"collection {self.spec.name!r} was dropped or replaced since it was opened")

    def _rows(self) -> dict[str | int, tuple[int, Record]]:
        self._require_current()
        with self._database.lock:
            return dict(self._table.namespaces.get(self.namespace, {}))

    def _normalized(self, filter: Filter | None) -> Filter | None:
        return None if filter is None else self.capabilities.resolve_filter(filter, self.spec)

    def _matching(self, condition: Filter | None) -> list[tuple[int, Record]]:
        rows = self._rows().values()
        return [row for row in rows if condition is None or filters.matches(condition, row[1])]

    def _batch(self, found: Sequence[Record], include: Sequence[str] | None) -> pa.RecordBatch:
        schema = records.arrow_schema(self.spec, include)
        columns = [pa.array([row[name] for row in found], schema.field(name).type) for name in schema.names]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _best(self, vector: FloatArray, found: Sequence[Record], query: ResolvedQuery) -> Hits:
        scores = _scores(vector, [record[query.field.name] for record in found], query.field.metric)
        order = np.argsort(-scores if query.field.metric.higher_is_better else scores, kind="stable")[
            : query.k
        ]
        best = [found[position] for position in order]
        ids = records.python_ids(self._batch(best, []).column("id"))
        rows = None if query.include is None else self._batch(best, query.include)
        with np.errstate(over="ignore"):  # beyond float32, a score is infinite
            return Hits(ids, scores[order].astype(np.float32), rows)

    def _pages(
        self, include: Sequence[str] | None, condition: Filter | None, batch_rows: int, after: int, upto: int
    ) -> Iterator[Page]:
        while True:
            rows = sorted(self._matching(condition), key=lambda row: row[0])
            page = [row for row in rows if after < row[0] <= upto][:batch_rows]
            if not page:
                return
            after = page[-1][0]
            yield Page(self._batch([record for _, record in page], include), self._cursor(after, upto))

    def _cursor(self, after: int, upto: int) -> str:
        state = json.dumps([self._table.token, self.namespace, after, upto])
        return base64.urlsafe_b64encode(state.encode()).decode()

    def _read_cursor(self, cursor: str | None) -> tuple[int, int]:
        if cursor is None:
            return 0, self._table.inserted
        try:
            token, namespace, after, upto = json.loads(base64.urlsafe_b64decode(cursor))
        except (ValueError, TypeError) as exc:
            raise ConfigError(f"cursor {cursor!r} is none of this collection's") from exc
        if token != self._table.token or namespace != self.namespace:
            raise CursorExpiredError(
                "the collection was replaced since the cursor was made: scan from the start"
            )
        return after, upto


def _scores(vector: FloatArray, stored: Sequence[Sequence[float]], metric: Metric) -> Any:
    """float64 scores of one query vector, shape (len(stored),)."""
    wanted = vector.astype(np.float64)
    matrix = np.array(stored, np.float64).reshape(len(stored), len(wanted))
    if metric is Metric.L2:
        return ((matrix - wanted) ** 2).sum(axis=1)
    dots = matrix @ wanted
    if metric is Metric.DOT:
        return dots
    return dots / (np.linalg.norm(matrix, axis=1) * np.linalg.norm(wanted))
