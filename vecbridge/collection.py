"""A collection as people use it: one class for every backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records
from vecbridge.driver import (
    Columns,
    Compacts,
    Deadline,
    PageRequest,
    Repairs,
    SearchRequest,
    Splits,
    StoreDriver,
)
from vecbridge.errors import NotFoundError
from vecbridge.filters import AnyFilter
from vecbridge.front.arguments import columns_of, empty_batch, require_count, require_query, require_seconds
from vecbridge.front.connection import unpickled
from vecbridge.front.cursors import filter_digest
from vecbridge.front.handle import Attached
from vecbridge.front.queries import empty_ids, no_scores, selected, within, without
from vecbridge.front.ranking import ranked
from vecbridge.front.scanning import PAGE_ROWS, OnUnfit
from vecbridge.front.telemetry import hits_returned, operation
from vecbridge.front.writing import WritingHandle
from vecbridge.query import Hits, Include, Page, Query, Status
from vecbridge.schema import CollectionSpec

_QUERIES_A_CALL: Final = 1_000  # query vectors that one deadline is for


class Collection(WritingHandle):
    """One namespace of one collection: thread-safe; the identity of a row is (namespace, id).

    Made by :meth:`vecbridge.Store.create`, :meth:`vecbridge.Store.open` and :func:`vecbridge.open`. After
    ``close()``, of the collection or of its store, every call raises ConfigError; after the collection was
    dropped or replaced, NotFoundError. In a forked child it connects anew, or refuses what its backend cannot
    do there.

    Attributes:
        url: Where it is; its text never shows a password.
        spec: What it holds.
        namespace: Which namespace it is.

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=2, fields={"year": "int64"})
        >>> with vb.connect("memory://") as store:
        ...     photos = store.create(spec)
        ...     photos.upsert(vb.batch(spec, id=["a", "b"], vector=[[1, 0], [0, 1]], year=[2019, 2020]))
        ...     [hits] = photos.search(vb.Query([1, 0.1], k=1, filter=vb.field("year") < 2020))
        WriteReport(written=2, failed=0, retried=0, duplicates=0, skipped=0, failures=(), recalled=0)
        >>> hits.ids
        ['a']
    """

    # ------------------------------------------------------------------------------------------ reading

    @operation("search", hits_returned)
    def search(self, query: Query) -> list[Hits]:
        """The nearest rows, best first.

        Args:
            query: One query vector or many; see :class:`vecbridge.Query`.

        Returns:
            One Hits a query vector.

        Raises:
            SchemaError: A query that does not fit the collection.
            EmbedderMismatchError: The query vectors are another model's.
            UnsupportedError: A knob, an operator or a k that the backend does not take.
        """
        here = self._enter_for_reading()
        require_query(query)
        if query.id is not None:
            return [self._neighbours(here, query, query.id)]
        return self._nearest(here, query)

    def scan(
        self,
        *,
        include: Include = "all",
        filter: AnyFilter | None = None,
        batch_rows: int = PAGE_ROWS,
        cursor: str | None = None,
        limit: int | None = None,
        unfit: OnUnfit | None = None,
    ) -> Iterator[Page]:
        """Every record once, in pages; one inserted or deleted meanwhile comes at most once.

        Args:
            include: Columns beside the id: "all", or names; ``()`` is ids only.
            filter: Only rows that match.
            batch_rows: Rows a page, at most.
            cursor: Where to go on, from ``Page.cursor`` or :meth:`split`; works in another process.
            limit: Rows in all, at most; the last cursor goes on behind them.
            unfit: Is called for each row that a batch of the included columns cannot hold, such as one that
                another program wrote without a vector, with its id and a :class:`vecbridge.Unfit`, before
                the page is yielded that would hold it.

        Yields:
            Pages that have rows; where ``unfit`` took all of them, one without any, for its cursor.

        Raises:
            InvalidRecordError: Rows that a batch cannot hold, and no ``unfit`` to take them.
            ConfigError: A cursor of another collection, namespace or filter, or none at all.
            CursorExpiredError: The collection was compacted or replaced since.
        """
        here = self._enter_for_reading()
        columns = columns_of(here.spec, include)
        condition = here.resolver.filter(filter)
        require_count("batch_rows", batch_rows)
        if limit is not None:
            batch_rows = min(batch_rows, require_count("limit", limit))
        matching = None if isinstance(condition, bool) else condition
        digest = "nothing" if condition is False else filter_digest(matching)
        after = None if cursor is None else self._cursors.read(cursor, digest)
        if condition is False:
            return iter(())
        request = PageRequest(columns, matching, batch_rows, self._connection.timeout, after, limit)
        return self._scan(here, request, digest, resumed=cursor is not None, unfit=unfit)

    # -------------------------------------------------------------------------------------- maintenance

    @operation("status")
    def status(self) -> Status:
        """Rows, and whether the index answers."""
        driver = self._enter_for_reading().driver
        return self._call("status", driver.status, self._deadline())

    @operation("flush")
    def flush(self, timeout: float = 60.0) -> None:
        """Returns when acknowledged writes are visible to every client.

        Raises:
            DeadlineError: Not within ``timeout`` seconds.
        """
        driver = self._enter_for_reading().driver
        self._call("flush", driver.flush, Deadline.after(require_seconds(timeout)))

    @operation("wait_ready")
    def wait_ready(self, timeout: float = 600.0) -> None:
        """Returns when no index work is pending; starts what is.

        Raises:
            DeadlineError: Not within ``timeout`` seconds; the next call goes on from there.
        """
        driver = self._enter_for_reading().driver
        self._call("wait_ready", driver.build, Deadline.after(require_seconds(timeout)))

    @operation("split")
    def split(self, parts: int) -> list[str]:
        """Start cursors of at most ``parts`` disjoint parts; each scan ends where the next part starts.

        Raises:
            UnsupportedError: ``capabilities.splits`` is False.
        """
        driver = self._enter_for_reading().driver
        require_count("parts", parts)
        self._require_verb("splits", "splitting a scan")
        keys = self._call("split", cast("Splits", driver).split, parts, self._deadline())
        return [self._cursors.write(key, None) for key in keys]

    @operation("compact")
    def compact(self, timeout: float = 600.0) -> None:
        """Gives back the place of deleted rows; expires cursors.

        Raises:
            UnsupportedError: ``capabilities.compacts`` is False.
            DeadlineError: Not within ``timeout`` seconds; everything is as it was.
        """
        driver = self._enter_for_writing().driver
        self._require_verb("compacts", "compaction")
        self._call("compact", cast("Compacts", driver).compact, Deadline.after(require_seconds(timeout)))

    @operation("repair")
    def repair(self, timeout: float = 600.0) -> int:
        """Looks for every row by its own vector, and writes again those that the index has lost.

        Returns:
            How many rows were written again.

        Raises:
            UnsupportedError: ``capabilities.repairs`` is False.
            DeadlineError: Not within ``timeout`` seconds; the next call goes on from there.
        """
        driver = self._enter_for_writing().driver
        self._require_verb("repairs", "repair")
        deadline = Deadline.after(require_seconds(timeout))
        return self._call("repair", cast("Repairs", driver).repair, deadline)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (*self._connection.pickled(), self._attached.described.name, self.namespace)

    def _nearest(self, here: Attached, query: Query) -> list[Hits]:
        """The hits of the query's vectors."""
        field, columns = here.resolver.target(query)
        condition = True if query.filter is None else here.resolver.filter(query.filter)
        if condition is False or not len(query.vectors):
            return [_no_hits(here.spec, columns) for _ in query.vectors]
        vectors = here.resolver.vectors(query, field)
        matching = None if condition is True else condition
        hits: list[Hits] = []
        for start in range(0, len(vectors), _QUERIES_A_CALL):
            request = SearchRequest(
                field, vectors[start : start + _QUERIES_A_CALL], query.k, matching, columns, query.ef,
                query.nprobe, self._deadline(),
            )  # fmt: skip
            hits += self._search(here, request)
        if columns is not None and (json_columns := here.resolver.json_columns(columns)):
            hits = [replace(each, json_columns=json_columns) for each in hits]
        threshold = query.max_distance if query.min_score is None else query.min_score
        return hits if threshold is None else [within(each, threshold, field.metric) for each in hits]

    def _neighbours(self, here: Attached, query: Query, key: str | int) -> Hits:
        """The hits of a stored record, which is not among them."""
        field = here.spec.vector_field(query.using)
        stored = self._look_up(here, records.id_array(here.spec, [key]), (field.name,))
        if not stored.num_rows:
            raise NotFoundError(f"{here.spec.name!r} has no record {key!r} to search by")
        most = self.capabilities.max_top_k
        k = query.k + 1 if most is None else max(min(query.k + 1, most), query.k)
        asked = replace(query, vectors=records.vectors(stored, field.name), id=None, k=k)
        [hits] = self._nearest(here, asked)
        return without(hits, key, query.k)

    def _search(self, here: Attached, request: SearchRequest) -> list[Hits]:
        """One call of the driver, and what it leaves to be done here."""
        result = self._call("search", here.driver.search, request)
        columns = request.columns
        if not result.unsure and (columns is None or all(each.records is not None for each in result.hits)):
            return list(result.hits)
        hits = list(result.hits)
        if result.unsure:
            self._compare_all(here, request, hits, result.unsure)
        return hits if columns is None else self._with_records(here, hits, columns)

    def _compare_all(
        self, here: Attached, request: SearchRequest, hits: list[Hits], unsure: Sequence[int]
    ) -> None:
        """Replaces the hits of some queries by what comparing every match gives."""
        name = request.field.name
        pages = self._pages(here.driver, (name,), request.filter, "search", skip_unfit=True)
        queries = selected(request.vectors, unsure)
        best = ranked(pages, name, queries, request.field.metric, request.k)
        for position, line in zip(unsure, best, strict=True):
            hits[position] = line if len(line) else _no_hits(here.spec, None)

    def _with_records(self, here: Attached, hits: list[Hits], columns: Columns) -> list[Hits]:
        """The hits with their records; one whose row went meanwhile is left out."""
        bare = [line for line in hits if line.records is None]
        ids = records.id_array(here.spec, (key for line in bare for key in line.ids))
        batch = self._look_up(here, ids, columns)
        return [line if line.records is not None else _joined(here.spec, line, batch) for line in hits]


def _no_hits(spec: CollectionSpec, columns: Columns | None) -> Hits:
    batch = None if columns is None else empty_batch(spec, columns)
    return Hits(empty_ids(spec), no_scores(), batch)


def _joined(spec: CollectionSpec, hits: Hits, batch: pa.RecordBatch) -> Hits:
    """Hits with their records from a batch that has the rows of several."""
    ids = pa.array(list(hits.ids), pa.string() if spec.id_type == "string" else pa.int64())
    places = pc.index_in(ids, value_set=batch.column("id"))
    there = records.booleans(places.is_valid())
    rows = batch.take(places.drop_null())
    return Hits(records.python_ids(rows.column("id")), hits.scores[there], rows)


def _reopened(
    driver_class: type[StoreDriver], url: str, options: dict[str, Any], name: str, namespace: str
) -> Collection:
    """A collection that was pickled, in another process; it owns its connection there."""
    connection = unpickled(driver_class, url, options)
    described = connection.describe(name)
    if described is None:
        raise NotFoundError(f"no collection {name!r} in {url}")
    return Collection(connection, described, namespace)._own_store()
