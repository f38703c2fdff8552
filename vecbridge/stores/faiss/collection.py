"""The Collection protocol over one shard."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.capabilities import Capabilities, Gap
from vecbridge.errors import ConfigError, CursorExpiredError, DeadlineError, StoreLockedError
from vecbridge.filters import Filter
from vecbridge.protocols import check_delete, check_whole
from vecbridge.query import FloatArray, Hits, Ids, Page, Query, Status, WriteReport
from vecbridge.schema import CollectionSpec, Metric
from vecbridge.stores.faiss.exact import Found
from vecbridge.stores.faiss.log import Rows
from vecbridge.stores.faiss.rows import Mask, Snapshot, Successors
from vecbridge.stores.faiss.search import search
from vecbridge.stores.faiss.shard import Shard, View
from vecbridge.urls import StoreURL

_POLL_SECONDS = 0.2


def _mapped_vectors(view: View, name: str, rows: Rows) -> FloatArray:
    return view.spaces[name].vectors[rows]


def _read_vectors(view: View, name: str, rows: Rows) -> FloatArray:
    low, high = int(rows.min()), int(rows.max()) + 1
    values = view.files[name].window(low, high)
    return values if high - low == len(rows) and (np.diff(rows) == 1).all() else values[rows - low]


class FaissCollection:
    """One namespace of a collection on disk; see :class:`vecbridge.store.Collection`."""

    losses: Sequence[Gap] = ()

    def __init__(
        self,
        url: StoreURL,
        spec: CollectionSpec,
        namespace: str,
        capabilities: Capabilities,
        token: str,
        shard: Shard,
    ) -> None:
        self.url = url
        self.spec = spec
        self.namespace = namespace
        self.capabilities = capabilities
        self._token = token
        self._shard = shard

    def upsert(self, batch: pa.RecordBatch) -> WriteReport:
        """Commits the batch whole, or nothing of it; see :class:`vecbridge.store.Collection`.

        Raises:
            StoreLockedError: Another process writes to the collection.
            StorageFullError: No room; nothing was stored.
        """
        batch = records.check(batch, self.spec)
        if batch.num_rows:
            self._shard.upsert(batch)
        return WriteReport(written=batch.num_rows)

    def search(self, query: Query) -> list[Hits]:
        """The nearest rows; see :class:`vecbridge.store.Collection` and the module :mod:`.search`."""
        resolved = self.capabilities.resolve(query, self.spec)
        view = self._shard.view()
        name = resolved.field.name
        if not view.snapshot.live_rows:
            return self._hits(
                view, Found.none(len(resolved.vectors)), resolved.field.metric, resolved.include
            )
        selection = None
        if resolved.filter is not None:
            selection = self._shard.selections.get(resolved.filter, view.snapshot)
        found = search(resolved, view.snapshot, view.spaces[name], view.indexes[name], selection)
        return self._hits(view, found, resolved.field.metric, resolved.include)

    def fetch(self, ids: Iterable[str | int], *, include: Sequence[str] | None = None) -> pa.RecordBatch:
        """Records by id; see :class:`vecbridge.store.Collection`."""
        wanted = records.id_array(self.spec, ids)
        records.arrow_schema(self.spec, include)
        view, rows = self._shard.rows_of(wanted)
        return self._batch(view, rows[rows >= 0], include)

    def delete(self, ids: Iterable[str | int] | None = None, *, filter: Filter | None = None) -> int:
        """Marks rows as dead; their place is given back by :meth:`compact`."""
        check_delete(ids, filter)
        wanted = None if ids is None else records.id_array(self.spec, ids)
        condition = None if filter is None else self.capabilities.resolve_filter(filter, self.spec)
        if not self._shard.exists():
            return 0
        with self._shard.writer() as view:
            if wanted is not None:
                rows = self._shard.rows_of(wanted)[1]
                rows = rows[rows >= 0]
            else:
                assert condition is not None
                rows = self._shard.selections.get(condition, view.snapshot).rows
            if len(rows):
                self._shard.delete(rows)
        return len(rows)

    def scan(
        self,
        *,
        include: Sequence[str] | None = None,
        filter: Filter | None = None,
        batch_rows: int = 10_000,
        cursor: str | None = None,
    ) -> Iterator[Page]:
        """Records in the order of their writing; see :class:`vecbridge.store.Collection`."""
        records.arrow_schema(self.spec, include)
        condition = None if filter is None else self.capabilities.resolve_filter(filter, self.spec)
        check_whole("batch_rows", batch_rows)
        view = self._shard.view()
        if cursor is None:
            total = view.snapshot.total
            cursor = self._cursor(view.generation, 0, total, total)
        return self._pages(include, condition, batch_rows, *self._read_cursor(cursor, view))

    def split(self, parts: int) -> list[str]:
        """Start cursors of disjoint parts; see :class:`vecbridge.store.Splittable`."""
        check_whole("parts", parts)
        view = self._shard.view()
        total = view.snapshot.total
        edges = np.unique(np.linspace(0, total, parts + 1).astype(np.int64)).tolist()
        return [self._cursor(view.generation, low, high, total) for low, high in pairwise(edges)]

    def count(self, filter: Filter | None = None) -> int:
        """How many rows there are, or match."""
        condition = None if filter is None else self.capabilities.resolve_filter(filter, self.spec)
        snapshot = self._shard.view().snapshot
        if condition is None:
            return snapshot.live_rows
        return self._shard.selections.get(condition, snapshot).count

    def status(self) -> Status:
        """Rows, state of the indexes, and dead rows that compact() would remove."""
        view = self._shard.view()
        dead = view.snapshot.total - view.snapshot.live_rows
        return Status(view.snapshot.live_rows, view.states, {"dead_rows": dead})

    def flush(self, timeout: float = 60.0) -> None:
        """Writes are visible at once; the writer also extends an index that has fallen far behind."""
        if not self._shard.is_writer:
            return
        try:
            self._shard.index(time.monotonic() + timeout, least=True)
        except DeadlineError:
            return  # what flush() promises holds: the rest is searched exactly

    def wait_ready(self, timeout: float = 600.0) -> None:
        """Builds what the index lacks, or waits for the process that writes to build it."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._shard.index(deadline)
                return
            except StoreLockedError as exc:
                if time.monotonic() + _POLL_SECONDS >= deadline:
                    raise DeadlineError(f"the index of {self.spec.name!r} is not built: {exc}") from exc
                time.sleep(_POLL_SECONDS)

    def compact(self, timeout: float = 600.0) -> None:
        """Rewrites the live rows and their index; see :class:`vecbridge.store.Compactable`."""
        self._shard.compact(time.monotonic() + timeout)

    def close(self) -> None:
        """Releases nothing: files and the writer lock are the store's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, view: View, rows: Rows, include: Sequence[str] | None) -> pa.RecordBatch:
        """Records of some rows for a scan, which leaves no pages of the vector file in memory."""
        try:
            return self._batch(view, rows, include, _read_vectors)
        except FileNotFoundError as exc:
            raise CursorExpiredError(f"{self.spec.name!r} was compacted or dropped during the scan") from exc

    def _batch(
        self,
        view: View,
        rows: Rows,
        include: Sequence[str] | None,
        from_file: Callable[[View, str, Rows], FloatArray] = _mapped_vectors,
    ) -> pa.RecordBatch:
        """Records of some rows, in that order."""
        schema = records.arrow_schema(self.spec, include)
        if not len(rows):
            return pa.RecordBatch.from_pylist([], schema=schema)
        names = [each.name for each in self.spec.vectors]
        scalars = view.snapshot.take(rows, [name for name in schema.names if name not in names])
        columns = []
        for name in schema.names:
            if name in names:
                columns.append(records.vector_array(from_file(view, name, rows)))
            else:
                columns.append(scalars.column(name))
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _hits(self, view: View, found: Found, metric: Metric, include: Sequence[str] | None) -> list[Hits]:
        rows = found.rows.reshape(-1)
        counts = [found.rows.shape[1]] * len(found.rows)
        if not found.full:
            counts = (found.rows >= 0).sum(axis=1).tolist()
            rows = rows[rows >= 0]
        ids = view.snapshot.ids(rows) if len(rows) else self._no_ids()
        batch = None if include is None else self._batch(view, rows, include)
        scores = found.keys if metric is Metric.L2 else -found.keys
        hits = []
        start = 0
        for line, count in enumerate(counts):
            part = None if batch is None else batch.slice(start, count)
            hits.append(Hits(ids[start : start + count], scores[line, :count], part))
            start += count
        return hits

    def _no_ids(self) -> Ids:
        return [] if self.spec.id_type == "string" else np.empty(0, np.int64)

    def _pages(
        self,
        include: Sequence[str] | None,
        condition: Filter | None,
        batch_rows: int,
        generation: str,
        start: int,
        stop: int,
        upto: int,
    ) -> Iterator[Page]:
        replaced: tuple[Snapshot, Successors] | None = None
        while start < stop:
            view = self._shard.view()
            if view.generation != generation:
                raise CursorExpiredError(
                    f"{self.spec.name!r} was compacted since the scan began: start again"
                )
            snapshot = view.snapshot
            allowed = snapshot.live
            if condition is not None:
                allowed = self._shard.selections.get(condition, snapshot).allowed
            if snapshot.dead and (replaced is None or replaced[0] is not snapshot):
                replaced = (snapshot, Successors(snapshot))
            parts: list[Rows] = []
            wanted = batch_rows
            while start < stop and wanted:
                high = min(start + wanted, stop)
                parts.append(_standing(snapshot.live, allowed, replaced, start, high, upto))
                wanted -= len(parts[-1])
                start = high
            rows = np.concatenate(parts)
            if len(rows):
                yield Page(self._read(view, rows, include), self._cursor(generation, start, stop, upto))

    def _cursor(self, generation: str, start: int, stop: int, upto: int) -> str:
        state = json.dumps([self._token, self.namespace, generation, start, stop, upto])
        return base64.urlsafe_b64encode(state.encode()).decode()

    def _read_cursor(self, cursor: str, view: View) -> tuple[str, int, int, int]:
        try:
            token, namespace, generation, start, stop, upto = json.loads(base64.urlsafe_b64decode(cursor))
        except (ValueError, TypeError) as exc:
            raise ConfigError(f"cursor {cursor!r} is none of this collection's") from exc
        if namespace != self.namespace:
            raise ConfigError(f"the cursor belongs to namespace {namespace!r}, not {self.namespace!r}")
        if token != self._token or generation != view.generation:
            raise CursorExpiredError(
                f"{self.spec.name!r} was replaced or compacted since: scan from the start"
            )
        return generation, start, stop, upto


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
