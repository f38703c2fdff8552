"""The Collection protocol over one namespace of one Milvus collection."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pymilvus.grpc_gen import milvus_pb2

from vecbridge import protocols_sending as sending
from vecbridge import records
from vecbridge.capabilities import Capabilities, Gap, ResolvedQuery
from vecbridge.errors import (
    ConfigError,
    CursorExpiredError,
    UnsupportedError,
)
from vecbridge.filters import Filter
from vecbridge.indexes import IVFPQ, IVFSQ8, Flat, IndexParams, IVFFlat
from vecbridge.protocols import check_delete, check_whole
from vecbridge.protocols_sending import Outcome
from vecbridge.query import FloatArray, Hits, Page, Query, Status, WriteReport
from vecbridge.schema import CollectionSpec
from vecbridge.stores.milvus import errors, expressions, index_params, readiness, wire
from vecbridge.stores.milvus.layout import Keys
from vecbridge.stores.milvus.ranking import Ranking
from vecbridge.stores.milvus.table import Table
from vecbridge.urls import StoreURL

_ROW_BYTES: Final = 65_536  # of the dynamic field
_EXACT_ROWS: Final = 2_000  # matches that are read back and compared, where no index answers for a filter
_IDS_A_QUERY: Final = 1_000
_ANSWER_HITS: Final = 200_000
_PARALLEL: Final = 2  # requests in flight of one upsert

_Found = list[tuple[list[Any], FloatArray]]


class MilvusCollection:
    """One namespace of a collection; see :class:`vecbridge.store.Collection`.

    Attributes:
        losses: What of a collection that vecbridge did not make cannot be shown.
    """

    def __init__(self, url: StoreURL, namespace: str, capabilities: Capabilities, table: Table) -> None:
        self.url = url
        self.spec: CollectionSpec = table.spec
        self.namespace = namespace
        self.capabilities = capabilities
        self.losses: Sequence[Gap] = table.losses
        self._table = table
        self._layout = table.layout
        self._keys = Keys(table.layout, namespace)

    def upsert(self, batch: pa.RecordBatch) -> WriteReport:
        """Writes records in requests of 5,000 rows or 16 MB; see :class:`vecbridge.store.Collection`.

        Raises:
            UnsupportedError: A collection that vecbridge did not make and cannot write to.
            InvalidRecordError: Also a row whose scalars take more than 65,536 bytes of JSON.
        """
        batch = records.check(batch, self.spec)
        if self._layout.read_only:
            raise UnsupportedError("milvus", f"writing to {self.spec.name!r}", self._layout.read_only)
        if self._layout.extra is not None and self._table.dialect.merges_upserts:
            hint = "keys of a row's dynamic field that are not written again would stay"
            raise UnsupportedError(self.capabilities.backend, f"writing to {self.spec.name!r}", hint)
        dynamic: list[bytes] = []
        if self._layout.has_dynamic:
            merges = self._table.dialect.merges_upserts
            dynamic = wire.dynamic_rows(self._layout, batch, with_nulls=merges)
        self._require_storable(batch, dynamic)
        if not batch.num_rows:
            return WriteReport()
        self._table.require_current()
        limits = self.capabilities
        parts = records.ranges(batch, max_rows=limits.request_rows, max_bytes=limits.request_bytes)
        at_once = _PARALLEL if limits.parallel_requests > 1 else 1
        send = partial(self._send, batch, dynamic)
        try:
            outcomes = sending.send(parts, send, at_once=at_once, unsent=errors.never_sent)
        finally:
            self._table.wrote()
        return sending.report(batch.column("id"), outcomes)

    def search(self, query: Query) -> list[Hits]:
        """The nearest rows; see :class:`vecbridge.store.Collection`.

        A filtered answer that comes back short is asked again with the widest knob, then compared row by
        row; so is one that no sealed index answers for, where the filter keeps few rows.
        """
        resolved = self.capabilities.resolve(query, self.spec)
        expression = expressions.scoped(self._layout, self._keys, resolved.filter)
        fields = [] if resolved.include is None else self._fields(resolved.include)
        at_once = max(1, _ANSWER_HITS // resolved.k)
        hits: list[Hits] = []
        for start in range(0, len(resolved.vectors), at_once):
            hits += self._search(resolved, resolved.vectors[start : start + at_once], expression, fields)
        return hits

    def fetch(self, ids: Iterable[str | int], *, include: Sequence[str] | None = None) -> pa.RecordBatch:
        """Records by id; see :class:`vecbridge.store.Collection`."""
        wanted = records.id_array(self.spec, ids)
        schema = records.arrow_schema(self.spec, include)
        fields = self._fields(include)
        rows = min(_IDS_A_QUERY, self._table.page_rows(fields))
        parts = []
        for start in range(0, len(wanted), rows):
            keys = self._keys.encode(wanted.slice(start, rows))
            expression = expressions.of_keys(self._layout, keys)
            answer = self._table.query(expression, fields, rows=len(keys))
            found = answer.batch(self.spec, self._keys, include)
            place = {key: row for row, key in enumerate(answer.keys())}
            order = [place[key] for key in keys if key in place]
            parts.append(found.take(pa.array(order, pa.int64())))
        return pa.concat_batches(parts) if parts else pa.RecordBatch.from_pylist([], schema=schema)

    def delete(self, ids: Iterable[str | int] | None = None, *, filter: Filter | None = None) -> int:
        """Removes rows; those that a filter matches are looked up first, so that they can be counted."""
        check_delete(ids, filter)
        if ids is not None:
            pages = self._existing(records.id_array(self.spec, ids))
        else:
            assert filter is not None
            pages = self._matching(self.capabilities.resolve_filter(filter, self.spec))
        self._table.require_current()
        removed = 0
        for keys in pages:
            self._table.delete(keys)
            removed += len(keys)
        return removed

    def scan(
        self,
        *,
        include: Sequence[str] | None = None,
        filter: Filter | None = None,
        batch_rows: int = 10_000,
        cursor: str | None = None,
    ) -> Iterator[Page]:
        """Records in the order of their primary keys; see :class:`vecbridge.store.Collection`."""
        records.arrow_schema(self.spec, include)
        condition = None if filter is None else self.capabilities.resolve_filter(filter, self.spec)
        check_whole("batch_rows", batch_rows)
        after = None if cursor is None else self._read_cursor(cursor)
        return self._pages(include, condition, batch_rows, after)

    def count(self, filter: Filter | None = None) -> int:
        """How many rows there are, or match."""
        condition = None if filter is None else self.capabilities.resolve_filter(filter, self.spec)
        return self._table.count(expressions.scoped(self._layout, self._keys, condition))

    def status(self) -> Status:
        """Rows of the namespace, and how far the collection's indexes cover its rows."""
        rows = self.count()
        if not self._table.dialect.seals:
            waits = self._table.unbuilt and rows
            return Status(rows, {
                each.name: "building" if waits and not isinstance(each.index, Flat) else "ready"
                for each in self.spec.vectors
            })  # fmt: skip
        found = self._table.coverage()
        details = {"growing_rows": found.growing, "unindexed_rows": found.unindexed + found.small}
        return Status(rows, readiness.states(self.spec, found), details)

    def flush(self, timeout: float = 60.0) -> None:
        """Waits until acknowledged writes are visible; sealing segments is for :meth:`wait_ready`."""
        self._table.flush(timeout)

    def wait_ready(self, timeout: float = 600.0) -> None:
        """Seals what was written and waits until searches are answered by the index."""
        table = self._table
        if all(isinstance(each.index, Flat) for each in self.spec.vectors):
            return  # every row is compared, wherever it is
        if table.dialect.seals:
            deadline = time.monotonic() + timeout
            table.load()
            table.flush(timeout)
            table.wait_sealed(max(deadline - time.monotonic(), 0.1))
        elif table.unbuilt is not False:
            table.rebuild(timeout)

    def close(self) -> None:
        """Releases nothing: the connection is the store's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fields(self, include: Sequence[str] | None) -> list[str]:
        return wire.output_fields(self._layout, self.spec, include)

    def _require_storable(self, batch: pa.RecordBatch, dynamic: Sequence[bytes]) -> None:
        """Refuses rows that the server would cut, hide, or refuse together with their neighbours."""
        problems = {
            row: f"its fields take {len(text):,} bytes as JSON, and Milvus keeps {_ROW_BYTES:,}"
            for row, text in enumerate(dynamic)
            if len(text) > _ROW_BYTES
        }
        if self.spec.id_type == "int64" and not self.spec.namespaced:
            largest = self._table.dialect.largest_id
            for row in np.flatnonzero(records.numbers(batch.column("id")) > largest).tolist():
                problems[row] = f"Milvus never gives back an id above {largest}"
        for field in self.spec.fields:
            if field.type in ("string", "json") and self.capabilities.text_bytes is not None:
                sizes = pc.fill_null(pc.binary_length(batch.column(field.name)), 0)
                for row in np.flatnonzero(records.numbers(sizes) > self.capabilities.text_bytes).tolist():
                    problems[row] = (
                        f"{field.name!r} is longer than {self.capabilities.text_bytes:,} bytes of UTF-8"
                    )
        if problems:
            raise records.invalid(problems, batch.column("id"))

    def _send(self, batch: pa.RecordBatch, dynamic: Sequence[bytes], rows: range) -> Sequence[Outcome]:
        part = batch.slice(rows.start, len(rows))
        fields = wire.upsert_fields(
            self.spec, self._layout, self._keys, part, dynamic[rows.start : rows.stop]
        )
        request = milvus_pb2.UpsertRequest(
            collection_name=self._table.name, fields_data=fields, num_rows=len(rows)
        )
        self._table.call("Upsert", request)
        return ()

    def _search(
        self, query: ResolvedQuery, vectors: FloatArray, expression: str, fields: Sequence[str]
    ) -> list[Hits]:
        table, k = self._table, query.k
        filtered = query.filter is not None
        params = index_params.search_params(query.field.index, k, query.ef, query.nprobe, filtered=filtered)
        matches: int | None = None
        if filtered and self._loses_matches(query.field.index):
            matches = table.count(expression, level=table.search_level)
            if matches <= _EXACT_ROWS:
                return self._compared(query, vectors, expression, fields)
        found, answer = self._ask(query, vectors, expression, fields, params)
        if min((len(keys) for keys, _ in found), default=k) < k:
            if matches is None:
                matches = table.count(expression, level=table.search_level)
            wanted = min(k, matches)
            if _short(found, wanted) and (wider := index_params.widest(query.field.index, k)):
                found, answer = self._ask(query, vectors, expression, fields, wider)
            if _short(found, wanted):
                return self._compared(query, vectors, expression, fields)
        return self._hits(query, found, answer)

    def _loses_matches(self, index: IndexParams) -> bool:
        """Whether an index may miss what a filter keeps, without its answer being short."""
        if isinstance(index, Flat):
            return False
        lists = isinstance(index, IVFFlat | IVFSQ8 | IVFPQ)  # chosen without regard to the filter
        table = self._table
        return lists or table.dialect.filters_after_index or not table.sealed()

    def _ask(
        self, query: ResolvedQuery, vectors: FloatArray, expression: str, fields: Sequence[str],
        params: dict[str, Any],
    ) -> tuple[_Found, wire.Answer]:  # fmt: skip
        """One search as the server answers it."""
        metric = index_params.METRICS[query.field.metric]
        request = wire.search_request(
            self._table.name, query.field.name, vectors, query.k, params, expression, fields,
            metric=metric, level=self._table.search_level,
        )  # fmt: skip
        results = self._table.read("Search", request).results
        keys = wire.key_list(results.ids)
        scores = np.array(results.scores, np.float32)
        found, start = [], 0
        for count in results.topks or [0] * len(vectors):
            found.append((keys[start : start + count], scores[start : start + count]))
            start += count
        return found, wire.Answer(results.fields_data, self._layout)

    def _compared(
        self, query: ResolvedQuery, vectors: FloatArray, expression: str, fields: Sequence[str]
    ) -> list[Hits]:
        """Every match read back and compared."""
        field = query.field
        ranking = Ranking(vectors, field.metric, query.k)
        wanted = [self._layout.pk, field.name]
        for keys, answer in self._table.pages(
            lambda *more: expressions.scoped(self._layout, self._keys, query.filter, *more), wanted,
            level=self._table.search_level,
        ):  # fmt: skip
            ranking.show(keys, answer.vectors(field.name, field.dim))
        found = ranking.best()
        if query.include is None:
            return self._hits(query, found, wire.Answer((), self._layout))
        hits = []
        for keys, scores in found:
            ids = self._keys.decode(keys)
            batch = self.fetch(ids, include=query.include)
            kept = set(batch.column("id").to_pylist())  # a row may go between the two reads
            there = [each in kept for each in ids.to_pylist()]
            hits.append(Hits(records.python_ids(batch.column("id")), scores[there], batch))
        return hits

    def _hits(self, query: ResolvedQuery, found: _Found, answer: wire.Answer) -> list[Hits]:
        if query.include is None:
            return [Hits(self._keys.python_ids(keys), scores) for keys, scores in found]
        ids = self._keys.decode([key for keys, _ in found for key in keys])
        rows = answer.batch(self.spec, self._keys, query.include, ids)
        hits, start = [], 0
        for keys, scores in found:
            hits.append(Hits(self._keys.python_ids(keys), scores, rows.slice(start, len(keys))))
            start += len(keys)
        return hits

    def _existing(self, ids: pa.Array) -> Iterator[list[Any]]:
        for start in range(0, len(ids), _IDS_A_QUERY):
            keys = self._keys.encode(ids.slice(start, _IDS_A_QUERY))
            expression = expressions.of_keys(self._layout, keys)
            found = self._table.query(expression, [self._layout.pk], rows=len(keys)).keys()
            if found:
                yield list(found)

    def _matching(self, condition: Filter | None) -> Iterator[list[Any]]:
        pages = self._table.pages(
            lambda *more: expressions.scoped(self._layout, self._keys, condition, *more), [self._layout.pk]
        )
        return (keys for keys, _ in pages)

    def _pages(
        self, include: Sequence[str] | None, condition: Filter | None, rows: int, after: str | int | None
    ) -> Iterator[Page]:
        pages = self._table.pages(
            lambda *more: expressions.scoped(self._layout, self._keys, condition, *more),
            self._fields(include), rows=rows, after=after,
        )  # fmt: skip
        for keys, answer in pages:
            yield Page(answer.batch(self.spec, self._keys, include), self._cursor(keys[-1]))

    def _cursor(self, key: str | int) -> str:
        state = json.dumps([self._table.token, self.namespace, key])
        return base64.urlsafe_b64encode(state.encode()).decode()

    def _read_cursor(self, cursor: str) -> str | int:
        try:
            token, namespace, key = json.loads(base64.urlsafe_b64decode(cursor))
        except (ValueError, TypeError) as exc:
            raise ConfigError(f"cursor {cursor!r} is none of this collection's") from exc
        if namespace != self.namespace:
            raise ConfigError(f"the cursor belongs to namespace {namespace!r}, not {self.namespace!r}")
        if token != self._table.token:
            raise CursorExpiredError(f"{self.spec.name!r} was replaced since: scan from the start")
        return key if isinstance(key, int) else str(key)


def _short(found: _Found, wanted: int) -> bool:
    return any(len(keys) < wanted for keys, _ in found)
