"""One namespace of one Weaviate collection: the verbs of :class:`vecbridge.driver.CollectionDriver`."""

from __future__ import annotations

import itertools
import uuid
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, Final

import pyarrow as pa

from vecbridge.driver import (
    Columns,
    Deadline,
    Described,
    Identity,
    Key,
    KeyedPage,
    PageRequest,
    Refusal,
    RequestLimits,
    SearchRequest,
    SearchResult,
    WritePart,
    WriteResult,
)
from vecbridge.errors import NotFoundError, UnsupportedError
from vecbridge.filters import Filter
from vecbridge.query import Hits, Status
from vecbridge.stores.weaviate import (
    errors,
    expressions,
    foreign,
    index_params,
    layout,
    readiness,
    repairing,
    schema,
    wire,
)
from vecbridge.stores.weaviate.encoding import Payload, WeaviateEncoder
from vecbridge.stores.weaviate.limits import WINDOW
from vecbridge.stores.weaviate.mending import Graph
from vecbridge.stores.weaviate.table import Bounds, Table

_LANES: Final = 2  # server cursors of one scan


class WeaviateCollection:
    """One namespace; see :class:`vecbridge.driver.CollectionDriver`.

    Args:
        table: Its rows.
        found: The collection.
    """

    def __init__(self, table: Table, found: Described) -> None:
        self.table = table
        self.graph: Graph = found.state[1].graph(table.tenant)
        self._identity = found.identity
        self._read_only = found.read_only
        self._encoder = WeaviateEncoder(table.spec, table.layout, table.tenant)

    # ------------------------------------------------------------------------------------------ writing

    def identity(self, deadline: Deadline) -> Identity | None:
        """The token of the class, or what tells a foreign one from its replacement."""
        name, connection = self.table.layout.class_name, self.table.connection
        if (described := connection.described(name, deadline)) is None:
            return None
        if (stored := schema.stored(described)) is not None:
            return stored.identity
        return foreign.identity(described, connection, deadline, known=self._identity)

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        """See :meth:`WeaviateEncoder.prepare`."""
        return self._encoder.prepare(rows, limits)

    def write(self, part: WritePart, deadline: Deadline) -> WriteResult:
        """Sends one request; rows that may be stored and not indexed are sent twice, see ``repairing``.

        Each of the requests that this takes has the time of one.
        """
        payload: Payload = part.payload
        rows, uuids, request = payload
        table, graph, deadlines = self.table, self.graph, partial(Deadline.after, deadline.left())
        if graph.term is None:
            graph.record_term(table.connection.raft_term(deadline))
        with graph.lock.shared(deadline):
            try:
                if twice := repairing.unindexed(table, graph, rows, uuids, deadlines):
                    again = rows.take(pa.array(twice))
                    repairing.write_changed(table, again, [uuids[row] for row in twice], deadlines())
                refused = table.write(request, deadlines())
            except BaseException as exc:
                if not getattr(exc, "unsent", False):
                    graph.mark_doubtful(uuids)
                raise
        graph.mark_acknowledged(uuid for row, uuid in enumerate(uuids) if row not in refused)
        graph.mark_doubtful(uuids[row] for row in refused)
        what = f"write to {table.spec.name!r}"
        return WriteResult({
            row: Refusal(errors.of_text(text, what), stored="unknown") for row, text in refused.items()
        })  # fmt: skip

    def delete_keys(self, ids: pa.Array, deadline: Deadline) -> int:
        """Removes rows by their UUIDs."""
        uuids = self._uuids(ids)
        return sum(
            self.table.delete(expressions.of_uuids(uuids[start : start + WINDOW]), lambda: deadline)
            for start in range(0, len(uuids), WINDOW)
        )

    def delete_where(self, filter: Filter | None, seconds: float) -> int:
        """Removes the rows that match, 10,000 a request."""
        deadlines = partial(Deadline.after, seconds)
        if filter is None:
            return self.table.clear(deadlines)
        return self.table.delete(expressions.compiled(filter, self.table.layout), deadlines)

    # ------------------------------------------------------------------------------------------ reading

    def search(self, request: SearchRequest) -> SearchResult:
        """One vector a request, several requests in flight."""
        table = self.table
        requests = (
            wire.search_request(
                table.layout, table.tenant, limit=request.k, columns=request.columns or (),
                condition=self._compiled(request.filter), near=(request.field.name, vector.tobytes()),
                uuid=not table.layout.own_ids,
            )
            for vector in request.vectors.astype("<f4", copy=False)
        )  # fmt: skip
        what = f"search {table.spec.name!r}"
        answers = table.connection.grpc.call_each("Search", requests, request.deadline, what)
        try:
            return SearchResult([self._hits(request, answer.results) for answer in answers])
        except errors.TenantNotFoundError:
            return SearchResult([self._hits(request, ()) for _ in request.vectors])

    def lookup(self, ids: pa.Array, columns: Columns, deadline: Deadline) -> pa.RecordBatch:
        """Rows by their UUIDs."""
        uuids, step = self._uuids(ids), self.table.page_rows(columns)
        pages = [
            self.table.rows(uuids[start : start + step], columns, deadline)
            for start in range(0, len(uuids), step)
        ] or [self.table.answer(())]
        return pa.concat_batches([page.batch(self.table.spec, columns) for page in pages])

    def pages(self, request: PageRequest) -> Generator[KeyedPage, None, None]:
        """Pages of both halves of the UUIDs in turns, each with what is left of the ranges as its key.

        A cursor of the server waits for its last page before it can ask for the next. Of two, one is at work
        while the page of the other is read.
        """
        single = request.filter is not None or request.limit is not None
        ranges = _ranges(1 if single else _LANES) if request.after is None else _read_key(request.after)
        lanes = deque(
            (bounds, self.table.pages(
                request.columns, rows=request.rows, deadlines=partial(Deadline.after, request.seconds),
                condition=self._compiled(request.filter), bounds=bounds, limit=request.limit,
            ))
            for bounds in ranges
        )  # fmt: skip
        with ExitStack() as stack:
            for _, pages in lanes:
                stack.enter_context(closing(pages))
            while lanes:
                (_, upto), pages = lanes.popleft()
                if (answer := next(pages, None)) is not None:
                    lanes.append(((answer.last_uuid, upto), pages))
                    fit, unfit = answer.fitting(self.table.spec, request.columns)
                    batch = fit.batch(self.table.spec, request.columns)
                    yield KeyedPage(batch, [list(bounds) for bounds, _ in lanes], unfit)

    def split(self, parts: int, deadline: Deadline) -> Sequence[Key]:
        """Equal ranges of UUIDs."""
        return [[[after, upto]] for after, upto in _ranges(parts)]

    def count(self, deadline: Deadline) -> int:
        """How many rows there are."""
        return self.table.count(deadline)

    def count_where(self, filter: Filter, deadline: Deadline) -> int:
        """How many rows match."""
        return self.table.count(deadline, self._compiled(filter))

    # -------------------------------------------------------------------------------------- maintenance

    def status(self, deadline: Deadline) -> Status:
        """Rows of the namespace, and whether vectors wait for the index or a quantizer for its training."""
        table = self.table
        now, rows = readiness.shard(table, deadline), self.count(deadline)
        if (described := table.connection.described(table.layout.class_name, deadline)) is None:
            raise NotFoundError(f"collection {table.spec.name!r} was dropped")
        return readiness.status(table, described, now, rows)

    def flush(self, deadline: Deadline) -> None:
        """Waits where the server indexes after it acknowledged (ASYNC_INDEXING); else returns at once."""
        readiness.wait_for_queue(self.table, deadline)

    def build(self, deadline: Deadline) -> None:
        """Waits for the queue, trains a quantizer that learns from the rows, repairs a suspect graph."""
        readiness.wait(self.table, deadline)
        if self.graph.is_suspect(self.table.connection.raft_term(deadline)):
            self.repair(deadline)

    def repair(self, deadline: Deadline) -> int:
        """Searches for every row by its own vector; has the server index those anew that it does not find.

        A server that is killed while somebody writes loses the last moments of its graph, which other rows
        may hang on. :meth:`build` calls this where this process can know; after a crash in the time of
        another one, call it. It takes about a millisecond a row. No other process should write meanwhile.
        Rows that no search finds afterwards either, because the graph is too sparse for them, are logged.

        Raises:
            DeadlineError: Not in time; the next call goes on from there.
        """
        if self._read_only:
            raise UnsupportedError("weaviate", f"writing to {self.table.spec.name!r}", self._read_only)
        term = self.table.connection.raft_term(deadline)
        written = repairing.repair(self.table, self.graph, deadline)
        self.graph.term = term
        return written

    def _uuids(self, ids: pa.Array) -> list[str]:
        """UUIDs of ids; in a foreign class, without those that no row can have."""
        return [uuid for uuid in layout.uuids(self.table.layout, ids) if uuid]

    def _compiled(self, filter: Filter | None) -> Any:
        return None if filter is None else expressions.compiled(filter, self.table.layout)

    def _hits(self, request: SearchRequest, results: Sequence[Any]) -> Hits:
        answer = self.table.answer(results)
        scores = index_params.scores(request.field.metric, answer.distances())
        ids = layout.python_ids(self.table.layout, answer.id_texts())
        if request.columns is None:
            return Hits(ids, scores)
        return Hits(ids, scores, answer.batch(self.table.spec, request.columns))


def _ranges(parts: int) -> list[Bounds]:
    """All UUIDs in equal parts."""
    bounds = ["", *(str(uuid.UUID(int=(part << 128) // parts)) for part in range(1, parts)), ""]
    return list(itertools.pairwise(bounds))


def _read_key(key: Any) -> list[Bounds]:
    """The ranges of a key.

    Raises:
        ValueError: It is none.
    """
    try:
        if isinstance(key, list):
            return [(_bound(after), _bound(upto)) for after, upto in key]
    except (TypeError, AttributeError):
        pass
    raise ValueError(f"{key!r} is no key of a Weaviate collection")


def _bound(text: str) -> str:
    return str(uuid.UUID(text)) if text else ""
