"""Pages of a collection: for a caller, with cursors, and for what the front does itself."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Literal, TypeAlias

import pyarrow as pa

from vecbridge import records
from vecbridge.driver import CollectionDriver, Columns, KeyedPage, PageRequest
from vecbridge.errors import BackendError, ConfigError
from vecbridge.filters import Filter
from vecbridge.front import processes
from vecbridge.front.cursors import CursorScope
from vecbridge.front.handle import Attached, CollectionHandle
from vecbridge.front.telemetry import operation, page_returned
from vecbridge.query import Page, Unfit

#: Is called with the id of a row that a batch cannot hold, and why.
OnUnfit: TypeAlias = Callable[[str | int, Unfit], None]

PAGE_ROWS = 10_000


class ScannedHandle(CollectionHandle):
    """The part of :class:`vecbridge.Collection` that reads page by page."""

    @property
    def _cursors(self) -> CursorScope:
        described = self._attached.described
        return CursorScope(described.name, described.identity.value, self.namespace)

    def _pages(
        self,
        driver: CollectionDriver,
        columns: Columns,
        filter: Filter | None,
        consistency: Literal["latest", "search"] = "latest",
        limit: int | None = None,
        *,
        skip_unfit: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """All rows that match, or somewhat more than ``limit`` of them, for what is done with them here.

        Raises:
            InvalidRecordError: Rows that a batch cannot hold, unless they are to be skipped.
        """
        rows = PAGE_ROWS if limit is None else min(limit, PAGE_ROWS)
        request = PageRequest(
            columns, filter, rows, self._connection.timeout, limit=limit, consistency=consistency
        )
        pages = self._call("scan", driver.pages, request)
        try:
            while (page := self._next(pages)) is not None:
                if page.unfit and not skip_unfit:
                    raise records.unfit_rows(page.unfit)
                if page.batch.num_rows:
                    yield page.batch
        finally:
            pages.close()

    def _scan(
        self, here: Attached, request: PageRequest, digest: str, *, resumed: bool, unfit: OnUnfit | None
    ) -> Iterator[Page]:
        """Pages with cursors; each looks at the state of the handle again.

        In a forked child a scan that the parent began goes on from its last key by the child's own driver,
        and what the parent has in flight stays as it is.
        """
        epoch = self._epoch
        pages = here.driver.pages(request)
        after = request.after
        try:
            while True:
                now = self._enter_for_reading()
                if self._epoch != epoch:
                    processes.keep_forever(pages)
                    epoch, pages = self._epoch, now.driver.pages(replace(request, after=after))
                page = self._scanned(pages, resumed=resumed)
                resumed = False
                if page is None:
                    return
                if page.unfit and unfit is None:
                    raise records.unfit_rows(page.unfit)
                if unfit is not None:
                    for key, reason in page.unfit.items():
                        unfit(key, reason)
                after, rows = page.after, page.batch.num_rows + len(page.unfit)
                if rows:
                    yield Page(page.batch, self._cursors.write(after, digest))
                if request.limit is not None:
                    request = replace(request, limit=request.limit - rows)
                    if not request.limit:
                        return
                    if request.limit < request.rows:  # a whole page would go beyond the limit, its cursor too
                        pages.close()
                        request = replace(request, rows=request.limit)
                        pages = now.driver.pages(replace(request, after=after))
        finally:
            if self._connection.epoch == epoch:
                pages.close()
            else:
                processes.keep_forever(pages)

    @operation("scan", page_returned)
    def _scanned(self, pages: Generator[KeyedPage, None, None], *, resumed: bool) -> KeyedPage | None:
        """The next page of a scan."""
        return self._first(pages) if resumed else self._next(pages)

    def _next(self, pages: Generator[KeyedPage, None, None]) -> KeyedPage | None:
        page: KeyedPage | None = self._call("scan", next, pages, None)
        return page

    def _first(self, pages: Generator[KeyedPage, None, None]) -> KeyedPage | None:
        """The first page after a cursor, whose key the driver reads now."""
        try:
            return self._next(pages)
        except BackendError as exc:
            if isinstance(exc.__cause__, ValueError):
                raise ConfigError(f"the cursor is damaged: {exc.__cause__}") from exc.__cause__
            raise
