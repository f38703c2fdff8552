"""The memory store: exact, slow and plain; the shortest example of a driver that keeps every promise.

Nothing here is vectorised beyond one matrix product in float64, and nothing survives the process.
``memory://`` is private to its connection; ``memory:///name`` is shared by name within the process.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa

from vecbridge import filters, indexes, records
from vecbridge.capabilities import Capabilities, Gap
from vecbridge.driver import (
    CollectionDriver,
    Columns,
    Deadline,
    Described,
    Identity,
    KeyedPage,
    OnFork,
    PageRequest,
    RequestLimits,
    SearchRequest,
    SearchResult,
    WritePart,
    WriteResult,
    outdated,
)
from vecbridge.errors import CollectionExistsError, InvalidURLError, NotFoundError, VecbridgeError
from vecbridge.filters import Filter
from vecbridge.query import FloatArray, Hits, Status
from vecbridge.schema import CollectionSpec, Metric
from vecbridge.urls import StoreOptions, StoreURL

Record = dict[str, Any]


@dataclass
class _Table:
    """A collection: its records by namespace and id, each with the number of its insertion."""

    spec: CollectionSpec
    token: str
    namespaces: dict[str, dict[str | int, tuple[int, Record]]] = field(default_factory=dict)
    inserted: int = 0


class _Database:
    def __init__(self) -> None:
        self.tables: dict[str, _Table] = {}
        self.lock = threading.RLock()


_SHARED: Final[dict[str, _Database]] = {}
_SHARED_LOCK: Final = threading.Lock()


class MemoryDriver:
    """A database in the memory of this process; see :class:`vecbridge.driver.StoreDriver`."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        backend="memory",
        indexes=frozenset({indexes.Auto.kind, indexes.Flat.kind}),
        id_operators=frozenset({"==", "!=", "in", "<", "<=", ">", ">="}),
        atomic_batch=True,
        atomic_conflict=True,
        adds_fields=True,
        counts_where=True,
        trust_reads=math.inf,  # every verb looks at the table itself
        trust_writes=math.inf,
    )
    options: ClassVar[type[StoreOptions]] = StoreOptions
    on_fork: ClassVar[OnFork] = "keep"

    def __init__(self, url: StoreURL, options: StoreOptions, *, read_only: bool = False) -> None:
        if url.host or url.user or url.password:
            raise InvalidURLError(f"{url}: memory:// is private, memory:///name is shared by name")
        self.url = url
        if url.path:
            with _SHARED_LOCK:
                self._database = _SHARED.setdefault(url.path, _Database())
        else:
            self._database = _Database()

    @classmethod
    def gaps(cls, spec: CollectionSpec) -> Iterable[Gap]:
        """The capabilities say it all."""
        return ()

    def connect(self, deadline: Deadline) -> Capabilities:
        """There is nothing to connect to."""
        return self.capabilities

    def names(self, deadline: Deadline) -> Iterable[str]:
        """Names of the collections."""
        return list(self._database.tables)

    def describe(self, name: str, deadline: Deadline) -> Described | None:
        """A collection; the table itself is its state."""
        table = self._database.tables.get(name)
        return None if table is None else _described(table)

    def create(
        self, spec: CollectionSpec, token: str, replacing: Described | None, deadline: Deadline
    ) -> Described:
        """Puts an empty table in its place."""
        with self._database.lock:
            standing = self._database.tables.get(spec.name)
            if standing is not None and (replacing is None or standing is not replacing.state):
                raise CollectionExistsError(f"collection {spec.name!r} was made meanwhile")
            self._database.tables[spec.name] = _Table(spec, token)
            return _described(self._database.tables[spec.name])

    def attach(self, found: Described, namespace: str) -> CollectionDriver:
        """One namespace of a table."""
        return MemoryCollection(self._database, found.state, found.spec, namespace)

    def encoder(self, spec: CollectionSpec, found: Described | None, namespace: str) -> MemoryCollection:
        """A collection of a database that nobody sees."""
        return MemoryCollection(_Database(), _Table(spec, ""), spec, namespace)

    def namespaces(self, found: Described, deadline: Deadline) -> Iterable[str]:
        """Namespaces that were written to."""
        return list(found.state.namespaces)

    def drop(self, found: Described, namespace: str | None, deadline: Deadline) -> None:
        """Removes a table, or one namespace of it."""
        with self._database.lock:
            if namespace is not None:
                found.state.namespaces.pop(namespace, None)
            elif self._database.tables.get(found.name) is found.state:
                del self._database.tables[found.name]

    def add_fields(self, found: Described, spec: CollectionSpec, deadline: Deadline) -> Described | None:
        """Changes the spec alone: what a record does not have is null."""
        with self._database.lock:
            table = self._database.tables.get(found.name)
            if table is not found.state or table.spec != found.spec:
                return None
            table.spec = spec
            return _described(table)

    def error(self, exc: Exception, what: str) -> VecbridgeError | None:
        """Nothing here raises an exception of its own."""
        return None

    def forked(self) -> None:
        """A lock that another thread of the parent held would never be given back."""
        self._database.lock = threading.RLock()

    def close(self) -> None:
        """What is shared by name stays until the process ends."""


class MemoryCollection:
    """One namespace of a table; see :class:`vecbridge.driver.CollectionDriver`."""

    def __init__(self, database: _Database, table: _Table, spec: CollectionSpec, namespace: str) -> None:
        self._database = database
        self._table = table
        self._spec = spec
        self._namespace = namespace

    def identity(self, deadline: Deadline) -> Identity | None:
        """The token of the table that has the name now."""
        table = self._database.tables.get(self._spec.name)
        return None if table is None else _identity(table)

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        """All rows at once."""
        return iter([WritePart(range(rows.num_rows), rows.to_pylist())])

    def request_size(self, part: WritePart) -> int:
        """Bytes of the rows as Arrow holds them."""
        return int(records.row_bytes(self._batch(part.payload, self._spec.column_names[1:])).sum())

    def write(self, part: WritePart, deadline: Deadline) -> WriteResult:
        """Replaces whole records."""
        with self._database.lock:
            self._put(part.payload)
        return WriteResult()

    def write_absent(self, part: WritePart, deadline: Deadline, *, whole: bool) -> WriteResult:
        """Adds the records whose ids are new."""
        with self._database.lock:
            rows = self._table.namespaces.get(self._namespace, {})
            present = {place for place, record in enumerate(part.payload) if record["id"] in rows}
            new = [record for place, record in enumerate(part.payload) if place not in present]
            self._put([] if whole and present else new)
        return WriteResult(present=present)

    def delete_keys(self, ids: pa.Array, deadline: Deadline) -> int:
        """Removes records."""
        with self._database.lock:
            self._require_current()
            rows = self._table.namespaces.get(self._namespace, {})
            return sum(rows.pop(key, None) is not None for key in ids.to_pylist())

    def search(self, request: SearchRequest) -> SearchResult:
        """Scores every matching record in float64."""
        matching = [record for _, record in self._matching(request.filter)]
        return SearchResult([self._best(vector, matching, request) for vector in request.vectors])

    def lookup(self, ids: pa.Array, columns: Columns, deadline: Deadline) -> pa.RecordBatch:
        """Records by id."""
        rows = self._rows()
        return self._batch([rows[key][1] for key in ids.to_pylist() if key in rows], columns)

    def pages(self, request: PageRequest) -> Generator[KeyedPage, None, None]:
        """Records in the order of their insertion, up to the last one that was there at the start."""
        after, upto = (0, self._table.inserted) if request.after is None else _numbers(request.after)
        while True:
            rows = sorted(self._matching(request.filter), key=lambda row: row[0])
            page = [row for row in rows if after < row[0] <= upto][: request.rows]
            if not page:
                return
            after = page[-1][0]
            yield KeyedPage(self._batch([record for _, record in page], request.columns), [after, upto])

    def count(self, deadline: Deadline) -> int:
        """How many there are."""
        return len(self._rows())

    def count_where(self, filter: Filter, deadline: Deadline) -> int:
        """How many match."""
        return len(self._matching(filter))

    def status(self, deadline: Deadline) -> Status:
        """Always ready."""
        names = [vector.name for vector in self._spec.vectors]
        built = {name: indexes.Flat() for name in names}  # every search compares every row
        return Status(len(self._rows()), dict.fromkeys(names, "ready"), built=built)

    def flush(self, deadline: Deadline) -> None:
        """Writes are visible at once."""
        self._require_current()

    def build(self, deadline: Deadline) -> None:
        """There is no index to wait for."""
        self._require_current()

    def _put(self, records: Sequence[Record]) -> None:
        """Replaces whole records; the caller has the lock."""
        self._require_current()
        if self._table.spec != self._spec:
            raise outdated(self._spec.name)
        rows = self._table.namespaces.setdefault(self._namespace, {})
        for record in records:
            self._table.inserted += 1
            # a replaced record keeps its number, so that a scan under way meets it once
            number, _ = rows.get(record["id"], (self._table.inserted, None))
            rows[record["id"]] = (number, record)

    def _require_current(self) -> None:
        if self._database.tables.get(self._spec.name) is not self._table:
            raise NotFoundError(f"collection {self._spec.name!r} was dropped or replaced since it was opened")

    def _rows(self) -> dict[str | int, tuple[int, Record]]:
        with self._database.lock:
            self._require_current()
            return dict(self._table.namespaces.get(self._namespace, {}))

    def _matching(self, condition: Filter | None) -> list[tuple[int, Record]]:
        rows = self._rows().values()
        return [row for row in rows if condition is None or filters.matches(condition, row[1])]

    def _batch(self, rows: Sequence[Record], columns: Columns) -> pa.RecordBatch:
        schema = records.arrow_schema(self._spec, columns)
        arrays = [pa.array([row.get(name) for row in rows], schema.field(name).type) for name in schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _best(self, vector: FloatArray, rows: Sequence[Record], request: SearchRequest) -> Hits:
        metric = request.field.metric
        scores = _scores(vector, [row[request.field.name] for row in rows], metric)
        order = np.argsort(-scores if metric.higher_is_better else scores, kind="stable")[: request.k]
        best = [rows[place] for place in order]
        ids = records.python_ids(self._batch(best, ()).column("id"))
        batch = None if request.columns is None else self._batch(best, request.columns)
        with np.errstate(over="ignore"):  # beyond float32, a score is infinite
            return Hits(ids, scores[order].astype(np.float32), batch)


def _described(table: _Table) -> Described:
    return Described(table.spec.name, table.spec, _identity(table), state=table)


def _identity(table: _Table) -> Identity:
    return Identity(table.token, schema=len(table.spec.fields))


def _numbers(key: Any) -> tuple[int, int]:
    """The two numbers of a key."""
    if not isinstance(key, list) or [type(number) for number in key] != [int, int]:
        raise ValueError(f"{key!r} is no key of a memory store")
    return key[0], key[1]


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
