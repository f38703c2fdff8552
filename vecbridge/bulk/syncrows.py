"""The rows that ``index --sync`` compares with files, rewrites and removes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from vecbridge import reserved
from vecbridge.bulk.syncing import SyncPlan, Touched, TrackedRow, TrackedRows, is_there
from vecbridge.embed.items import file_columns
from vecbridge.errors import InvalidRecordError, UnsupportedError
from vecbridge.names import DIGEST, RESERVED, SOURCE
from vecbridge.sources.deadletters import DeadLetter, OnDeadLetter
from vecbridge.sources.tracking import Roots, Stamp, path_of, source_text

if TYPE_CHECKING:
    from vecbridge.collection import Collection
    from vecbridge.filters import Filter
    from vecbridge.schema import CollectionSpec
    from vecbridge.sources.images import ImageSource

ROWS: Final = 1000  # that are rewritten, or removed, together
_T = TypeVar("_T")


def read_rows(collection: Collection, roots: Roots) -> TrackedRows:
    """The rows of files below the roots; none where the collection tracks no files.

    The database picks them where it compares texts; elsewhere the two columns of every row are read.
    """
    if not reserved.is_tracking(collection.stored_spec):
        return TrackedRows()
    pages = collection.scan(include=RESERVED, filter=_pushed_down(collection, roots.filter()))
    return TrackedRows(row for page in pages for row in _rows(page.batch) if row.path in roots)


def rows_of_ids(collection: Collection, ids: Sequence[str]) -> dict[str, TrackedRow]:
    """The rows of some ids that say what they were made from, wherever that is."""
    if not reserved.is_tracking(collection.stored_spec):
        return {}
    return {row.id: row for row in _rows(collection.fetch(ids, include=RESERVED))}


def rewrite(
    collection: Collection, touched: Iterable[Touched], source: ImageSource, on_dead_letter: OnDeadLetter
) -> int:
    """Gives rows the state of their files and the fields of sidecars, and leaves their vectors alone.

    Args:
        collection: Where.
        touched: The rows.
        source: Where the files are.
        on_dead_letter: Receives the rows whose new fields cannot be stored; they stay as they are.

    Returns:
        How many.
    """
    count = 0
    for some in _chunks(touched, ROWS):
        for is_text in (False, True):
            rows = [
                _columns(each, source, collection.stored_spec)
                for each in some
                if each.candidate.file.is_text is is_text
            ]
            count += _update(collection, rows, on_dead_letter)
    return count


def _update(collection: Collection, rows: list[dict[str, Any]], on_dead_letter: OnDeadLetter) -> int:
    """Updates rows, without those that cannot be stored."""
    while rows:
        try:
            return collection.update(rows).written
        except InvalidRecordError as exc:
            bad = {failure.row: failure.error for failure in exc.rows}
            if not bad:
                raise
            for row, error in bad.items():
                on_dead_letter(DeadLetter(rows[row]["id"], path_of(rows[row][SOURCE]), error))
            rows = [row for place, row in enumerate(rows) if place not in bad]
    return 0


def remove(collection: Collection, plan: SyncPlan) -> int:
    """Removes rows, unless their file is there again, or somebody has written them anew meanwhile.

    Args:
        collection: Where.
        plan: Says which.

    Returns:
        How many.
    """
    count = 0
    for some in _chunks(plan.gone, ROWS):
        still = [row for row in some if row.path in plan.replaced or not is_there(row.path)]
        now = rows_of_ids(collection, [row.id for row in still])
        ids = [row.id for row in still if now.get(row.id) == row]
        if ids:
            collection.delete(ids)
            count += len(ids)
    return count


def _pushed_down(collection: Collection, condition: Filter | None) -> Filter | None:
    """The filter, if the database has what it needs."""
    if condition is None:
        return None
    try:
        collection.capabilities.resolve_filter(condition, collection.stored_spec)
    except UnsupportedError:
        return None
    return condition


def _rows(batch: Any) -> Iterator[TrackedRow]:
    columns = (batch.column(name).to_pylist() for name in ("id", SOURCE, DIGEST))
    for id, source, digest in zip(*columns, strict=True):
        if source is not None:
            yield TrackedRow(id, path_of(source), Stamp.of(digest))


def _columns(touched: Touched, source: ImageSource, spec: CollectionSpec) -> dict[str, Any]:
    """The columns that are rewritten."""
    candidate = touched.candidate
    file = candidate.file
    values: dict[str, Any] = {"path": file.path, "line": candidate.line}
    if not file.is_text:
        values = {"path": file.path, "bytes": touched.stamp.state.size}
        values["modified"] = touched.stamp.state.modified // 10**9
        if source.sidecars_complete:
            values |= dict.fromkeys(source.sidecar_fields) | dict(source.metadata(file))
    known = file_columns(values, spec)
    reserved_ones = {SOURCE: source_text(source.root, file.relative), DIGEST: str(touched.stamp)}
    return {"id": candidate.id} | known | reserved_ones


def _chunks(values: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(values)
    while some := list(islice(rest, size)):
        yield some
