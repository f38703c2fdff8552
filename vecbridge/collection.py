"""A collection as people use it: one class for every backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar, cast

import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records
from vecbridge.driver import (
    CollectionDriver,
    Columns,
    Compacts,
    CountsWhere,
    Deadline,
    DeletesWhere,
    PageRequest,
    Repairs,
    RequestLimits,
    SearchRequest,
    Splits,
    StoreDriver,
)
from vecbridge.errors import NotFoundError, UnsupportedError
from vecbridge.filters import AnyFilter, Filter
from vecbridge.front.arguments import (
    columns_of,
    empty_batch,
    require_batch,
    require_count,
    require_one_of,
    require_query,
    require_seconds,
)
from vecbridge.front.connection import unpickled
from vecbridge.front.cursors import filter_digest
from vecbridge.front.queries import empty_ids, no_scores, selected
from vecbridge.front.ranking import ranked
from vecbridge.front.scanning import PAGE_ROWS, ScannedHandle
from vecbridge.front.sending import Sender, report
from vecbridge.query import Hits, Include, Page, Query, Status, WriteReport
from vecbridge.schema import CollectionSpec

Result = TypeVar("Result")

_QUERIES_A_CALL: Final = 1_000  # query vectors that one deadline is for
_IDS_A_CALL: Final = 10_000  # ids that one deadline is for, where a backend does not write a batch whole


class Collection(ScannedHandle):
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
        WriteReport(written=2, failed=0, retried=0, duplicates=0, failures=())
        >>> hits.ids
        ['a']
    """

    # ------------------------------------------------------------------------------------------ writing

    def upsert(self, batch: pa.RecordBatch | records.Checked) -> WriteReport:
        """Writes whole records of any number, replacing those of the same id.

        Args:
            batch: As :func:`vecbridge.batch` builds it; a declared column left out is null. A batch that was
                checked already, as a bulk write hands it on, is not checked twice.

        Returns:
            When every row was acknowledged: what survives kill -9 of client and server.

        Raises:
            InvalidRecordError: Rows that cannot be stored; nothing was sent.
            PartialWriteError: Some rows were acknowledged and some were not, or may not have been.
            UnsupportedError: A collection that vecbridge did not make and cannot write to.
            StoreLockedError: Another process writes to the collection, or this is a forked child of the one
                that opened it.
            BackendError: No row was stored.
        """
        driver = self._enter_for_writing()
        require_batch(batch, (pa.RecordBatch, records.Checked))
        if self._described.read_only:
            raise UnsupportedError(
                self.capabilities.backend, f"writing to {self.spec.name!r}", self._described.read_only
            )
        rows = records.checked(batch, self.spec).batch
        if not rows.num_rows:
            return WriteReport()
        capabilities = self.capabilities
        capabilities.refuse(rows, self.spec)
        limits = RequestLimits(capabilities.request_rows, capabilities.request_bytes)
        parts = self._call("upsert", driver.prepare, rows, limits)
        self._require_current(driver, capabilities.trust_writes, writing=True)
        sender = Sender(
            driver, rows, limits, self._connection.slots, timeout=self._connection.timeout,
            atomic=capabilities.atomic_batch, mapped=self._mapped,
        )  # fmt: skip
        return report(rows.column("id"), sender.send(parts))

    def delete(self, ids: Iterable[str | int] | None = None, *, filter: AnyFilter | None = None) -> int | None:
        """Removes rows by ids or by filter; exactly one of the two.

        Args:
            ids: Ids of the collection's type; absent ones and repeats do not matter.
            filter: The rows that match it. Where the backend deletes by id alone, the matches are read first:
                rows that come to match meanwhile may stay.

        Returns:
            How many there were; None where ``capabilities.counts_deletes`` is False.

        Raises:
            ConfigError: Both were given, or neither.
            SchemaError: Ids of another type, or a filter that does not fit.
        """
        driver = self._enter_for_writing()
        require_one_of(ids, filter)
        capabilities = self.capabilities
        if ids is not None:
            wanted = records.id_array(self.spec, ids)
            if not len(wanted):
                return 0
            self._require_current(driver, capabilities.trust_writes)
            return self._delete_ids(driver, wanted)
        condition = self._resolver.filter(filter)
        if condition is False:
            return 0
        self._require_current(driver, capabilities.trust_writes)
        matching = None if condition is True else condition
        if capabilities.deletes_where:
            verb = cast("DeletesWhere", driver).delete_where
            return self._call("delete", verb, matching, self._connection.timeout)
        return _added([
            self._delete_ids(driver, batch.column("id")) for batch in self._pages(driver, (), matching)
        ])  # fmt: skip

    # ------------------------------------------------------------------------------------------ reading

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
        driver = self._enter_for_reading()
        require_query(query)
        field, columns = self._resolver.target(query)
        condition = True if query.filter is None else self._resolver.filter(query.filter)
        if condition is False or not len(query.vectors):
            return [self._no_hits(columns) for _ in query.vectors]
        vectors = self._resolver.vectors(query, field)
        matching = None if condition is True else condition
        hits: list[Hits] = []
        for start in range(0, len(vectors), _QUERIES_A_CALL):
            request = SearchRequest(
                field, vectors[start : start + _QUERIES_A_CALL], query.k, matching, columns, query.ef,
                query.nprobe, self._deadline(),
            )  # fmt: skip
            hits += self._search(driver, request)
        return hits

    def fetch(self, ids: Iterable[str | int], *, include: Include = "all") -> pa.RecordBatch:
        """Records by id, in the order asked; missing ones are left out, repeats collapsed.

        Args:
            ids: Ids of the collection's type.
            include: Columns beside the id: "all", or names; ``()`` is ids only.

        Raises:
            SchemaError: Ids of another type, or an unknown column.
        """
        driver = self._enter_for_reading()
        wanted = records.id_array(self.spec, ids)
        columns = columns_of(self.spec, include)
        return self._look_up(driver, wanted, columns)

    def scan(
        self,
        *,
        include: Include = "all",
        filter: AnyFilter | None = None,
        batch_rows: int = PAGE_ROWS,
        cursor: str | None = None,
    ) -> Iterator[Page]:
        """Every record once, in pages; one inserted or deleted meanwhile comes at most once.

        Args:
            include: Columns beside the id: "all", or names; ``()`` is ids only.
            filter: Only rows that match.
            batch_rows: Rows a page, at most.
            cursor: Where to go on, from ``Page.cursor`` or :meth:`split`; works in another process.

        Yields:
            Pages that have rows.

        Raises:
            ConfigError: A cursor of another collection, namespace or filter, or none at all.
            CursorExpiredError: The collection was compacted or replaced since.
        """
        self._enter_for_reading()
        columns = columns_of(self.spec, include)
        condition = self._resolver.filter(filter)
        require_count("batch_rows", batch_rows)
        matching = None if isinstance(condition, bool) else condition
        digest = "nothing" if condition is False else filter_digest(matching)
        after = None if cursor is None else self._cursors.read(cursor, digest)
        if condition is False:
            return iter(())
        request = PageRequest(columns, matching, batch_rows, self._connection.timeout, after)
        return self._scan(request, digest, resumed=cursor is not None)

    def count(self, filter: AnyFilter | None = None) -> int:
        """How many rows there are, or match; exact."""
        driver = self._enter_for_reading()
        matching = self._resolver.filter(filter)
        if matching is False:
            return 0
        if matching is True:
            return self._call("count", driver.count, self._deadline())
        if self.capabilities.counts_where:
            return self._call("count", cast("CountsWhere", driver).count_where, matching, self._deadline())
        return sum(batch.num_rows for batch in self._pages(driver, (), matching))

    # -------------------------------------------------------------------------------------- maintenance

    def status(self) -> Status:
        """Rows, and whether the index answers."""
        driver = self._enter_for_reading()
        return self._call("status", driver.status, self._deadline())

    def flush(self, timeout: float = 60.0) -> None:
        """Returns when acknowledged writes are visible to every client.

        Raises:
            DeadlineError: Not within ``timeout`` seconds.
        """
        driver = self._enter_for_reading()
        self._call("flush", driver.flush, Deadline.after(require_seconds(timeout)))

    def wait_ready(self, timeout: float = 600.0) -> None:
        """Returns when no index work is pending; starts what is.

        Raises:
            DeadlineError: Not within ``timeout`` seconds; the next call goes on from there.
        """
        driver = self._enter_for_reading()
        self._call("wait_ready", driver.build, Deadline.after(require_seconds(timeout)))

    def split(self, parts: int) -> list[str]:
        """Start cursors of at most ``parts`` disjoint parts; each scan ends where the next part starts.

        Raises:
            UnsupportedError: ``capabilities.splits`` is False.
        """
        driver = self._enter_for_reading()
        require_count("parts", parts)
        self._require_verb("splits", "splitting a scan")
        keys = self._call("split", cast("Splits", driver).split, parts, self._deadline())
        return [self._cursors.write(key, None) for key in keys]

    def compact(self, timeout: float = 600.0) -> None:
        """Gives back the place of deleted rows; expires cursors.

        Raises:
            UnsupportedError: ``capabilities.compacts`` is False.
            DeadlineError: Not within ``timeout`` seconds; everything is as it was.
        """
        driver = self._enter_for_writing()
        self._require_verb("compacts", "compaction")
        self._call("compact", cast("Compacts", driver).compact, Deadline.after(require_seconds(timeout)))

    def repair(self, timeout: float = 600.0) -> int:
        """Looks for every row by its own vector, and writes again those that the index has lost.

        Returns:
            How many rows were written again.

        Raises:
            UnsupportedError: ``capabilities.repairs`` is False.
            DeadlineError: Not within ``timeout`` seconds; the next call goes on from there.
        """
        driver = self._enter_for_writing()
        self._require_verb("repairs", "repair")
        deadline = Deadline.after(require_seconds(timeout))
        return self._call("repair", cast("Repairs", driver).repair, deadline)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (*self._connection.pickled(), self._described.name, self.namespace)

    def _delete_ids(self, driver: CollectionDriver, ids: pa.Array) -> int | None:
        step = len(ids) if self.capabilities.atomic_batch else _IDS_A_CALL
        counts = [
            self._call("delete", driver.delete_keys, ids.slice(start, step), self._deadline())
            for start in range(0, len(ids), step)
        ]
        return _added(counts)

    def _look_up(self, driver: CollectionDriver, ids: pa.Array, columns: Columns) -> pa.RecordBatch:
        """Records of distinct ids, in their order."""
        parts = [
            self._call("fetch", driver.lookup, ids.slice(start, _IDS_A_CALL), columns, self._deadline())
            for start in range(0, len(ids), _IDS_A_CALL)
        ]
        if not parts:
            return empty_batch(self.spec, columns)
        batch = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
        if batch.column("id").equals(ids):
            return batch
        places = pc.index_in(ids, value_set=batch.column("id"))
        return batch.take(places.drop_null())

    def _no_hits(self, columns: Columns | None) -> Hits:
        batch = None if columns is None else empty_batch(self.spec, columns)
        return Hits(empty_ids(self.spec), no_scores(), batch)

    def _search(self, driver: CollectionDriver, request: SearchRequest) -> list[Hits]:
        """One call of the driver, and what it leaves to be done here."""
        result = self._call("search", driver.search, request)
        columns = request.columns
        if not result.unsure and (columns is None or all(each.records is not None for each in result.hits)):
            return list(result.hits)
        hits = list(result.hits)
        if result.unsure:
            self._compare_all(driver, request, hits, result.unsure)
        return hits if columns is None else self._with_records(driver, hits, columns)

    def _compare_all(
        self, driver: CollectionDriver, request: SearchRequest, hits: list[Hits], unsure: Sequence[int]
    ) -> None:
        """Replaces the hits of some queries by what comparing every match gives."""
        name = request.field.name
        pages = self._pages(driver, (name,), request.filter, "search")
        queries = selected(request.vectors, unsure)
        best = ranked(pages, name, queries, request.field.metric, request.k)
        for position, line in zip(unsure, best, strict=True):
            hits[position] = line if len(line) else self._no_hits(None)

    def _with_records(self, driver: CollectionDriver, hits: list[Hits], columns: Columns) -> list[Hits]:
        """The hits with their records; one whose row went meanwhile is left out."""
        bare = [line for line in hits if line.records is None]
        ids = records.id_array(self.spec, (key for line in bare for key in line.ids))
        batch = self._look_up(driver, ids, columns)
        return [line if line.records is not None else _joined(self.spec, line, batch) for line in hits]


def _added(counts: Sequence[int | None]) -> int | None:
    """The sum of counts; None where the database did not say one of them."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


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
