"""One namespace of a collection on disk: the verbs of the front, answered from a view of the files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from vecbridge import records
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
from vecbridge.errors import CursorExpiredError, DeadlineError, StoreLockedError
from vecbridge.filters import Filter
from vecbridge.query import FloatArray, Hits, Ids, Status
from vecbridge.schema import Metric
from vecbridge.stores.faiss import indexes
from vecbridge.stores.faiss.exact import Candidates
from vecbridge.stores.faiss.files import WriterLock
from vecbridge.stores.faiss.log import Rows
from vecbridge.stores.faiss.place import Place, StoredSpec
from vecbridge.stores.faiss.rows import Mask, Snapshot, Successors
from vecbridge.stores.faiss.search import search
from vecbridge.stores.faiss.upkeep import Upkeep
from vecbridge.stores.faiss.view import Reader, View
from vecbridge.stores.faiss.writer import Writer

_POLL_SECONDS: Final = 0.2
_MOST_PROJECTIONS: Final = 64
_ALL_STORED: Final = WriteResult()


class FaissEncoder:
    """Leaves rows as they are; see :class:`vecbridge.driver.Encoder`."""

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        """One part whatever the limits are, because a batch is committed whole."""
        return iter([WritePart(range(rows.num_rows), rows)])

    def request_size(self, part: WritePart) -> int:
        """Bytes of the vectors and of the log, about."""
        return int(records.row_bytes(part.payload).sum())


class FaissCollection(FaissEncoder):
    """The driver of one namespace; shared by all of its handles in a store.

    Args:
        place: Where it is.
        lock: The writer's lock of the collection; None where this process may only read.
        disk: Writes vectors.

    Attributes:
        reader: What is committed.
        upkeep: Indexes, compaction, and what ends the namespace.
    """

    def __init__(self, place: Place, lock: WriterLock | None, disk: Executor) -> None:
        self.reader = Reader(place)
        self._writer = Writer(self.reader, lock, disk)
        self.upkeep = Upkeep(self.reader, self._writer)
        self._projections: dict[Columns, _Projection] = {}
        self._no_ids: Ids = [] if place.spec.id_type == "string" else np.empty(0, np.int64)

    def identity(self, deadline: Deadline) -> Identity | None:
        """The token and the number of fields that are stored now."""
        stored = StoredSpec.read(self.reader.place.directory.parent)
        return None if stored is None else stored.identity

    def write(self, part: WritePart, deadline: Deadline) -> WriteResult:
        """Commits the batch whole, or nothing of it."""
        self._writer.upsert(part.payload)
        return _ALL_STORED

    def write_absent(self, part: WritePart, deadline: Deadline, *, whole: bool) -> WriteResult:
        """Commits the new rows of the batch whole, while no other writer can come between."""
        return WriteResult(present=self._writer.upsert_absent(part.payload, whole=whole).tolist())

    def delete_keys(self, ids: pa.Array, deadline: Deadline) -> int:
        """Marks rows as dead; their place is given back by :meth:`compact`."""
        if not self.reader.exists():
            return 0
        with self._writer.writing():
            rows = self.reader.rows_of(ids)[1]
            return self._delete(rows[rows >= 0])

    def delete_where(self, filter: Filter | None, seconds: float) -> int:
        """Marks the rows that match at this moment as dead."""
        if not self.reader.exists():
            return 0
        with self._writer.writing() as generation:
            snapshot = generation.view.snapshot
            if filter is None:
                return self._delete(np.flatnonzero(snapshot.live))
            return self._delete(self.reader.selections.get(filter, snapshot).rows)

    def search(self, request: SearchRequest) -> SearchResult:
        """The nearest rows; :mod:`.search` says how."""
        view = self.reader.view()
        snapshot = view.snapshot
        field = request.field
        if snapshot.live_rows:
            selection = None
            if request.filter is not None:
                selection = self.reader.selections.get(request.filter, snapshot)
            found = search(request, snapshot, view.vectors[field.name], view.indexes[field.name], selection)
        else:
            found = Candidates.none(len(request.vectors))
        return SearchResult(self._hits(view, found, field.metric, request.columns))

    def lookup(self, ids: pa.Array, columns: Columns, deadline: Deadline) -> pa.RecordBatch:
        """Rows by id."""
        view, rows = self.reader.rows_of(ids)
        return self._batch(view, rows[rows >= 0], columns)

    def pages(self, request: PageRequest) -> Generator[KeyedPage, None, None]:
        """Rows in the order of their writing.

        A key is [generation, start, stop, upto]: rows from start to stop are still to come. A row that was
        replaced since the scan began stands where it stood then: ``upto`` is how many rows there were.

        Raises:
            CursorExpiredError: A compaction numbered the rows anew, or the namespace was dropped.
            ValueError: No such key.
        """
        view = self.reader.view()
        total = view.snapshot.total
        generation, start, stop, upto = (
            (view.generation, 0, total, total) if request.after is None else _key_parts(request.after)
        )
        self._require_generation(view, generation)
        wanted = request.rows if request.limit is None else min(request.rows, request.limit)
        replaced: tuple[Snapshot, Successors] | None = None
        while start < stop:
            view = self.reader.view()
            self._require_generation(view, generation)
            snapshot = view.snapshot
            if snapshot.dead and (replaced is None or replaced[0] is not snapshot):
                replaced = snapshot, Successors(snapshot)
            allowed = snapshot.live
            if request.filter is not None:
                allowed = self.reader.selections.get(request.filter, snapshot).allowed
            parts: list[Rows] = []
            missing = wanted
            while start < stop and missing:
                high = min(start + missing, stop)
                parts.append(_standing(snapshot.live, allowed, replaced, start, high, upto))
                missing -= len(parts[-1])
                start = high
            batch = self._read(view, np.concatenate(parts), request.columns)
            yield KeyedPage(batch, [generation, start, stop, upto])

    def split(self, parts: int, deadline: Deadline) -> Sequence[Key]:
        """Keys of ranges of rows."""
        view = self.reader.view()
        total = view.snapshot.total
        edges = np.unique(np.linspace(0, total, parts + 1).astype(np.int64)).tolist()
        return [[view.generation, low, high, total] for low, high in pairwise(edges)]

    def count(self, deadline: Deadline) -> int:
        """How many rows there are."""
        return self.reader.view().snapshot.live_rows

    def count_where(self, filter: Filter, deadline: Deadline) -> int:
        """How many rows match."""
        return self.reader.selections.get(filter, self.reader.view().snapshot).count

    def status(self, deadline: Deadline) -> Status:
        """Rows, state of the indexes, and dead rows that compact() would remove."""
        view = self.reader.view()
        snapshot = view.snapshot
        details = {"dead_rows": snapshot.total - snapshot.live_rows}
        built = {
            field.name: indexes.built(field, view.indexes[field.name])
            for field in self.reader.place.spec.vectors
        }
        return Status(snapshot.live_rows, view.states, details, built)

    def flush(self, deadline: Deadline) -> None:
        """Writes are visible at once; the writer also extends an index that has fallen far behind."""
        self.reader.view()
        if not self._writer.holds_lock:
            return
        try:
            self.upkeep.build(deadline, only_where_slow=True)
        except DeadlineError:
            return  # what flush() promises holds: the rest is searched exactly

    def build(self, deadline: Deadline) -> None:
        """Builds what the index lacks, or waits for the process that writes to build it."""
        while True:
            try:
                self.upkeep.build(deadline)
                return
            except StoreLockedError as exc:
                name = self.reader.place.spec.name
                deadline.pause(_POLL_SECONDS, f"the index of {name!r} is not built: {exc}")

    def compact(self, deadline: Deadline) -> None:
        """Rewrites the live rows and their index."""
        self.upkeep.compact(deadline)

    def _delete(self, rows: Rows) -> int:
        if len(rows):
            self._writer.delete(rows)
        return len(rows)

    def _require_generation(self, view: View, generation: str) -> None:
        if view.generation != generation:
            raise CursorExpiredError(
                f"{self.reader.place.spec.name!r} was compacted since the scan began: start again"
            )

    def _read(self, view: View, rows: Rows, columns: Columns) -> pa.RecordBatch:
        """Records of some rows for a scan, which leaves no pages of the vector file in memory."""
        try:
            return self._batch(view, rows, columns, _read_vectors)
        except FileNotFoundError as exc:
            name = self.reader.place.spec.name
            raise CursorExpiredError(f"{name!r} was compacted or dropped during the scan") from exc

    def _batch(
        self,
        view: View,
        rows: Rows,
        columns: Columns,
        vectors_of: Callable[[View, str, Rows], FloatArray] | None = None,
    ) -> pa.RecordBatch:
        """Records of some rows, in that order."""
        projection = self._projections.get(columns) or self._projected(columns)
        if not len(rows):
            return projection.empty
        scalars = view.snapshot.take(rows, projection.scalars)
        if not projection.vectors:
            return scalars
        read = vectors_of or _mapped_vectors
        arrays = scalars.columns
        vectors = [records.vector_array(read(view, name, rows)) for name in projection.vectors]
        return pa.RecordBatch.from_arrays([arrays[0], *vectors, *arrays[1:]], schema=projection.schema)

    def _projected(self, columns: Columns) -> _Projection:
        if len(self._projections) >= _MOST_PROJECTIONS:
            self._projections.clear()
        spec = self.reader.place.spec
        schema = records.arrow_schema(spec, columns)
        vectors = [field.name for field in spec.vectors if field.name in columns]
        scalars = [name for name in schema.names if name not in vectors]
        # not from_pylist(): pa.array() of a list imports pandas where it is installed, half a second of work
        empty = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
        projection = self._projections[columns] = _Projection(schema, vectors, scalars, empty)
        return projection

    def _hits(self, view: View, found: Candidates, metric: Metric, columns: Columns | None) -> list[Hits]:
        if len(found.rows) == 1:
            return [self._one(view, found.rows[0], found.distances[0], metric, columns)]
        rows = found.rows.reshape(-1)
        counts = [found.rows.shape[1]] * len(found.rows)
        if not found.full:
            counts = (found.rows >= 0).sum(axis=1).tolist()
            rows = rows[rows >= 0]
        ids = view.snapshot.ids(rows) if len(rows) else self._no_ids
        batch = None if columns is None else self._batch(view, rows, columns)
        scores = found.distances if metric is Metric.L2 else -found.distances
        hits = []
        start = 0
        for line, count in enumerate(counts):
            part = None if batch is None else batch.slice(start, count)
            hits.append(Hits(ids[start : start + count], scores[line, :count], part))
            start += count
        return hits

    def _one(
        self, view: View, rows: Rows, distances: FloatArray, metric: Metric, columns: Columns | None
    ) -> Hits:
        """The hits of one query, by the shortest way."""
        count = len(rows)
        if count and rows[-1] < 0:
            count = int((rows >= 0).sum())
            rows, distances = rows[:count], distances[:count]
        ids = view.snapshot.ids(rows) if count else self._no_ids
        scores = distances if metric is Metric.L2 else -distances
        return Hits(ids, scores, None if columns is None else self._batch(view, rows, columns))


class _Projection(NamedTuple):
    """What records of some columns are made of.

    Attributes:
        schema: Of the records.
        vectors: Vector columns, which come from their files.
        scalars: "id" and the scalar columns, which come from the log.
        empty: No records.
    """

    schema: pa.Schema
    vectors: list[str]
    scalars: list[str]
    empty: pa.RecordBatch


def _mapped_vectors(view: View, name: str, rows: Rows) -> FloatArray:
    return view.vectors[name].values[rows]


def _read_vectors(view: View, name: str, rows: Rows) -> FloatArray:
    low, high = int(rows.min()), int(rows.max()) + 1
    values = view.files[name].window(low, high)
    return values if high - low == len(rows) and (np.diff(rows) == 1).all() else values[rows - low]


def _key_parts(key: Key) -> tuple[str, int, int, int]:
    match key:
        case [str(generation), int(start), int(stop), int(upto)] if 0 <= start <= stop <= upto:
            return generation, start, stop, upto
        case _:
            raise ValueError(f"{key!r} is not [generation, start, stop, upto]")


def _standing(
    live: Mask, allowed: Mask, replaced: tuple[Snapshot, Successors] | None, low: int, high: int, upto: int
) -> Rows:
    """The rows that a scan shows for [low, high): the live ones, and what replaced others after it began."""
    rows = np.arange(low, high)
    if replaced is not None:
        dead = ~live[low:high]
        rows[dead] = replaced[1].newest(rows[dead], upto)
    rows = rows[rows >= 0]
    return rows[allowed[rows]]
