"""One namespace of a snapshot: the verbs of the front, answered from a view of the files."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import filters, records
from vecbridge.driver import (
    Columns,
    Deadline,
    Identity,
    Key,
    KeyedPage,
    PageRequest,
    RequestLimits,
    SearchRequest,
    SearchResult,
    WritePart,
    WriteResult,
)
from vecbridge.errors import CursorExpiredError, DeadlineError, UnavailableError
from vecbridge.filters import Filter
from vecbridge.indexes import Flat
from vecbridge.query import Hits, Ids, Status
from vecbridge.schema import CollectionSpec
from vecbridge.stores.snapshot.exact import nearest
from vecbridge.stores.snapshot.masks import mask
from vecbridge.stores.snapshot.sources import row_width
from vecbridge.stores.snapshot.table import Table
from vecbridge.stores.snapshot.view import View

Answer = TypeVar("Answer")

RECORD_BYTES: Final = 64 << 20
_BATCH_BYTES: Final = 8 << 20
_BATCH_ROWS: Final = 1 << 16
_ATTEMPTS: Final = 20
_ALL_STORED: Final = WriteResult()


class SnapshotEncoder:
    """Leaves rows as they are; see :class:`vecbridge.driver.Encoder`.

    Args:
        spec: What the collection holds.
    """

    def __init__(self, spec: CollectionSpec) -> None:
        self._spec = spec

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        """One part whatever the limits are, because a batch is written whole.

        Raises:
            InvalidRecordError: A row that no row group could hold.
        """
        if rows.nbytes > RECORD_BYTES:
            vectors = {vector.name for vector in self._spec.vectors}
            scalars = rows.select([name for name in rows.schema.names if name not in vectors])
            large = np.flatnonzero(records.row_bytes(scalars) > RECORD_BYTES).tolist()
            if large:
                problem = f"its fields take more than {RECORD_BYTES:,} bytes"
                raise records.invalid(dict.fromkeys(large, problem), rows.column("id"))
        return iter([WritePart(range(rows.num_rows), rows)])

    def request_size(self, part: WritePart) -> int:
        """Bytes of the rows in memory; files are compressed."""
        return int(records.row_bytes(part.payload).sum())


class SnapshotCollection(SnapshotEncoder):
    """The driver of one namespace.

    Args:
        table: The collection.
        spec: As the handle knows it.
        namespace: Which namespace.
    """

    def __init__(self, table: Table, spec: CollectionSpec, namespace: str) -> None:
        super().__init__(spec)
        self._table = table
        self._namespace = namespace

    def identity(self, deadline: Deadline) -> Identity | None:
        """The token and the number of fields that are stored now."""
        manifest = self._table.look()
        return None if manifest is None else manifest.identity

    def write(self, part: WritePart, deadline: Deadline) -> WriteResult:
        """Writes the batch whole, or nothing of it."""
        self._table.upsert(self._namespace, part.payload)
        return _ALL_STORED

    def write_absent(self, part: WritePart, deadline: Deadline, *, whole: bool) -> WriteResult:
        """Writes the new rows of the batch, while no other writer can come between."""
        batch: pa.RecordBatch = part.payload
        with self._table.writing():
            stored = self._find(batch.column("id"), ()).column("id")
            present = records.booleans(pc.is_in(batch.column("id"), value_set=stored))
            if not present.any():
                self._table.upsert(self._namespace, batch)
            elif not whole and not present.all():
                self._table.upsert(self._namespace, batch.filter(pa.array(~present)))
            return WriteResult(present=np.flatnonzero(present).tolist())

    def delete_keys(self, ids: pa.Array, deadline: Deadline) -> int:
        """Writes that the ids are gone, those of them that are there."""
        if self._table.view(self._namespace).entry is None:
            return 0
        with self._table.writing():
            found = self._find(ids, ()).column("id")
            if len(found):
                self._table.delete(self._namespace, [found])
            return len(found)

    def delete_where(self, filter: Filter | None, seconds: float) -> int:
        """Removes the rows that match at this moment."""
        if self._table.view(self._namespace).entry is None:
            return 0
        with self._table.writing():
            view = self._table.view(self._namespace)
            if filter is None:
                self._table.clear(self._namespace)
                return view.rows
            found = [batch.column("id") for _, batch in self._matching(view, (), filter) if batch.num_rows]
            if found:
                self._table.delete(self._namespace, found)
            return sum(map(len, found))

    def search(self, request: SearchRequest) -> SearchResult:
        """The nearest rows, by comparing every one; the deadline is of the whole pass."""
        return SearchResult(self._steadily(lambda view: self._search(view, request)))

    def lookup(self, ids: pa.Array, columns: Columns, deadline: Deadline) -> pa.RecordBatch:
        """Rows by id: the ids of all files are read, and the row groups that have one of them."""
        return self._find(ids, columns)

    def pages(self, request: PageRequest) -> Generator[KeyedPage, None, None]:
        """Rows in the order of their writing, as they stood when the scan began.

        Raises:
            CursorExpiredError: The state of which the key is cannot be told from the files any more.
            ValueError: No such key.
        """
        view = self._table.view(self._namespace)
        key = _PageKey.read(request.after, view)
        wanted = request.rows if request.limit is None else min(request.rows, request.limit)
        held: list[pa.RecordBatch] = []
        reached = key.start
        try:
            for number, batch in self._matching(view, request.columns, request.filter, wanted, key):
                if held and sum(each.num_rows for each in held) + batch.num_rows > wanted:
                    yield KeyedPage(_joined(held), key.at(reached))
                    held = []
                if batch.num_rows:
                    held.append(batch)
                reached = number
        except FileNotFoundError as exc:
            self._table.require_merged(view.manifest, exc)
            raise CursorExpiredError(f"{exc.filename} was removed by a merge since the scan began") from exc
        if held:
            yield KeyedPage(_joined(held), key.at(reached))

    def split(self, parts: int, deadline: Deadline) -> Sequence[Key]:
        """Keys of ranges of row numbers."""
        view = self._table.view(self._namespace)
        edges = np.unique(np.linspace(0, view.next, parts + 1).astype(np.int64)).tolist()
        whole = _PageKey.read(None, view)
        return [
            _PageKey(whole.generation, whole.version, low, high, view.next).key()
            for low, high in pairwise(edges)
        ]

    def count(self, deadline: Deadline) -> int:
        """How many rows there are."""
        return self._table.view(self._namespace).rows

    def count_where(self, filter: Filter, deadline: Deadline) -> int:
        """How many rows match."""

        def counted(view: View) -> int:
            return sum(int(batch.num_rows) for _, batch in self._matching(view, (), filter))

        return self._steadily(counted)

    def status(self, deadline: Deadline) -> Status:
        """Rows, files, and requests that are not merged yet; a search is always exact."""
        view = self._table.view(self._namespace)
        details = {
            "search": "exact: a snapshot records its index and builds none",
            "files": len(view.files),
            "bytes": sum(source.promise.size or 0 for source in view.files),
            "pending_requests": len(view.names),
        }
        vectors = self._spec.vectors
        built = {each.name: each.index if isinstance(each.index, Flat) else None for each in vectors}
        return Status(view.rows, {each.name: "ready" for each in vectors}, details, built)

    def flush(self, deadline: Deadline) -> None:
        """Merges what this process has pending, which every reader sees already."""
        self._table.manifest()
        if self._table.holds_lock:
            try:
                self._table.merge(deadline)
            except DeadlineError:
                return  # what flush() promises holds: the rest stays pending

    def build(self, deadline: Deadline) -> None:
        """There is no index to build."""
        self._table.manifest()

    def compact(self, deadline: Deadline) -> None:
        """Writes small files together; keys expire."""
        if self._table.view(self._namespace).entry is not None:
            self._table.compact(self._namespace, deadline)

    def _find(self, ids: pa.Array, columns: Columns) -> pa.RecordBatch:
        schema = records.arrow_schema(self._spec, columns)
        return self._steadily(lambda view: view.find(ids, schema))

    def _steadily(self, read: Callable[[View], Answer]) -> Answer:
        """Reads from a view, and from a newer one if a merge has removed a file meanwhile."""
        for _ in range(_ATTEMPTS):
            view = self._table.view(self._namespace)
            try:
                return read(view)
            except FileNotFoundError as exc:
                self._table.require_merged(view.manifest, exc)
        raise UnavailableError(f"{self._spec.name!r}: the writer went on merging: try again")

    def _search(self, view: View, request: SearchRequest) -> list[Hits]:
        def timely() -> Iterable[pa.RecordBatch]:
            columns = (request.field.name,)
            for _, batch in self._matching(view, columns, request.filter):
                if time.monotonic() >= request.deadline.at:
                    raise DeadlineError(
                        f"{self._spec.name!r} has {view.rows:,} rows to compare, which took too long: give a "
                        "longer timeout=, or copy it to a store that builds indexes"
                    )
                yield batch

        best = nearest(timely(), request.field.name, request.vectors, request.field.metric, request.k)
        if not best:
            none: Ids = [] if self._spec.id_type == "string" else np.empty(0, np.int64)
            best = [(none, np.empty(0, np.float32))] * len(request.vectors)
        if request.columns is None:
            return [Hits(ids, scores) for ids, scores in best]
        type = pa.string() if self._spec.id_type == "string" else pa.int64()
        arrays = [pa.array(ids, type) for ids, _ in best]
        schema = records.arrow_schema(self._spec, request.columns)
        distinct = pa.concat_arrays(arrays).unique()
        rows = view.find(distinct, schema) if len(distinct) else pa.RecordBatch.from_pylist([], schema=schema)
        return [
            Hits(ids, scores, rows.take(pc.index_in(array, value_set=rows.column("id"))))
            for (ids, scores), array in zip(best, arrays, strict=True)
        ]

    def _matching(
        self, view: View, columns: Columns, filter: Filter | None, rows: int = _BATCH_ROWS,
        key: _PageKey | None = None,
    ) -> Iterator[tuple[int, pa.RecordBatch]]:  # fmt: skip
        """Rows that match, and the number at which the next ones start."""
        wanted = records.arrow_schema(self._spec, columns)
        schema = wanted
        if filter is not None:
            names = {*columns, *filters.field_names(filter)} - {"id"}
            schema = records.arrow_schema(self._spec, sorted(names))
        few = _BATCH_BYTES // row_width(schema)
        rows = max(1, min(rows, _BATCH_ROWS, few if filter is not None or key is None else rows))
        where = _PageKey.read(None, view) if key is None else key
        for start, batch in view.walk(
            schema, rows, start=where.start, stop=where.stop, version=where.version
        ):
            matching = batch if filter is None else batch.filter(mask(filter, batch))
            yield start, matching if schema is wanted else matching.select(wanted.names)


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


@dataclass(frozen=True, slots=True)
class _PageKey:
    """Where a scan stands; :mod:`.manifest` says what row numbers are.

    Attributes:
        generation: Of the namespace.
        version: Of the manifest when the scan began.
        start: Number of the next row.
        stop: Number behind the last row that is wanted.
        upto: Number behind the last row that there was when the scan began.
    """

    generation: int
    version: int
    start: int
    stop: int
    upto: int

    @classmethod
    def read(cls, key: Key, view: View) -> _PageKey:
        """The key of a scan from the start, or that goes on."""
        if key is None:
            return cls(view.generation, view.manifest.version, 0, view.next, view.next)
        match key:
            case [int(generation), int(version), int(start), int(stop), int(upto)] if (
                0 <= start <= stop <= upto and not any(isinstance(each, bool) for each in key)
            ):
                read = cls(generation, version, start, stop, upto)
            case _:
                raise ValueError(f"{key!r} is not [generation, version, start, stop, upto]")
        name = view.spec.name
        if generation != view.generation or upto > view.next:
            raise CursorExpiredError(f"{name!r} was compacted since the scan began: start again")
        if view.moved >= upto:
            raise CursorExpiredError(f"rows of {name!r} were replaced since the scan began: start again")
        return read

    def at(self, start: int) -> Key:
        """The key from which the scan goes on at a number."""
        return _PageKey(self.generation, self.version, start, self.stop, self.upto).key()

    def key(self) -> Key:
        """As JSON values."""
        return [self.generation, self.version, self.start, self.stop, self.upto]
