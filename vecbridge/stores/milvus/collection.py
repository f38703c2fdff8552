"""One namespace of one Milvus collection."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final

import pyarrow as pa

from vecbridge.driver import (
    Columns,
    Deadline,
    Described,
    Identity,
    KeyedPage,
    PageRequest,
    RequestLimits,
    SearchRequest,
    SearchResult,
    WritePart,
    WriteResult,
)
from vecbridge.errors import NotFoundError, TooLargeError
from vecbridge.filters import Filter
from vecbridge.query import Status
from vecbridge.stores.milvus import expressions, paging, stored, wire
from vecbridge.stores.milvus.asking import Asker
from vecbridge.stores.milvus.encoding import MilvusEncoder
from vecbridge.stores.milvus.layout import Keys, Layout
from vecbridge.stores.milvus.paging import RequestSize
from vecbridge.stores.milvus.readiness import Readiness
from vecbridge.stores.milvus.searching import Searcher
from vecbridge.stores.milvus.table import STRONG, Table

_IDS_A_LOOKUP: Final = 1_000
_IDS_A_DELETION: Final = 10_000


class MilvusCollection:
    """One namespace of a collection; see :class:`vecbridge.driver.CollectionDriver`.

    Args:
        table: The collection.
        readiness: Of its indexes.
        found: The collection as this handle knows it, with its layout; ``table`` may be older, or newer.
        namespace: "" where the collection has none.
    """

    def __init__(self, table: Table, readiness: Readiness, found: Described, namespace: str) -> None:
        self._table = table
        self._readiness = readiness
        self._spec = found.spec
        self._layout: Layout = found.state
        self._keys = Keys(self._layout, namespace)
        self._encoder = MilvusEncoder(self._spec, self._layout, self._keys, table.dialect)
        asker = Asker(table, self._layout, self._keys, self._spec)
        self._searcher = Searcher(asker, readiness, seals=table.dialect.seals)

    def identity(self, deadline: Deadline) -> Identity | None:
        """Which collection has this name now; None if none has."""
        try:
            return stored.identity_of(self._table.call("DescribeCollection", deadline))
        except NotFoundError:
            return None

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        """See :meth:`MilvusEncoder.prepare`."""
        return self._encoder.prepare(rows, limits)

    def write(self, part: WritePart, deadline: Deadline) -> WriteResult:
        """One upsert."""
        fields = self._encoder.fields(part)
        self._table.write("Upsert", deadline, fields_data=fields, num_rows=len(part.rows))
        return WriteResult()

    def delete_keys(self, ids: pa.Array, deadline: Deadline) -> int:
        """Removes rows by id; they are looked up first, so that they can be counted."""
        removed = 0
        for keys in self._key_lists(ids, _IDS_A_DELETION):
            existing = self._table.of_keys(keys, [self._layout.pk], deadline).keys()
            if existing:
                self._table.write("Delete", deadline, expr=expressions.of_keys(self._layout, existing))
                removed += len(existing)
        return removed

    def search(self, request: SearchRequest) -> SearchResult:
        """The nearest rows; see :mod:`vecbridge.stores.milvus.searching`."""
        return self._searcher.search(request)

    def lookup(self, ids: pa.Array, columns: Columns, deadline: Deadline) -> pa.RecordBatch:
        """Rows by id."""
        fields = wire.output_fields(self._layout, columns)
        batches = []
        for keys in self._key_lists(ids, min(_IDS_A_LOOKUP, self._table.page_rows(fields))):
            answer = self._table.of_keys(keys, fields, deadline)
            batches.append(answer.batch(self._spec, self._keys, columns))
        return pa.concat_batches(batches)

    def pages(self, request: PageRequest) -> Generator[KeyedPage, None, None]:
        """Rows in the order of their primary keys; the key of a page is its last primary key.

        To see every acknowledged write the first page is read strongly; the others follow it at the level of
        searches, since the server has caught up by then. On milvus-lite, where a request costs a pass over
        all rows, one asks for the rows of many pages.

        Raises:
            ValueError: A key that is no primary key.
        """
        table, after, left = self._table, request.after, request.limit
        if after is not None and type(after) is not (str if self._layout.pk_type == "string" else int):
            raise ValueError(f"{after!r} is no primary key")
        fields = wire.output_fields(self._layout, request.columns)
        level = STRONG if request.consistency == "latest" else table.search_level
        size = RequestSize(request.rows, table.page_rows(fields), ahead=table.dialect.reads_all)
        while left is None or left > 0:
            rows = size.rows if left is None else min(size.rows, left)
            beyond = [] if after is None else [expressions.after_key(self._layout, after)]
            expression = expressions.scoped(self._layout, self._keys, request.filter, *beyond)
            deadline = Deadline.after(request.seconds)
            try:
                answer = table.query(expression, fields, deadline, rows=rows, level=level)
            except TooLargeError:
                if not size.halve():
                    raise
                continue
            if keys := answer.keys():
                after = keys[-1]
                ids = self._keys.decode(keys)
                batch, unfit = answer.fitting(self._spec, self._keys, request.columns, ids)
                size.learn(len(keys), batch.nbytes)
                yield from paging.cut(batch, keys, ids, unfit, request.rows)
            if len(keys) < rows:
                return
            left = None if left is None else left - rows
            level = table.level if request.consistency == "latest" else table.search_level

    def clear(self, deadline: Deadline) -> None:
        """Removes every row."""
        expression = expressions.scoped(self._layout, self._keys, None)
        pk = self._layout.pk
        while keys := self._table.query(expression, [pk], deadline, rows=_IDS_A_DELETION).keys():
            self._table.write("Delete", deadline, expr=expressions.of_keys(self._layout, keys))

    def count(self, deadline: Deadline) -> int:
        """How many rows the namespace has."""
        return self._table.count(expressions.scoped(self._layout, self._keys, None), deadline)

    def count_where(self, filter: Filter, deadline: Deadline) -> int:
        """How many rows match."""
        return self._table.count(expressions.scoped(self._layout, self._keys, filter), deadline)

    def status(self, deadline: Deadline) -> Status:
        """Rows of the namespace, and how far the collection's indexes cover its rows."""
        return self._readiness.status(self.count, deadline)

    def flush(self, deadline: Deadline) -> None:
        """Waits until acknowledged writes are visible; sealing segments is for :meth:`build`."""
        self._table.flush(deadline)

    def build(self, deadline: Deadline) -> None:
        """Seals what was written and waits until searches are answered by the index."""
        self._readiness.build(deadline)

    def _key_lists(self, ids: pa.Array, size: int) -> Iterator[list[Any]]:
        for start in range(0, len(ids), size):
            yield self._keys.encode(ids.slice(start, size))
