"""The Collection protocol over one namespace of one Weaviate collection."""

from __future__ import annotations

import base64
import itertools
import json
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import pyarrow as pa

from vecbridge import protocols_sending as sending
from vecbridge import records
from vecbridge.capabilities import Capabilities, Gap, ResolvedQuery
from vecbridge.errors import (
    ConfigError,
    CursorExpiredError,
    UnsupportedError,
    VecbridgeError,
)
from vecbridge.filters import Filter
from vecbridge.protocols import check_delete, check_whole
from vecbridge.protocols_sending import Outcome
from vecbridge.query import Hits, Page, Query, Status, WriteReport
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate import (
    errors,
    expressions,
    index_params,
    layout,
    limits,
    mending,
    readiness,
    wire,
)
from vecbridge.stores.weaviate.table import Table
from vecbridge.urls import StoreURL

PARALLEL: Final = 3  # requests in flight of one upsert; the server builds its graph on every core
_LANES: Final = 2  # server cursors of one scan
_EXACT_INTEGERS: Final = 2**53

#: UUIDs beyond the first one, up to the second; "" is the end.
Range: TypeAlias = tuple[str, str]


class WeaviateCollection:
    """One namespace of a collection; see :class:`vecbridge.store.Collection`.

    Attributes:
        losses: What of a collection that vecbridge did not make cannot be shown.
    """

    capabilities: Capabilities = limits.CAPABILITIES

    def __init__(self, url: StoreURL, namespace: str, table: Table) -> None:
        self.url = url
        self.spec: CollectionSpec = table.spec
        self.namespace = namespace
        self.losses: Sequence[Gap] = table.losses
        self._table = table
        self._layout = table.layout
        self._tenant = table.layout.tenant(namespace)

    def upsert(self, batch: pa.RecordBatch) -> WriteReport:
        """Writes records in requests of 1,000 rows or 16 MB; see :class:`vecbridge.store.Collection`.

        Raises:
            UnsupportedError: A collection that vecbridge did not make and cannot write to.
        """
        batch = records.check(batch, self.spec)
        self._require_writable()
        uuids = layout.uuids(self._layout, batch.column("id"))
        self._require_storable(batch, uuids)
        if not batch.num_rows:
            return WriteReport()
        self._table.require_current()
        self._table.begin_writing(self._tenant)
        limits = self.capabilities
        parts = records.ranges(batch, max_rows=limits.request_rows, max_bytes=limits.request_bytes)
        send = partial(self._send, batch, uuids)
        outcomes = sending.send(parts, send, at_once=PARALLEL, unsent=errors.never_sent)
        return sending.report(batch.column("id"), outcomes)

    def search(self, query: Query) -> list[Hits]:
        """The nearest rows; see :class:`vecbridge.store.Collection`.

        A server takes one vector a request; several requests are in flight at a time.
        """
        resolved = self.capabilities.resolve(query, self.spec)
        condition = self._compiled(resolved.filter)
        if condition is False:
            return [self._hits(resolved, wire.Answer((), self._layout)) for _ in resolved.vectors]
        requests = [
            wire.search_request(
                self._layout, self._tenant, limit=resolved.k, columns=resolved.include or (),
                filters=None if condition is True else condition,
                near=(resolved.field.name, vector.astype("<f4").tobytes()), uuid=not self._layout.own_ids,
            )
            for vector in resolved.vectors
        ]  # fmt: skip
        what = f"search {self.spec.name!r}"
        try:
            return [
                self._hits(resolved, wire.Answer(each.results, self._layout))
                for each in self._table.connection.call_each("Search", requests, what=what)
            ]
        except errors.TenantNotFoundError:
            return [self._hits(resolved, wire.Answer((), self._layout)) for _ in resolved.vectors]

    def fetch(self, ids: Iterable[str | int], *, include: Sequence[str] | None = None) -> pa.RecordBatch:
        """Records by id; see :class:`vecbridge.store.Collection`."""
        wanted = records.id_array(self.spec, ids)
        schema = records.arrow_schema(self.spec, include)
        columns = schema.names[1:]
        uuids = [each for each in layout.uuids(self._layout, wanted) if each]
        rows = self._table.page_rows(columns)
        parts = [
            self._table.rows(self._tenant, uuids[start : start + rows], columns).batch(self.spec, include)
            for start in range(0, len(uuids), rows)
        ]
        return pa.concat_batches(parts) if parts else pa.RecordBatch.from_pylist([], schema=schema)

    def delete(self, ids: Iterable[str | int] | None = None, *, filter: Filter | None = None) -> int:
        """Removes rows; see :class:`vecbridge.store.Collection`."""
        check_delete(ids, filter)
        if ids is not None:
            wanted = layout.uuids(self._layout, records.id_array(self.spec, ids))
            uuids = [each for each in wanted if each]
            self._table.require_current()
            return sum(
                self._table.delete(self._tenant, expressions.of_uuids(uuids[start : start + limits.WINDOW]))
                for start in range(0, len(uuids), limits.WINDOW)
            )
        condition = self._compiled(self._resolved(filter))
        self._table.require_current()
        if condition is True:
            return self._table.clear(self._tenant)
        return 0 if condition is False else self._table.delete(self._tenant, condition)

    def scan(
        self,
        *,
        include: Sequence[str] | None = None,
        filter: Filter | None = None,
        batch_rows: int = 10_000,
        cursor: str | None = None,
    ) -> Iterator[Page]:
        """Records, of both halves of the UUIDs in turns; see :class:`vecbridge.store.Collection`.

        A cursor of the server waits for its last page before it can ask for the next. Of two, one is at work
        while the page of the other is read.
        """
        columns = records.arrow_schema(self.spec, include).names[1:]
        condition = self._compiled(self._resolved(filter))
        check_whole("batch_rows", batch_rows)
        if cursor is None:
            ranges = _ranges(_LANES if condition is True else 1)
        else:
            ranges = self._read_cursor(cursor)
        return self._pages(include, columns, condition, batch_rows, ranges)

    def split(self, parts: int) -> list[str]:
        """Start cursors of equal ranges of UUIDs; see :class:`vecbridge.store.Splittable`."""
        check_whole("parts", parts)
        return [self._cursor([each]) for each in _ranges(parts)]

    def count(self, filter: Filter | None = None) -> int:
        """How many rows there are, or match."""
        condition = self._compiled(self._resolved(filter))
        if condition is False:
            return 0
        return self._table.count(self._tenant, None if condition is True else condition)

    def status(self) -> Status:
        """Rows of the namespace, and whether vectors wait for the index or a quantizer for its training."""
        found, rows = readiness.shard(self._table, self._tenant), self.count()
        return Status(rows, readiness.states(self.spec, found, rows), {"waiting_vectors": found.waiting})

    def flush(self, timeout: float = 60.0) -> None:
        """Waits where the server indexes after it acknowledged (ASYNC_INDEXING); else returns at once."""
        readiness.wait_for_queue(self._table, self._tenant, timeout)

    def wait_ready(self, timeout: float = 600.0) -> None:
        """Waits until every vector is in the index; trains a quantizer that learns from the rows (PQ, SQ).

        Where the server was started anew since this process first wrote, or an interrupted write was found,
        :meth:`mend` is part of it.

        Raises:
            DeadlineError: Not within ``timeout`` seconds; the next call goes on from there.
        """
        deadline = time.monotonic() + timeout
        readiness.wait(self._table, self._tenant, timeout)
        if self._table.is_suspect(self._tenant, self._table.connection.incarnation()):
            self.mend(max(deadline - time.monotonic(), 0))

    def mend(self, timeout: float = 600.0) -> int:
        """Looks for every row by its own vector, and has the server index those anew that it does not find.

        A server that is killed while somebody writes loses the last moments of its graph, which other rows
        may hang on. :meth:`wait_ready` calls this where this process can know; after a crash in the time of
        another one, call it. It takes about a millisecond a row. No other process should write meanwhile.
        Rows that no search finds afterwards either, because the graph is too sparse for them, are logged.

        Returns:
            How many rows were written again.

        Raises:
            DeadlineError: Not within ``timeout`` seconds; the next call goes on from there.
        """
        self._require_writable()
        incarnation = self._table.connection.incarnation()
        mended = mending.mend(self._table, self._tenant, timeout)
        self._table.trust_index(self._tenant, incarnation)
        return mended

    def close(self) -> None:
        """Releases nothing: the connection is the store's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _resolved(self, filter: Filter | None) -> Filter | None:
        return None if filter is None else self.capabilities.resolve_filter(filter, self.spec)

    def _compiled(self, condition: Filter | None) -> Any:
        return True if condition is None else expressions.compiled(condition, self._layout)

    def _require_writable(self) -> None:
        if self._layout.read_only:
            raise UnsupportedError("weaviate", f"writing to {self.spec.name!r}", self._layout.read_only)

    def _require_storable(self, batch: pa.RecordBatch, uuids: Sequence[str]) -> None:
        """Refuses rows that a collection made elsewhere cannot hold as they are."""
        problems = {
            row: "the collection was made elsewhere, and its ids are UUIDs in small letters"
            for row, each in enumerate(uuids)
            if not each
        }
        for column in self._layout.columns.values():
            if column.codec != "int":
                continue
            for row, value in enumerate(batch.column(column.name).to_pylist()):
                if value is not None and abs(value) > _EXACT_INTEGERS:
                    problems[row] = f"{column.name!r} is an INT, which is exact to 2^53"
        if problems:
            raise records.invalid(problems, batch.column("id"))

    def _send(self, batch: pa.RecordBatch, all_uuids: Sequence[str], rows: range) -> Sequence[Outcome]:
        """Writes one request; where the server did not take every row, what became of each."""
        table, tenant = self._table, self._tenant
        part, uuids = batch.slice(rows.start, len(rows)), all_uuids[rows.start : rows.stop]
        with table.gate.among_others():
            twice = mending.unindexed(table, tenant, part, uuids)
            try:
                if twice:
                    again = part.take(pa.array(twice))
                    mending.touch(table, tenant, again, [uuids[row] for row in twice])
                refused = table.write(wire.batch_request(self.spec, self._layout, tenant, part, uuids))
            except VecbridgeError as exc:
                if not errors.never_sent(exc):
                    table.doubt(tenant, uuids)
                raise
        table.trust(tenant, [each for row, each in enumerate(uuids) if row not in refused])
        if not refused:
            return ()
        table.doubt(tenant, [uuids[row] for row in refused])  # some of them are stored all the same
        what = f"write to {self.spec.name!r}"
        return [
            Outcome(1, errors.of_text(refused[row], what)) if row in refused else Outcome(1)
            for row in range(len(rows))
        ]

    def _hits(self, query: ResolvedQuery, answer: wire.Answer) -> Hits:
        scores = index_params.scores(query.field.metric, answer.distances())
        ids = layout.python_ids(self._layout, answer.id_texts())
        if query.include is None:
            return Hits(ids, scores)
        return Hits(ids, scores, answer.batch(self.spec, query.include))

    def _pages(
        self, include: Sequence[str] | None, columns: Sequence[str], condition: Any, rows: int,
        ranges: Sequence[Range],
    ) -> Iterator[Page]:  # fmt: skip
        lanes = deque(
            (
                each,
                self._table.pages(
                    self._tenant, columns, rows=rows, filters=condition, after=each[0], upto=each[1]
                ),
            )
            for each in ranges
        )
        with ExitStack() as stack:
            for _, pages in lanes:
                stack.enter_context(closing(pages))
            while lanes:
                (_, upto), pages = lanes.popleft()
                if (answer := next(pages, None)) is not None:
                    lanes.append(((answer.last_uuid, upto), pages))
                    yield Page(answer.batch(self.spec, include), self._cursor([each for each, _ in lanes]))

    def _cursor(self, ranges: Sequence[Range]) -> str:
        state = json.dumps([self._table.token, self.namespace, *ranges])
        return base64.urlsafe_b64encode(state.encode()).decode()

    def _read_cursor(self, cursor: str) -> list[Range]:
        try:
            token, namespace, *found = json.loads(base64.urlsafe_b64decode(cursor))
            ranges = [(_bound(after), _bound(upto)) for after, upto in found]
        except (ValueError, TypeError, AttributeError) as exc:
            raise ConfigError(f"cursor {cursor!r} is none of this collection's") from exc
        if namespace != self.namespace:
            raise ConfigError(f"the cursor belongs to namespace {namespace!r}, not {self.namespace!r}")
        if token != self._table.token:
            raise CursorExpiredError(f"{self.spec.name!r} was replaced since: scan from the start")
        return ranges


def _ranges(parts: int) -> list[Range]:
    """All UUIDs in equal parts."""
    bounds = ["", *(str(uuid.UUID(int=(part << 128) // parts)) for part in range(1, parts)), ""]
    return list(itertools.pairwise(bounds))


def _bound(text: str) -> str:
    return str(uuid.UUID(text)) if text else ""
