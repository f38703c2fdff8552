"""What the handles of one collection share: where it is, and what is asked of the server about it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, Final

from vecbridge.capabilities import Gap
from vecbridge.errors import BackendError, NotFoundError, TooLargeError
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate import expressions, schema, wire
from vecbridge.stores.weaviate.connection import Call, Connection
from vecbridge.stores.weaviate.errors import TenantNotFoundError
from vecbridge.stores.weaviate.layout import Layout
from vecbridge.stores.weaviate.limits import WINDOW
from vecbridge.stores.weaviate.mending import Mending
from vecbridge.stores.weaviate.stubs import batch_delete_pb2

_PAGE_BYTES: Final = 16 << 20
_PAGE_ROWS: Final = 1_000
_LAST: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"


class Table:
    """One collection on one server.

    Args:
        connection: The server.
        spec: What it holds.
        layout: Where its columns are.
        token: Changes when the collection is replaced; "" for foreign ones.
        losses: What of a foreign collection cannot be shown.
        mending: What is known of rows that its graph may lack.
    """

    def __init__(
        self, connection: Connection, spec: CollectionSpec, layout: Layout, token: str,
        losses: Sequence[Gap], mending: Mending,
    ) -> None:  # fmt: skip
        self.connection = connection
        self.spec = spec
        self.layout = layout
        self.token = token
        self.losses = tuple(losses)
        self.mending = mending

    def call(self, rpc: str, request: Any) -> Any:
        """Sends a request about this collection."""
        return self.connection.call(rpc, request, what=f"{rpc} of {self.spec.name!r}")

    def require_current(self) -> None:
        """Refuses to write to a collection that is gone, which a server would make anew, or was replaced.

        Raises:
            NotFoundError: It was dropped or replaced.
        """
        name = self.spec.name
        gone = NotFoundError(f"collection {name!r} was dropped or replaced since it was opened")
        try:
            described = self.connection.rest(
                "GET", f"/v1/schema/{self.layout.class_name}", what=f"write to {name!r}"
            )
        except NotFoundError as exc:
            raise gone from exc
        stored = schema.stored(described)
        if (stored.token if stored else "") != self.token:
            raise gone

    def write(self, request: Any) -> dict[int, str]:
        """Sends rows; what the server says of those that it did not take, by their place."""
        answer = self.call("BatchObjects", request)
        return {each.index: each.error for each in answer.errors}

    def count(self, tenant: str, filters: Any = None) -> int:
        """How many rows match; none where the tenant does not exist."""
        try:
            answer = self.call("Aggregate", wire.count_request(self.layout, tenant, filters))
        except TenantNotFoundError:
            return 0
        return int(answer.single_result.objects_count)

    def delete(self, tenant: str, filters: Any) -> int:
        """Removes the rows that match, as many at a time as the server takes.

        Raises:
            BackendError: Some could not be removed.
        """
        request = batch_delete_pb2.BatchDeleteRequest(
            collection=self.layout.class_name, filters=filters, tenant=tenant or None
        )
        removed = 0
        while True:
            try:
                answer = self.call("BatchDelete", request)
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

    def clear(self, tenant: str) -> int:
        """Removes every row; how many there were."""
        pages = self.pages(tenant, [], rows=_PAGE_ROWS)
        removed = 0
        for page in pages:
            removed += self.delete(tenant, expressions.of_uuids(page.uuids()))
        return removed

    def page_rows(self, columns: Sequence[str]) -> int:
        """How many rows one request may ask for, so that its answer stays small."""
        dims = sum(each.dim for each in self.spec.vectors if each.name in columns)
        return max(1, min(_PAGE_ROWS, _PAGE_BYTES // (4 * dims + 256)))

    def rows(
        self, tenant: str, uuids: Sequence[str], columns: Sequence[str], filters: Any = True
    ) -> wire.Answer:
        """The rows of some UUIDs that match, in the order of the UUIDs given.

        An answer that the server finds too large is asked for in halves.
        """
        wanted = expressions.both(expressions.of_uuids(uuids), filters)
        request = wire.search_request(self.layout, tenant, limit=len(uuids), columns=columns, filters=wanted)
        try:
            results = list(self.call("Search", request).results)
        except TenantNotFoundError:
            results = []
        except TooLargeError:
            if len(uuids) == 1:
                raise
            middle = len(uuids) // 2
            return wire.joined(
                self.rows(tenant, uuids[:middle], columns, filters),
                self.rows(tenant, uuids[middle:], columns, filters),
            )
        answer = wire.Answer(results, self.layout)
        place = {uuid: row for row, uuid in enumerate(answer.uuids())}
        return answer.take([place[uuid] for uuid in uuids if uuid in place])

    def existing(self, tenant: str, uuids: Sequence[str]) -> set[str]:
        """Which of some rows there are."""
        request = wire.search_request(
            self.layout, tenant, limit=len(uuids), columns=None, filters=expressions.of_uuids(uuids)
        )
        try:
            return set(wire.Answer(self.call("Search", request).results, self.layout).uuids())
        except TenantNotFoundError:
            return set()

    def uuids(self, tenant: str) -> Iterator[list[str]]:
        """UUIDs of all rows, as they are stored; no index is asked."""
        return (page.uuids() for page in self._cursor(tenant, None, _PAGE_ROWS, "", ""))

    def pages(
        self, tenant: str, columns: Sequence[str], *, rows: int, filters: Any = True,
        after: str = "", upto: str = "",
    ) -> Generator[wire.Answer, None, None]:  # fmt: skip
        """All rows that match, in the order of their UUIDs, a page at a time.

        The server's cursor takes no filter. Where few rows match, their UUIDs are asked for at once; else
        the cursor runs over all UUIDs, and the filter is asked about those of each page.

        Args:
            tenant: The namespace's.
            columns: What to return.
            rows: Rows a page, at most.
            filters: A message; True is every row, False none.
            after: Only UUIDs beyond this one.
            upto: Only UUIDs up to this one; "" is all.
        """
        rows = min(rows, self.page_rows(columns))
        if filters is False:
            return
        if filters is True:
            yield from self._cursor(tenant, columns, rows, after, upto)
            return
        among: Iterable[list[str]] = (
            known.uuids() for known in self._cursor(tenant, None, _PAGE_ROWS, after, upto)
        )
        if (found := self._few(tenant, filters)) is not None:
            among = [sorted(each for each in found if after < each <= (upto or _LAST))]
        for uuids in among:
            for start in range(0, len(uuids), rows):
                if len(answer := self.rows(tenant, uuids[start : start + rows], columns, filters)):
                    yield answer

    def page(self, tenant: str, columns: Sequence[str], *, rows: int, after: str) -> wire.Answer:
        """The first rows beyond a UUID; none at the end."""
        rows = min(rows, self.page_rows(columns))
        results = self._asked(tenant, columns, rows, after).answer().results
        return wire.Answer(results, self.layout)

    def _few(self, tenant: str, filters: Any) -> list[str] | None:
        """UUIDs of the rows that match; None if there are too many for one answer."""
        if self.count(tenant, filters) > WINDOW // 2:
            return None
        request = wire.search_request(self.layout, tenant, limit=WINDOW, columns=None, filters=filters)
        try:
            found = wire.Answer(self.call("Search", request).results, self.layout).uuids()
        except TenantNotFoundError:
            return []
        return found if len(found) < WINDOW else None

    def _cursor(
        self, tenant: str, columns: Sequence[str] | None, rows: int, after: str, upto: str
    ) -> Iterator[wire.Answer]:
        """Pages of all rows; each is asked for while the one before is read."""
        call = self._asked(tenant, columns, rows, after)
        try:
            while True:
                try:
                    found = call.answer().results
                except TenantNotFoundError:
                    return
                except TooLargeError:
                    if rows == 1:
                        raise
                    rows //= 2
                    call = self._asked(tenant, columns, rows, after)
                    continue
                if not found:
                    return
                after = found[-1].metadata.id
                if not (past := bool(upto) and after > upto):
                    call = self._asked(tenant, columns, rows, after)  # before anything else: the server waits
                if results := [each for each in found if not past or each.metadata.id <= upto]:
                    yield wire.Answer(results, self.layout)
                if past:
                    return
        finally:
            call.cancel()

    def _asked(self, tenant: str, columns: Sequence[str] | None, rows: int, after: str) -> Call:
        after = after or expressions.FIRST_UUID
        request = wire.search_request(self.layout, tenant, limit=rows, columns=columns, after=after)
        return self.connection.begin("Search", request, what=f"scan {self.spec.name!r}")
