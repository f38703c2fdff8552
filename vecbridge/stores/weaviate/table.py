"""The rows of one namespace of a class: what the server is asked about them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from vecbridge.driver import Deadline, outdated
from vecbridge.errors import BackendError, TooLargeError
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate import expressions, schema, wire
from vecbridge.stores.weaviate.answers import Answer
from vecbridge.stores.weaviate.connection import Connection
from vecbridge.stores.weaviate.errors import TenantNotFoundError
from vecbridge.stores.weaviate.layout import Layout
from vecbridge.stores.weaviate.limits import WINDOW
from vecbridge.stores.weaviate.stubs import batch_delete_pb2
from vecbridge.transport.channel import Call
from vecbridge.transport.parallel import halved

_PAGE_BYTES: Final = 16 << 20
_PAGE_ROWS: Final = 1_000
_LAST_UUID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"

#: UUIDs beyond the first one, up to the second; "" is no bound.
Bounds: TypeAlias = tuple[str, str]
#: Gives the deadline of the next request of a loop.
Deadlines: TypeAlias = Callable[[], Deadline]


class Table:
    """Rows of one namespace; an absent tenant has none. Holds no state.

    Args:
        connection: The server.
        spec: What the collection holds.
        layout: Where its columns are.
        tenant: The namespace's; "" without.
    """

    def __init__(self, connection: Connection, spec: CollectionSpec, layout: Layout, tenant: str) -> None:
        self.connection = connection
        self.spec = spec
        self.layout = layout
        self.tenant = tenant

    def call(self, rpc: str, request: Any, deadline: Deadline) -> Any:
        """Sends a request about this collection."""
        return self.connection.grpc.call(rpc, request, deadline, f"{rpc} of {self.spec.name!r}")

    def answer(self, results: Sequence[Any]) -> Answer:
        """The rows of a search."""
        return Answer(results, self.layout)

    def write(self, request: Any, deadline: Deadline) -> dict[int, str]:
        """Sends rows; what the server says of those that it refused, by position."""
        answer = self.call("BatchObjects", request, deadline)
        return {error.index: error.error for error in answer.errors}

    def require_all_fields(self, deadline: Deadline) -> None:
        """Refuses to write rows that were read: a field that was added meanwhile would become null in them.

        Raises:
            SchemaError: Fields were added since the collection was opened.
        """
        described = self.connection.described(self.layout.class_name, deadline)
        stored = None if described is None else schema.stored(described)
        if stored is not None and len(stored.spec.fields) != len(self.spec.fields):
            raise outdated(self.spec.name)

    def count(self, deadline: Deadline, condition: Any = None) -> int:
        """How many rows there are, or match."""
        try:
            answer = self.call("Aggregate", wire.count_request(self.layout, self.tenant, condition), deadline)
        except TenantNotFoundError:
            return 0
        return int(answer.single_result.objects_count)

    def delete(self, condition: Any, deadlines: Deadlines) -> int:
        """Removes the rows that match, as many a request as the server takes.

        Raises:
            BackendError: Some could not be removed.
        """
        request = batch_delete_pb2.BatchDeleteRequest(
            collection=self.layout.class_name, filters=condition, tenant=self.tenant or None
        )
        removed = 0
        while True:
            try:
                answer = self.call("BatchDelete", request, deadlines())
            except TenantNotFoundError:
                return removed
            removed += int(answer.successful)
            if answer.failed:
                raise BackendError(
                    f"{answer.failed} rows of {self.spec.name!r} were not deleted, {removed} were",
                    retryable=True,
                )
            if answer.matches <= answer.successful or not answer.successful:
                return removed

    def clear(self, deadlines: Deadlines) -> int:
        """Removes every row; how many there were."""
        return sum(self.delete(expressions.of_uuids(uuids), deadlines) for uuids in self.all_uuids(deadlines))

    def page_rows(self, columns: Iterable[str]) -> int:
        """How many rows one request may ask for, so that its answer stays small."""
        dims = sum(self.spec.vector_field(name).dim for name in columns if name in self.layout.vectors)
        return max(1, min(_PAGE_ROWS, _PAGE_BYTES // (4 * dims + 256)))

    def rows(
        self, uuids: Sequence[str], columns: Sequence[str] | None, deadline: Deadline, condition: Any = None
    ) -> Answer:
        """Those rows of some UUIDs that match, in the order of the UUIDs given.

        Args:
            uuids: At least one, at most as many as an answer may have.
            columns: What to return beside the id; None is UUIDs alone. An answer that is too large is asked
                for in halves.
            deadline: Of each request.
            condition: A message; None is every row.
        """

        def ask(some: Sequence[str]) -> list[Any]:
            wanted = expressions.both(expressions.of_uuids(some), condition)
            return self._results(wire.search_request(
                self.layout, self.tenant, limit=len(some), columns=columns, condition=wanted
            ), deadline)  # fmt: skip

        answer = self.answer(halved(ask, uuids, operator.add))
        place = {uuid: row for row, uuid in enumerate(answer.uuids())}
        return answer.take([place[uuid] for uuid in uuids if uuid in place])

    def all_uuids(self, deadlines: Deadlines, bounds: Bounds = ("", "")) -> Iterator[list[str]]:
        """UUIDs of all rows, in their order, as the objects have them: no index is asked."""
        return (page.uuids() for page in self._cursor(None, _PAGE_ROWS, deadlines, bounds))

    def pages(
        self, columns: Sequence[str], *, rows: int, deadlines: Deadlines, condition: Any = None,
        bounds: Bounds = ("", ""), limit: int | None = None,
    ) -> Generator[Answer, None, None]:  # fmt: skip
        """All rows that match, in the order of their UUIDs, a page at a time.

        The server's cursor takes no filter. Where few rows match, their UUIDs are asked for at once; else
        the cursor runs over all UUIDs, and the filter is asked about those of each page.

        Args:
            columns: What to return.
            rows: Rows a page, at most.
            deadlines: Of the requests.
            condition: A message; None is every row.
            bounds: Which UUIDs.
            limit: Without a condition, rows after which no further page is asked for.
        """
        rows = min(rows, self.page_rows(columns))
        if condition is None:
            yield from self._cursor(columns, rows, deadlines, bounds, limit)
            return
        after, upto = bounds
        few = self._uuids_of_few(condition, deadlines())
        if few is None:
            batches: Iterable[list[str]] = self.all_uuids(deadlines, bounds)
        else:
            batches = [sorted(uuid for uuid in few if after < uuid <= (upto or _LAST_UUID))]
        for uuids in batches:
            for start in range(0, len(uuids), rows):
                answer = self.rows(uuids[start : start + rows], columns, deadlines(), condition)
                if len(answer):
                    yield answer

    def _uuids_of_few(self, condition: Any, deadline: Deadline) -> list[str] | None:
        """UUIDs of the rows that match; None if there are too many for one answer."""
        if self.count(deadline, condition) > WINDOW // 2:
            return None
        request = wire.search_request(
            self.layout, self.tenant, limit=WINDOW, columns=None, condition=condition
        )
        results = self._results(request, deadline)
        return [row.metadata.id for row in results] if len(results) < WINDOW else None

    def _cursor(
        self, columns: Sequence[str] | None, rows: int, deadlines: Deadlines, bounds: Bounds,
        limit: int | None = None,
    ) -> Iterator[Answer]:  # fmt: skip
        """Pages of all rows; each is asked for before the one before it is decoded."""
        after, upto = bounds
        if not after and not self.layout.own_ids:  # the server's cursor begins behind this UUID
            first = self.rows([expressions.FIRST_UUID], columns, deadlines())
            if len(first):
                yield first
        wanted = float("inf") if limit is None else limit
        call = self._ask_for_page(columns, rows, after, deadlines())
        try:
            while True:
                try:
                    results = call.answer().results
                except TenantNotFoundError:
                    return
                except TooLargeError:
                    if rows == 1:
                        raise
                    rows //= 2
                    call = self._ask_for_page(columns, rows, after, deadlines())
                    continue
                if not results:
                    return
                after = results[-1].metadata.id
                wanted -= len(results)
                past = bool(upto) and after > upto
                ended = past or wanted <= 0
                if not ended:
                    call = self._ask_for_page(columns, rows, after, deadlines())
                if page := [row for row in results if not past or row.metadata.id <= upto]:
                    yield self.answer(page)
                if ended:
                    return
        finally:
            call.cancel()

    def _ask_for_page(self, columns: Sequence[str] | None, rows: int, after: str, deadline: Deadline) -> Call:
        request = wire.search_request(
            self.layout, self.tenant, limit=rows, columns=columns, after=after or expressions.FIRST_UUID
        )
        return self.connection.grpc.begin("Search", request, deadline, f"scan {self.spec.name!r}")

    def _results(self, request: Any, deadline: Deadline) -> list[Any]:
        try:
            return list(self.call("Search", request, deadline).results)
        except TenantNotFoundError:
            return []
