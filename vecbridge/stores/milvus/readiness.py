"""How the rows of a collection are searched, and waiting until the index answers for all of them.

On a server every row goes through three places. Only in the last one the index that was asked for answers:

    Upsert ──> growing segment ──Flush──> sealed segment ──index nodes──> sealed and indexed
               no index of ours:          no index: every row             the index answers
               an interim one, which      is compared; below 1,024
               misses matches of          rows it stays so
               selective filters

"Ready" is proven, not asked for, since no single answer tells it: ``DescribeIndex`` says "finished" while
rows are growing, and no list of segments has the growing ones. So the rows that are growing are the
difference of two counts (all rows, less those of sealed segments); what is sealed comes from the query
nodes, and what is being built from the index nodes. Ready is when nothing is growing, no sealed segment of
1,024 rows or more is without an index, and nothing is being built; a later write begins anew.

On milvus-lite rows wait in memory until a flush, and an index is built when the collection is loaded again:

    Upsert ──> in memory ──Flush──> file ──Release, Load──> file with its index
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from pymilvus.grpc_gen import common_pb2

from vecbridge.driver import Deadline
from vecbridge.errors import BackendError, RateLimitedError
from vecbridge.indexes import Auto, Flat, IndexParams
from vecbridge.query import Status
from vecbridge.schema import VectorField
from vecbridge.stores.milvus import index_params, stored
from vecbridge.stores.milvus.errors import NoIndexError
from vecbridge.stores.milvus.table import STRONG, Table

#: Rows below which a server builds no index for a sealed segment (rootCoord.minSegmentSizeToEnableIndex).
SMALLEST_INDEXED: Final = 1024
_MISSING: Final = "missing: the server has no index, and answers no search before one is created"
_POLL_SECONDS: Final = 0.5
_FILE_POLL_SECONDS: Final = 0.1
#: What FAISS, NumPy (which AUTOINDEX tries after FAISS) and Arrow (scalar indexes) say of half a file.
_HALF_WRITTEN: Final = (
    "read_index", "No data left in file", "contains pickled", "EOF: reading", "Not an Arrow file",
    "File is too small",
)  # fmt: skip
_KNOWN_SECONDS: Final = 5.0  # how long it is believed that every row is in an indexed segment, or not
_SEALED: Final = (common_pb2.SegmentState.Sealed, common_pb2.SegmentState.Flushed)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How the rows of a collection are searched.

    Attributes:
        growing: Rows in segments that are still written to, which no index of ours answers for.
        unindexed: Rows in sealed segments that are large enough for an index and have none yet.
        small: Rows in sealed segments too small for one; they are compared one by one.
        indexed: Rows that an index answers for.
        pending: By vector field, rows that an index is being built for.
        described: By vector field, its index as the server describes it, and for how many rows it has that.
    """

    growing: int
    unindexed: int
    small: int
    indexed: int
    pending: dict[str, int]
    described: dict[str, tuple[IndexParams, int]]

    def built(self, field: VectorField) -> IndexParams | None:
        """The index of a field that sealed segments have; of small ones the server counts what has none."""
        index, rows = self.described.get(field.name, (None, 0))
        return index if isinstance(index, Flat) or (self.indexed and rows) else None

    @property
    def complete(self) -> bool:
        """Whether nothing waits for an index."""
        return not (self.growing or self.unindexed or any(self.pending.values()))

    def state(self, field: VectorField) -> str:
        """The state of a field's index, as Status says it."""
        if field.name not in self.described:
            return _MISSING
        waiting = self.growing + self.unindexed + self.pending.get(field.name, 0)
        if isinstance(field.index, Flat) or not (waiting or self.small):
            return "ready"
        if waiting:
            return "building"
        if isinstance(field.index, Auto) or self.indexed:
            return "ready"
        return f"exact: needs {SMALLEST_INDEXED - self.small} more"


class Readiness:
    """What is known of one collection's indexes, shared like its :class:`Table`.

    Args:
        table: The collection.
        has_index_file: Of milvus-lite: whether the index of a vector field is on the disk.
    """

    def __init__(self, table: Table, has_index_file: Callable[[str], bool]) -> None:
        self._table = table
        self._has_index_file = has_index_file
        self._complete = False, -math.inf  # whether every row had its index, and when that was asked
        self._rows = 0, -math.inf  # of all namespaces, and when that was asked
        self._built_at = -math.inf  # on lite: rows written before then have their index
        self._failed = False  # on lite: whether the last build did

    def sealed(self, deadline: Deadline) -> bool:
        """Whether every row is in a sealed segment with its index, as far as was known seconds ago."""
        complete, asked_at = self._complete
        if asked_at < self._table.written_at:
            complete, asked_at = False, self._table.written_at
        if time.monotonic() >= asked_at + _KNOWN_SECONDS:
            complete = self._look(deadline, level=self._table.search_level).complete
        return complete

    def rows(self, deadline: Deadline) -> int:
        """How many rows all namespaces have; of what others wrote, as far as was known seconds ago."""
        rows, asked_at = self._rows
        now = time.monotonic()
        if now >= asked_at + _KNOWN_SECONDS or self._table.written_at >= asked_at:
            rows = self._table.added_up(deadline, level=self._table.search_level)
            self._rows = rows, now
        return rows

    def status(self, count: Callable[[Deadline], int], deadline: Deadline) -> Status:
        """How far the indexes are, with the rows of a namespace.

        Args:
            count: Counts them. Without an index a server counts nothing: then the rows are those of all
                namespaces, deleted ones included, as its statistics have them.
            deadline: Of all requests.
        """
        table, vectors = self._table, self._table.spec.vectors
        if not table.dialect.seals:
            return self._status_of_files(count(deadline), deadline)
        try:
            rows, coverage = count(deadline), self._look(deadline)
        except NoIndexError:
            statistics = stored.unpaired(table.call("GetCollectionStatistics", deadline).stats)
            names = [field.name for field in vectors]
            return Status(
                int(statistics["row_count"]), dict.fromkeys(names, _MISSING), built=dict.fromkeys(names)
            )
        return Status(
            rows,
            {field.name: coverage.state(field) for field in vectors},
            {"growing_rows": coverage.growing, "unindexed_rows": coverage.unindexed + coverage.small},
            {field.name: coverage.built(field) for field in vectors},
        )

    def _status_of_files(self, rows: int, deadline: Deadline) -> Status:
        """On lite: which rows wait for the next build, and which index files there are."""
        described = self._described(deadline)
        waits = rows and (self._failed or self._table.written_at > self._built_at)
        states, built = {}, {}
        for field in self._table.spec.vectors:
            index, _ = described.get(field.name, (None, 0))
            exact = isinstance(index, Flat)
            states[field.name] = "building" if waits and not isinstance(field.index, Flat) else "ready"
            built[field.name] = index if exact or self._has_index_file(field.name) else None
        return Status(rows, states, built=built)

    def build(self, deadline: Deadline) -> None:
        """Seals what was written and returns when no index work is pending.

        Raises:
            DeadlineError: Not in time; says what is missing.
        """
        if all(isinstance(field.index, Flat) for field in self._table.spec.vectors):
            return  # every row is compared, wherever it is
        if self._table.dialect.seals:
            self._table.flush(deadline)
            self._seal(deadline)
            while not (now := self._look(deadline)).complete:
                deadline.pause(
                    _POLL_SECONDS,
                    f"the index of {self._table.spec.name!r} is not ready: {now.growing} rows not sealed, "
                    f"{now.unindexed} without an index, {sum(now.pending.values())} being built",
                )
        else:
            with self._table.loading(deadline):
                if self._failed or self._built_at <= self._table.written_at:
                    self._rebuild(deadline)

    def _look(self, deadline: Deadline, *, level: int = STRONG) -> Coverage:
        """What the query nodes say of their segments, and the index nodes of their work."""
        asked_at, table = time.monotonic(), self._table
        growing = table.added_up(deadline, level=level) - table.added_up(
            deadline, level=level, sealed_only=True
        )
        unindexed = small = indexed = 0
        for segment in table.call("GetQuerySegmentInfo", deadline).infos:
            if segment.state not in _SEALED:
                continue
            if segment.index_name:
                indexed += segment.num_rows
            elif segment.num_rows < SMALLEST_INDEXED:
                small += segment.num_rows
            else:
                unindexed += segment.num_rows
        indexes = table.call("DescribeIndex", deadline).index_descriptions
        pending = {index.field_name: _pending(index) for index in indexes}
        described = _described(indexes)
        if described and all(isinstance(index, Flat) for index, _ in described.values()):
            unindexed = small = 0  # another program has chosen FLAT, of which no segment gets a file
        coverage = Coverage(max(growing, 0), unindexed, small, indexed, pending, described)
        self._complete = coverage.complete, asked_at
        return coverage

    def _described(self, deadline: Deadline) -> dict[str, tuple[IndexParams, int]]:
        """By vector field, its index and the rows that the server says have it; nothing without any."""
        try:
            return _described(self._table.call("DescribeIndex", deadline).index_descriptions)
        except NoIndexError:
            return {}

    def _seal(self, deadline: Deadline) -> None:
        """Asks for the growing segments to be sealed; a server takes that only so often."""
        while True:
            try:
                self._table.call("Flush", deadline)
                return
            except RateLimitedError as exc:
                deadline.pause(_POLL_SECONDS, str(exc))

    def _rebuild(self, deadline: Deadline) -> None:
        """On lite: builds the index over everything that was written."""
        begun_at, table = time.monotonic(), self._table
        self._failed = True
        table.call("Flush", deadline)
        table.unloaded()
        table.call("ReleaseCollection", deadline)
        while True:
            try:
                table.call("LoadCollection", deadline, replica_number=1)
                break
            except BackendError as exc:  # a flush builds in the background: half of a file is no index yet
                if not any(message in str(exc) for message in _HALF_WRITTEN):
                    raise
                deadline.pause(_FILE_POLL_SECONDS, str(exc))
        table.load(deadline)
        self._built_at, self._failed = begun_at, False


def _described(descriptions: Iterable[Any]) -> dict[str, tuple[IndexParams, int]]:
    """By vector field; a scalar index has no metric."""
    found = {}
    for each in descriptions:
        index, metric = index_params.from_milvus(stored.unpaired(each.params))
        if metric is not None:
            found[each.field_name] = index, int(each.indexed_rows)
    return found


def _pending(description: Any) -> int:
    """Rows that an index is being built for; some versions leave the count at 0 while they build."""
    if description.state == common_pb2.IndexState.Finished:
        return int(description.pending_index_rows)
    return max(int(description.total_rows - description.indexed_rows), int(description.pending_index_rows))
