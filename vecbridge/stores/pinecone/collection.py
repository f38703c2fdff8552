"""The Collection protocol over one namespace of one Pinecone index."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Final, Self

import numpy as np
import pyarrow as pa

from vecbridge import protocols_sending as sending
from vecbridge import records
from vecbridge.capabilities import Capabilities, Gap, ResolvedQuery
from vecbridge.errors import (
    ConfigError,
    CursorExpiredError,
    UnsupportedError,
)
from vecbridge.filters import Filter
from vecbridge.protocols import check_delete, check_whole
from vecbridge.query import FloatArray, Hits, Page, Query, Status, WriteReport
from vecbridge.schema import CollectionSpec
from vecbridge.stores.pinecone import errors, expressions, limits, wire, writing
from vecbridge.stores.pinecone.control import Patience
from vecbridge.stores.pinecone.errors import UnreachedError
from vecbridge.stores.pinecone.expressions import Condition
from vecbridge.stores.pinecone.planes import Encoded, Row, packed
from vecbridge.stores.pinecone.table import IN_FLIGHT, TRUSTED_SECONDS, Table, in_parallel
from vecbridge.urls import StoreURL

_COUNTED: Final = 10_000  # records a page of a filtered count


class PineconeCollection:
    """One namespace of a collection; see :class:`vecbridge.store.Collection`.

    Attributes:
        losses: What of an index that vecbridge did not make cannot be shown.
    """

    capabilities: Capabilities = limits.CAPABILITIES

    def __init__(self, url: StoreURL, namespace: str, table: Table) -> None:
        self.url = url
        self.spec: CollectionSpec = table.spec
        self.namespace = namespace
        self.losses: Sequence[Gap] = table.losses
        self._table = table
        self._layout = table.layout
        self._space = table.layout.wire_namespace(namespace)

    def upsert(self, batch: pa.RecordBatch) -> WriteReport:
        """Writes records, in requests filled up to 2 MB or 1,000 records; see the protocol.

        Raises:
            UnsupportedError: An index made elsewhere whose records hold what a write would remove.
            InvalidRecordError: Also an id that takes more than 512 bytes of ASCII, fields that take more than
                40,960 bytes of JSON, a vector of zeros.
        """
        batch = records.check(batch, self.spec)
        if self._layout.read_only:
            raise UnsupportedError("pinecone", f"writing to {self.spec.name!r}", self._layout.read_only)
        metadata = wire.metadata(self._layout, batch)
        limit = self.capabilities.text_bytes or 0
        if problems := wire.problems(self._layout, self.spec, limit, batch, metadata):
            raise records.invalid(problems, batch.column("id"))
        if not batch.num_rows:
            return WriteReport()
        self._table.require_current(trusted=TRUSTED_SECONDS)
        plane = self._table.plane
        keys = [self._layout.key(id) for id in batch.column("id").to_pylist()]
        vectors = records.vectors(batch, self.spec.vector.name)
        parts = packed(plane.encode(keys, vectors, metadata), plane.envelope(self._space))
        deliver = partial(writing.delivered, self._written)
        outcomes = sending.send(parts, deliver, at_once=IN_FLIGHT, unsent=errors.never_stored)
        return sending.report(batch.column("id"), outcomes)

    def search(self, query: Query) -> list[Hits]:
        """The nearest records; see the protocol. The service takes one vector a request."""
        resolved = self.capabilities.resolve(query, self.spec)
        condition = self._compiled(resolved.filter)
        if condition is False:
            return [self._hits(resolved, []) for _ in resolved.vectors]
        return in_parallel(lambda vector: self._search(resolved, vector, condition), resolved.vectors)

    def fetch(self, ids: Iterable[str | int], *, include: Sequence[str] | None = None) -> pa.RecordBatch:
        """Records by id; see the protocol."""
        wanted = records.id_array(self.spec, ids).to_pylist()
        records.arrow_schema(self.spec, include)
        _, found = self._table.fetched(self._space, self._askable(wanted), include)
        return found

    def delete(self, ids: Iterable[str | int] | None = None, *, filter: Filter | None = None) -> None:
        """Removes records; the service does not say how many there were."""
        check_delete(ids, filter)
        if ids is not None:
            wanted = records.id_array(self.spec, ids).to_pylist()
            self._table.require_current()
            self._table.delete_keys(self._space, self._askable(wanted))
            return
        condition = self._compiled(self._resolved(filter))
        if condition is not False:
            self._table.require_current()
            selector = {"deleteAll": True} if condition is True else {"filter": condition}
            self._table.delete(self._space, selector)

    def scan(
        self,
        *,
        include: Sequence[str] | None = None,
        filter: Filter | None = None,
        batch_rows: int = 10_000,
        cursor: str | None = None,
    ) -> Iterator[Page]:
        """Records in the order of their ids at the service; see the protocol."""
        records.arrow_schema(self.spec, include)
        condition = self._compiled(self._resolved(filter))
        check_whole("batch_rows", batch_rows)
        token = "" if cursor is None else self._read_cursor(cursor, filtered=condition is not True)
        return self._pages(include, condition, batch_rows, token)

    def count(self, filter: Filter | None = None) -> int:
        """How many records there are, or match.

        The service counts whole namespaces only: with a filter every match is read, whole, which takes a
        request for every few hundred records.
        """
        condition = self._compiled(self._resolved(filter))
        if condition is False:
            return 0
        if condition is True:
            return self._table.rows(self.namespace)
        pages = self._table.match_pages(self._space, condition, _COUNTED, "", [])
        return sum(page.num_rows for page, _ in pages)

    def status(self) -> Status:
        """Records of the namespace, as far as the service has counted them, and the state of the index."""
        index = self._table.control.describe(self._table.index)
        state = "ready" if index.status.ready else "building"
        details = {"state": index.status.state, "deletion_protection": index.deletion_protection}
        return Status(self.count(), {each.name: state for each in self.spec.vectors}, details)

    def flush(self, timeout: float = 60.0) -> None:
        """Waits until acknowledged writes are visible; see the protocol."""
        self._table.flush(self.namespace, timeout)

    def wait_ready(self, timeout: float = 600.0) -> None:
        """Waits until the index takes requests and its queries see every acknowledged write."""
        patience = Patience(timeout, f"{self.spec.name!r} is not ready")
        self._table.control.wait_ready(self._table.index, patience.left)
        self._table.flush(self.namespace, patience.left)

    def close(self) -> None:
        """Releases nothing: the connections are the store's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _resolved(self, filter: Filter | None) -> Filter | None:
        return None if filter is None else self.capabilities.resolve_filter(filter, self.spec)

    def _compiled(self, condition: Filter | None) -> Condition:
        return True if condition is None else expressions.compiled(condition, self._layout)

    def _askable(self, ids: Sequence[str | int]) -> list[str]:
        """The ids that a record can have; no other is there."""
        return [key for key in map(self._layout.key, ids) if wire.is_key(key)]

    def _written(self, rows: Sequence[Encoded]) -> None:
        try:
            self._table.plane.upsert(self._space, rows)
        except UnreachedError:
            self._table.require_current()  # it may have been dropped
            raise

    def _search(self, query: ResolvedQuery, vector: FloatArray, condition: Condition) -> Hits:
        include = query.include or ()
        values = query.field.name in include
        metadata = any(name not in ("id", query.field.name) for name in include)
        whole = self._table.hits_with_columns(query.k, values=values, metadata=metadata)
        found = self._table.plane.query(
            self._space, vector, query.k, None if isinstance(condition, bool) else condition,
            values=values and whole, metadata=metadata and whole,
        )  # fmt: skip
        if whole or query.include is None:
            return self._hits(query, found)
        keys, batch = self._table.fetched(self._space, [row.key for row in found], query.include)
        scores = {row.key: row.score for row in found}  # a record may go between the two reads
        return Hits(
            records.python_ids(batch.column("id")), np.array([scores[key] for key in keys], np.float32), batch
        )

    def _hits(self, query: ResolvedQuery, found: Sequence[Row]) -> Hits:
        ids = records.python_ids(self._layout.id_array([row.key for row in found]))
        scores = np.array([row.score for row in found], np.float32)
        if query.include is None:
            return Hits(ids, scores)
        return Hits(ids, scores, wire.batch(self._layout, self.spec, found, query.include))

    def _pages(
        self, include: Sequence[str] | None, condition: Condition, rows: int, token: str | None
    ) -> Iterator[Page]:
        if condition is False or token is None:
            return
        if condition is True:
            pages = self._id_pages(include, rows, token)
        else:
            pages = self._table.match_pages(self._space, condition, rows, token, include)
        for batch, following in pages:
            if batch.num_rows:
                yield Page(batch, self._cursor(following, filtered=condition is not True))

    def _id_pages(
        self, include: Sequence[str] | None, rows: int, token: str
    ) -> Iterator[tuple[pa.RecordBatch, str]]:
        ids_only = include is not None and not set(include) - {"id"}
        for keys, following in self._table.key_pages(self._space, rows, token):
            if ids_only:
                yield wire.batch(self._layout, self.spec, [Row(key) for key in keys], include), following
            else:
                yield self._table.fetched(self._space, keys, include)[1], following

    def _cursor(self, token: str, *, filtered: bool) -> str:
        state = json.dumps([self._table.token, self.namespace, filtered, token or None])
        return base64.urlsafe_b64encode(state.encode()).decode()

    def _read_cursor(self, cursor: str, *, filtered: bool) -> str | None:
        """Where the service goes on; None at the end."""
        try:
            token, namespace, was_filtered, following = json.loads(base64.urlsafe_b64decode(cursor))
        except (ValueError, TypeError) as exc:
            raise ConfigError(f"cursor {cursor!r} is none of this collection's") from exc
        if namespace != self.namespace:
            raise ConfigError(f"the cursor belongs to namespace {namespace!r}, not {self.namespace!r}")
        if was_filtered is not filtered:
            raise ConfigError("a scan with a filter and one without go on from cursors of their own")
        if token != self._table.token:
            raise CursorExpiredError(f"{self.spec.name!r} was replaced since: scan from the start")
        return None if following is None else str(following)
