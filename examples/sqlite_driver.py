"""A complete driver over SQLite: every search compares every row. docs/writing-a-driver.md walks through it.

Try it out without installing anything, in the directory of this file::

    import vecbridge as vb
    vb.register("sqlite", "sqlite_driver:SQLiteDriver")
    store = vb.connect("sqlite:./rows.db")
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from vecbridge import errors, filters, indexes, records
from vecbridge.capabilities import Capabilities, Gap
from vecbridge.driver import (
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
from vecbridge.filters import Filter
from vecbridge.query import Hits, Status
from vecbridge.schema import CollectionSpec, Metric
from vecbridge.urls import StoreOptions, StoreURL

# A replaced row keeps its number, so that a scan under way meets it once. A column without a type keeps
# ids as they are: text or 64-bit integers.
TABLES = """
PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS collections (name TEXT PRIMARY KEY, token TEXT, spec TEXT);
CREATE TABLE IF NOT EXISTS rows (
    number INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT, namespace TEXT, id, row BLOB,
    UNIQUE (token, namespace, id)
);
"""


class SQLiteDriver:
    """A file of collections; see vecbridge.driver.StoreDriver."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        backend="sqlite",
        indexes=frozenset({"auto", "flat"}),
        id_operators=frozenset({"==", "!=", "in", "<", "<=", ">", ">="}),
        atomic_batch=True,  # a write is one transaction
        adds_fields=True,
    )
    options: ClassVar[type[StoreOptions]] = StoreOptions  # none of its own
    on_fork: ClassVar[OnFork] = "reopen"  # a child gets a connection of its own

    def __init__(self, url: StoreURL, options: StoreOptions, *, read_only: bool = False) -> None:
        self.url = url
        self._path = url.directory().absolute()  # refuses a URL with a host, or without a path
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None

    @classmethod
    def gaps(cls, spec: CollectionSpec) -> Iterable[Gap]:
        """The capabilities say it all."""
        return ()

    def connect(self, deadline: Deadline) -> Capabilities:
        """Opens the file; SQLite can do the same in every version."""
        self.query("SELECT 1", deadline=deadline)
        return self.capabilities

    def names(self, deadline: Deadline) -> Iterable[str]:
        return [name for (name,) in self.query("SELECT name FROM collections", deadline=deadline)]

    def describe(self, name: str, deadline: Deadline) -> Described | None:
        sql = "SELECT token, spec FROM collections WHERE name = ?"
        for token, spec in self.query(sql, name, deadline=deadline):
            return _described(token, CollectionSpec.from_json(spec))
        return None

    def create(
        self, spec: CollectionSpec, token: str, replacing: Described | None, deadline: Deadline
    ) -> Described:
        with self.transaction(deadline) as database:  # the old one goes and the new one comes, or neither
            if replacing is not None:
                self._remove(database, replacing)
            try:
                values = (spec.name, token, spec.to_json())
                database.execute("INSERT INTO collections VALUES (?, ?, ?)", values)
            except sqlite3.IntegrityError:
                raise errors.CollectionExistsError(f"collection {spec.name!r} was made meanwhile") from None
        return _described(token, spec)

    def attach(self, found: Described, namespace: str) -> SQLiteCollection:
        return SQLiteCollection(self, found, namespace)

    def encoder(self, spec: CollectionSpec, found: Described | None, namespace: str) -> SQLiteCollection:
        return SQLiteCollection(self, found or _described("", spec), namespace)

    def namespaces(self, found: Described, deadline: Deadline) -> Iterable[str]:
        sql = "SELECT DISTINCT namespace FROM rows WHERE token = ?"
        return [name for (name,) in self.query(sql, found.identity.value, deadline=deadline)]

    def drop(self, found: Described, namespace: str | None, deadline: Deadline) -> None:
        with self.transaction(deadline) as database:
            if namespace is None:
                self._remove(database, found)
            else:
                sql = "DELETE FROM rows WHERE token = ? AND namespace = ?"
                database.execute(sql, (found.identity.value, namespace))

    def add_fields(self, found: Described, spec: CollectionSpec, deadline: Deadline) -> Described | None:
        """Replaces the spec alone: each row says which columns it has, and those that it lacks are null."""
        token, sql = found.identity.value, "UPDATE collections SET spec = ? WHERE token = ? AND spec = ?"
        with self.transaction(deadline) as database:
            changed = database.execute(sql, (spec.to_json(), token, found.spec.to_json())).rowcount
        return _described(token, spec) if changed else None

    def error(self, exc: Exception, what: str) -> errors.VecbridgeError | None:
        """The one table from SQLite's errors to vecbridge's."""
        text = str(exc)
        if isinstance(exc, sqlite3.OperationalError) and "locked" in text:
            return errors.UnavailableError(f"{what}: {text}", unsent=True)
        if isinstance(exc, sqlite3.OperationalError) and "full" in text:
            return errors.StorageFullError(f"{what}: {text}")
        if isinstance(exc, sqlite3.DatabaseError) and ("malformed" in text or "not a database" in text):
            return errors.CorruptStoreError(f"{what}: {text}; nothing was changed")
        return errors.BackendError(f"{what}: {text}") if isinstance(exc, sqlite3.Error) else None

    def forked(self) -> None:
        """SQLite forbids a child to touch what it inherited, and the front keeps that out of reach."""

    def close(self) -> None:
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def query(self, sql: str, *values: Any, deadline: Deadline) -> list[Any]:
        """The rows that a statement returns."""
        with self._lock:
            return self._opened(deadline).execute(sql, values).fetchall()

    @contextmanager
    def transaction(self, deadline: Deadline) -> Iterator[sqlite3.Connection]:
        """Everything that is written in the block, or nothing of it; durable when the block ends."""
        with self._lock, self._opened(deadline) as database:  # commits at the end, or rolls back
            database.execute("BEGIN IMMEDIATE")
            yield database

    def _opened(self, deadline: Deadline) -> sqlite3.Connection:
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
            database.executescript(TABLES)
            self._database = database
        self._database.execute(f"PRAGMA busy_timeout = {int(deadline.left() * 1000)}")
        return self._database

    @staticmethod
    def _remove(database: sqlite3.Connection, found: Described) -> None:
        for sql in ("DELETE FROM collections WHERE token = ?", "DELETE FROM rows WHERE token = ?"):
            database.execute(sql, (found.identity.value,))


class SQLiteCollection:
    """One namespace of a collection; see vecbridge.driver.CollectionDriver."""

    def __init__(self, store: SQLiteDriver, found: Described, namespace: str) -> None:
        self._store = store
        self._found = found
        self._place = (found.identity.value, namespace)
        self._schema = records.arrow_schema(found.spec)

    def identity(self, deadline: Deadline) -> Identity | None:
        found = self._store.describe(self._found.name, deadline)
        return None if found is None else found.identity

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        """One transaction for all of them, each row with its schema: SQLite has no limits to cut by."""
        schema = rows.schema.serialize().to_pybytes()
        messages = [schema + rows.slice(row, 1).serialize().to_pybytes() for row in range(rows.num_rows)]
        ids = rows.column("id").to_pylist()
        return iter([WritePart(range(rows.num_rows), list(zip(ids, messages, strict=True)))])

    def request_size(self, part: WritePart) -> int:
        return sum(len(message) for _, message in part.payload)

    def write(self, part: WritePart, deadline: Deadline) -> WriteResult:
        with self._store.transaction(deadline) as database:
            if self._stored_spec(database) != self._found.spec.to_json():
                raise outdated(self._found.name)
            database.executemany(
                "INSERT INTO rows (token, namespace, id, row) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET row = excluded.row",
                [(*self._place, id, message) for id, message in part.payload],
            )
        return WriteResult()  # no row was refused

    def delete_keys(self, ids: pa.Array, deadline: Deadline) -> int:
        sql = "DELETE FROM rows WHERE token = ? AND namespace = ? AND id = ?"
        with self._store.transaction(deadline) as database:
            self._stored_spec(database)
            return sum(database.execute(sql, (*self._place, id)).rowcount for id in ids.to_pylist())

    def search(self, request: SearchRequest) -> SearchResult:
        """Compares every row that matches, in float64, and reports the contract's scores."""
        metric, name = request.field.metric, request.field.name
        rows = self._rows(request.filter, request.deadline)
        stored = records.vectors(rows, name).astype(np.float64)
        hits = []
        for query in request.vectors.astype(np.float64):
            scores = np.square(stored - query).sum(axis=1) if metric is Metric.L2 else stored @ query
            if metric is Metric.COSINE:
                scores = scores / (np.linalg.norm(stored, axis=1) * np.linalg.norm(query))
            order = np.argsort(-scores if metric.higher_is_better else scores, kind="stable")[: request.k]
            best = rows.take(pa.array(order))
            columns = None if request.columns is None else best.select(["id", *request.columns])
            with np.errstate(over="ignore"):  # a score beyond float32 is infinite
                narrow = scores[order].astype(np.float32)
            hits.append(Hits(records.python_ids(best.column("id")), narrow, columns))
        return SearchResult(hits)

    def lookup(self, ids: pa.Array, columns: Columns, deadline: Deadline) -> pa.RecordBatch:
        return self._rows(None, deadline, set(ids.to_pylist()).__contains__).select(["id", *columns])

    def pages(self, request: PageRequest) -> Generator[KeyedPage, None, None]:
        """Rows by their numbers, up to the last one that was there at the start; the key is both numbers."""
        if request.after is None:
            sql = "SELECT ifnull(max(number), 0) FROM rows"
            [(last,)] = self._store.query(sql, deadline=Deadline.after(request.seconds))
            after = 0
        else:
            after, last = _key(request.after)
        sql = (
            "SELECT number, row FROM rows WHERE token = ? AND namespace = ? "
            "AND number > ? AND number <= ? ORDER BY number LIMIT ?"
        )
        while True:
            deadline = Deadline.after(request.seconds)
            rows = self._store.query(sql, *self._place, after, last, request.rows, deadline=deadline)
            if not rows:
                return
            after = rows[-1][0]
            batch = self._batch([row for _, row in rows], request.filter)
            yield KeyedPage(batch.select(["id", *request.columns]), [after, last])

    def count(self, deadline: Deadline) -> int:
        sql = "SELECT count(*) FROM rows WHERE token = ? AND namespace = ?"
        return int(self._store.query(sql, *self._place, deadline=deadline)[0][0])

    def status(self, deadline: Deadline) -> Status:
        ready = {vector.name: "ready" for vector in self._found.spec.vectors}
        return Status(self.count(deadline), ready, built=dict.fromkeys(ready, indexes.Flat()))

    def flush(self, deadline: Deadline) -> None:
        """A write is visible when it returns."""

    def build(self, deadline: Deadline) -> None:
        """There is no index."""

    def _stored_spec(self, database: sqlite3.Connection) -> str:
        """Within a transaction: writes to a collection that was dropped would stay behind unseen."""
        for (spec,) in database.execute("SELECT spec FROM collections WHERE token = ?", self._place[:1]):
            return str(spec)
        raise errors.NotFoundError(f"collection {self._found.name!r} is gone")

    def _rows(
        self, filter: Filter | None, deadline: Deadline, wanted: Callable[[Any], bool] = lambda id: True
    ) -> pa.RecordBatch:
        sql = "SELECT id, row FROM rows WHERE token = ? AND namespace = ? ORDER BY number"
        rows = self._store.query(sql, *self._place, deadline=deadline)
        return self._batch([row for id, row in rows if wanted(id)], filter)

    def _batch(self, messages: list[bytes], filter: Filter | None) -> pa.RecordBatch:
        rows = [self._schema.empty_table(), *(pa.ipc.open_stream(each).read_all() for each in messages)]
        table = pa.concat_tables(rows, promote_options="default").select(self._schema.names)
        columns = [column.combine_chunks() for column in table.columns]
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        if filter is None:
            return batch
        return batch.filter(pa.array([filters.matches(filter, row) for row in batch.to_pylist()], pa.bool_()))


def _described(token: str, spec: CollectionSpec) -> Described:
    return Described(spec.name, spec, Identity(token, schema=len(spec.fields)))


def _key(key: Any) -> tuple[int, int]:
    """The two numbers of a key; a cursor comes from outside, so that it may be anything."""
    if not isinstance(key, list) or [type(number) for number in key] != [int, int]:
        raise ValueError(f"{key!r} is no key of this store")
    return key[0], key[1]
