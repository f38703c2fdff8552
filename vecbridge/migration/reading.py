"""Pages of the source, read again after an error where reading can go on."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from vecbridge.bulk.delivery import FATAL, Backoff
from vecbridge.errors import BackendError, Failure
from vecbridge.filters import AnyFilter
from vecbridge.migration.plans import Size
from vecbridge.query import Unfit
from vecbridge.records import row_bytes
from vecbridge.schema import CollectionSpec
from vecbridge.store import Collection

MAX_PAGE_ROWS: Final = 10_000
PAGE_BYTES: Final = 16 << 20
_TOO_LARGE: Final = 2 * PAGE_BYTES
_NO_SIZE: Final = Size()
_FIELD_BYTES: Final = 50  # of a scalar, as a guess before a row was seen


@dataclass(frozen=True, slots=True, eq=False)
class SourcePage:
    """A page of the source.

    Attributes:
        batch: Its rows.
        cursor: Where the next one starts.
        size: Bytes of the rows, about.
        unfit: Rows that a batch cannot hold, by id.
    """

    batch: pa.RecordBatch
    cursor: str
    size: int
    unfit: dict[str | int, Unfit] = field(default_factory=dict)

    @property
    def failures(self) -> list[Failure]:
        """The rows that a batch cannot hold, with the reason; they have no position in the batch."""
        return [Failure(0, id, str(reason)) for id, reason in self.unfit.items()]

    @property
    def rows(self) -> int:
        """All rows of it."""
        return int(self.batch.num_rows) + len(self.unfit)


def page_rows(spec: CollectionSpec, size: Size = _NO_SIZE, rate: float | None = None) -> int:
    """Rows of a page that take about 16 MB, and one second at most where there is a limit to the rate.

    Args:
        spec: Of the source.
        size: What the plan knows of the rows.
        rate: Rows a second; None is no limit.
    """
    row = sum(4 * vector.dim for vector in spec.vectors) + _FIELD_BYTES * (len(spec.fields) + 1)
    if size.rows:
        row = max(row, size.bytes // size.rows)
    rows = min(MAX_PAGE_ROWS, PAGE_BYTES // row)
    return max(1, rows if rate is None else min(rows, int(rate)))


def pages(
    collection: Collection,
    include: tuple[str, ...],
    cursor: str | None,
    *,
    filter: AnyFilter | None = None,
    rows: int = MAX_PAGE_ROWS,
    stop: threading.Event,
) -> Generator[SourcePage, None, None]:
    """The pages from a cursor on; after a transient error the scan is opened again where it broke off.

    It is opened again with fewer rows a page, too, where pages are far larger than they should be.

    Args:
        collection: One namespace of the source.
        include: Columns beside the id.
        cursor: Where to begin; None is the start.
        filter: Only rows that match.
        rows: Rows a page, at most.
        stop: Ends a pause.

    Raises:
        BackendError: No retry can help, or none was left.
        CursorExpiredError: The cursor is no longer valid.
        StoppedError: The copy ended meanwhile.
    """
    backoff = Backoff(stop)
    while True:
        try:
            with closing(_scan(collection, include, filter, rows, cursor)) as scan:
                for page in scan:
                    cursor, backoff = page.cursor, Backoff(stop)
                    yield page
                    if page.size > _TOO_LARGE and rows > 1:
                        rows = max(1, rows * PAGE_BYTES // page.size)
                        break
                else:
                    return
        except FATAL:
            raise
        except BackendError as exc:
            if not exc.retryable:
                raise
            backoff.wait(exc)


def _scan(
    collection: Collection, include: tuple[str, ...], filter: AnyFilter | None, rows: int, cursor: str | None
) -> Generator[SourcePage, None, None]:
    """The pages of one scan, with the rows that a batch cannot hold."""
    unfit: dict[str | int, Unfit] = {}
    scan = collection.scan(
        include=include, filter=filter, batch_rows=rows, cursor=cursor, unfit=unfit.__setitem__
    )
    for page in scan:
        size = int(row_bytes(page.batch).sum()) if page.batch.num_rows else 0
        yield SourcePage(page.batch, page.cursor, size, dict(unfit))
        unfit.clear()
