"""Where rows of a namespace are: files of the manifest and pending requests, less what was overridden."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records
from vecbridge.schema import CollectionSpec
from vecbridge.stores.snapshot.layout import GROUP_BYTES
from vecbridge.stores.snapshot.manifest import FileEntry
from vecbridge.stores.snapshot.parts import Parts, Promise, Rows
from vecbridge.stores.snapshot.pending import Request

Mask = np.ndarray[Any, np.dtype[np.bool_]]

_ID_ROWS = 1 << 16


class Source(Protocol):
    """Some rows with their numbers.

    Attributes:
        first: Number of the first row.
        span: How many numbers it covers.
        since: Version of the manifest from which on numbers within it mean what they mean.
        rows: Rows, hidden ones among them.
        live: Rows that are not hidden.
    """

    @property
    def first(self) -> int: ...  # noqa: D102
    @property
    def span(self) -> int: ...  # noqa: D102
    @property
    def since(self) -> int: ...  # noqa: D102
    @property
    def rows(self) -> int: ...  # noqa: D102
    @property
    def live(self) -> int: ...  # noqa: D102

    def batches(self, schema: pa.Schema, low: int, high: int, rows: int) -> Iterator[Placed]:
        """Live rows from ``low`` to ``high``, at most ``rows`` a batch."""
        ...

    def find(self, ids: pa.Array, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Live rows by id."""
        ...

    def ahead(self) -> None:
        """Begins what takes long before the first row."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Rows, and where they stood.

    Attributes:
        start: Position of the first row that was looked at.
        stop: Behind the last row that was looked at.
        batch: Those of them that are live; may be none.
    """

    start: int
    stop: int
    batch: pa.RecordBatch


@dataclass(frozen=True, slots=True, eq=False)
class PartSource:
    """A Parquet file, of the manifest or pending.

    Attributes:
        promise: What is known of it.
        parts: Opens it.
        spec: The collection's spec.
        rows: Its rows.
        first: Number of its first row.
        span: How many numbers it covers.
        since: As of :class:`Source`.
        hidden: Rows that were overridden, ascending; None if none were.
        entry: Of the manifest; None for a pending one.
        number: Of the request; 0 for one of the manifest.
    """

    promise: Promise
    parts: Parts
    spec: CollectionSpec
    rows: int
    first: int
    span: int
    since: int = 0
    hidden: Rows | None = None
    entry: FileEntry | None = None
    number: int = 0

    @property
    def live(self) -> int:
        """Rows that are not hidden."""
        return self.rows - (0 if self.hidden is None else len(self.hidden))

    def batches(self, schema: pa.Schema, low: int, high: int, rows: int) -> Iterator[Placed]:
        """Live rows from ``low`` to ``high``."""
        part = self.parts.open(self.promise, self.spec)
        for start, batch in part.batches(schema, low, high, rows):
            stop = start + batch.num_rows
            if self.hidden is not None:
                low_place, high_place = np.searchsorted(self.hidden, [start, stop])
                if low_place < high_place:
                    kept = np.ones(batch.num_rows, np.bool_)
                    kept[self.hidden[low_place:high_place] - start] = False
                    batch = batch.filter(pa.array(kept))
            yield Placed(start, stop, batch)

    def find(self, ids: pa.Array, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Live rows by id: row groups without one of them are not decoded beyond their ids."""
        part = self.parts.open(self.promise, self.spec)
        keys = records.arrow_schema(self.spec, ())
        for low, high in part.groups_with(ids):
            found = [
                (each.start, each.stop)
                for each in self.batches(keys, low, high, _ID_ROWS)
                if pc.any(pc.is_in(each.batch.column("id"), value_set=ids)).as_py()
            ]
            if found:
                for each in self.batches(schema, found[0][0], found[-1][1], _rows_of(schema)):
                    matching = each.batch.filter(pc.is_in(each.batch.column("id"), value_set=ids))
                    if matching.num_rows:
                        yield matching

    def all_ids(self, among: pa.Array | None = None) -> Iterator[tuple[int, pa.Array]]:
        """Ids of all rows, hidden ones too, and the row of the first of each; of some row groups alone.

        Args:
            among: Leaves out row groups that have none of these ids, as far as the footer says so.
        """
        part = self.parts.open(self.promise, self.spec)
        keys = records.arrow_schema(self.spec, ())
        groups = [(0, self.rows)] if among is None else part.groups_with(among)
        for low, high in groups:
            for start, batch in part.batches(keys, low, high, _ID_ROWS):
                yield start, batch.column("id")

    def ahead(self) -> None:
        """Has the file checked."""
        self.parts.open_ahead(self.promise, self.spec)


@dataclass(frozen=True, slots=True, eq=False)
class BatchSource:
    """Rows of a pending request in memory that is mapped from its file.

    Attributes:
        request: The request.
        first: Number of its first row.
        kept: Which rows are live; None is all.
    """

    request: Request
    first: int
    kept: Mask | None = None

    @property
    def number(self) -> int:
        """Of the request."""
        return self.request.name.number

    @property
    def rows(self) -> int:
        """Rows, hidden ones among them."""
        return len(self.request.ids)

    @property
    def span(self) -> int:
        """As many numbers as rows."""
        return self.rows

    @property
    def since(self) -> int:
        """Its numbers always meant the same."""
        return 0

    @property
    def live(self) -> int:
        """Rows that are not hidden."""
        return self.rows if self.kept is None else int(self.kept.sum())

    def batches(self, schema: pa.Schema, low: int, high: int, rows: int) -> Iterator[Placed]:
        """Live rows from ``low`` to ``high``."""
        edges = [*self.request.starts, self.rows]
        for (begin, end), batch in zip(pairwise(edges), self.request.batches, strict=True):
            for start in range(max(begin, low), min(end, high), rows):
                stop = min(start + rows, end, high)
                piece = padded(batch.slice(start - begin, stop - start), schema)
                if self.kept is not None:
                    piece = piece.filter(pa.array(self.kept[start:stop]))
                yield Placed(start, stop, piece)

    def find(self, ids: pa.Array, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Live rows by id."""
        wanted = records.booleans(pc.is_in(self.request.ids, value_set=ids))
        if self.kept is not None:
            wanted = wanted & self.kept
        if not wanted.any():
            return
        for begin, batch in zip(self.request.starts, self.request.batches, strict=True):
            places = np.flatnonzero(wanted[begin : begin + batch.num_rows])
            if len(places):
                yield padded(batch.take(pa.array(places)), schema)

    def ahead(self) -> None:
        """Nothing takes long."""


def padded(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns of a schema, in its order; null where the rows do not have one."""
    known = set(batch.schema.names)
    columns = [
        batch.column(column.name) if column.name in known else pa.nulls(batch.num_rows, column.type)
        for column in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _rows_of(schema: pa.Schema) -> int:
    """Rows of a batch that is decoded to find a few of them."""
    return max(1, min(_ID_ROWS, GROUP_BYTES // row_width(schema)))


def row_width(schema: pa.Schema) -> int:
    """Bytes of a row, about: its vectors, and something for the rest."""
    dims = [each.type.list_size for each in schema if pa.types.is_fixed_size_list(each.type)]
    return 64 + 4 * int(sum(dims))
