"""Finding and writing again the rows that are missing in the graph; ``mending`` says why there are any.

A row is written again with one bit of its vector changed, which makes the server index it anew, and then as
it is. Deleting it first would do as well, and would lose an acknowledged row if this process died in between.

A row that is not found in the last round either is hardly a victim of the crash: HNSW itself leads to no row
all of whose neighbours have enough nearer ones, however often it is written. :func:`repair` logs how many.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.driver import Deadline
from vecbridge.query import FloatArray
from vecbridge.stores.weaviate import errors, expressions, wire
from vecbridge.stores.weaviate.mending import Progress
from vecbridge.stores.weaviate.table import Table

_NEIGHBOURS: Final = 10
_PAGE_ROWS: Final = 500
_ROUNDS: Final = 3

_log = logging.getLogger(__name__)


def unindexed(table: Table, tenant: str, batch: pa.RecordBatch, uuids: Sequence[str]) -> list[int]:
    """Positions of the rows that have to be written twice.

    Args:
        table: The collection.
        tenant: The namespace's.
        batch: What is about to be written.
        uuids: Of its rows.
    """
    mending = table.mending
    wanted = mending.doubtful(tenant, uuids)
    if not mending.fresh:
        if mending.needs_search_for_leftovers(tenant):
            if unlisted := _unlisted(table, tenant):
                mending.mark_doubtful(tenant, unlisted)
                mending.mark_suspect(tenant)
            mending.searched_for_leftovers(tenant)
            wanted = mending.doubtful(tenant, uuids)
        if left_over := _left_over(table, tenant, batch, uuids):
            mending.mark_suspect(tenant)
            wanted |= left_over
    return [row for row, uuid in enumerate(uuids) if uuid in wanted]


def write_changed(table: Table, tenant: str, batch: pa.RecordBatch, uuids: Sequence[str]) -> None:
    """Writes rows with one bit of each vector changed, so that writing them as they are indexes them anew.

    Raises:
        VecbridgeError: What the server says of the first that it did not take.
    """
    request = wire.batch_request(table.spec, table.layout, tenant, batch, uuids, _changed(table, batch))
    _send(table, request, batch)


def repair(table: Table, tenant: str, deadline: Deadline) -> int:
    """Searches for every row by its own vector, and writes those twice that are not found; how many.

    Rows that are written late may take the last link of others, or need others that lead to them: all rows
    are searched for again, three times at most, until all are found, or the graph proves too sparse to lead
    to what it is given. It goes on where a call before ran out of time. Writes of this process wait
    meanwhile, a page at a time.

    Raises:
        DeadlineError: Says how far it came.
    """
    mending, progress = table.mending, table.mending.progress(tenant)
    before = progress.examined
    while True:
        with mending.lock.exclusive(deadline):
            page = table.page(tenant, table.spec.column_names[1:], rows=_PAGE_ROWS, after=progress.after)
            if not len(page):
                if not progress.worth_another_round or progress.round == _ROUNDS:
                    break
                progress.begin_another()
                continue
            _repair_page(table, tenant, page.batch(table.spec, None), page.uuids(), progress)
        looked = f"{progress.examined - before:,} rows were searched for by their own vectors"
        deadline.pause(0, f"the graph of {table.spec.name!r} is repaired: {looked}; call again to go on")
    mending.finished(tenant)
    if progress.written:
        _log.warning(
            "%s: %d rows were found by no search for their own vector, and were written again",
            table.spec.name, len(progress.written),
        )  # fmt: skip
    if progress.hidden:
        _log.warning(
            "%s: %d of them are still not found: this graph leads to no row that stands so far from the "
            "others; one with a larger m does (HNSW)",
            table.spec.name, len(progress.hidden),
        )  # fmt: skip
    return len(progress.written)


def _repair_page(
    table: Table, tenant: str, batch: pa.RecordBatch, uuids: Sequence[str], progress: Progress
) -> None:
    rows = _missed_in_any_field(table, tenant, batch, uuids)
    still: list[str] = []
    if rows:
        again, again_uuids = batch.take(pa.array(rows)), [uuids[row] for row in rows]
        write_changed(table, tenant, again, again_uuids)
        _send(table, wire.batch_request(table.spec, table.layout, tenant, again, again_uuids), again)
        progress.missed += len(rows)
        progress.written.update(again_uuids)
        still = [again_uuids[row] for row in _missed_in_any_field(table, tenant, again, again_uuids)]
    progress.hidden.difference_update(uuids)
    progress.hidden.update(still)
    progress.examined += len(uuids)
    progress.after = uuids[-1]


def _send(table: Table, request: Any, batch: pa.RecordBatch) -> None:
    if refused := table.write(request):
        row, error = next(iter(refused.items()))
        name = batch.column("id")[row].as_py()
        raise errors.of_text(error, f"index row {name!r} of {table.spec.name!r} anew")


def _changed(table: Table, batch: pa.RecordBatch) -> dict[str, FloatArray]:
    """By vector field, the vectors of a batch with one bit changed."""
    result = {}
    for each in table.spec.vectors:
        values = records.vectors(batch, each.name).copy()
        values[:, 0] = np.nextafter(values[:, 0], np.float32(0 if each.dim > 1 else np.inf))
        untouched = values[:, 0] == records.vectors(batch, each.name)[:, 0]  # it was zero
        values[untouched, 0] = np.float32(1e-30)
        result[each.name] = values
    return result


def _unlisted(table: Table, tenant: str) -> list[str]:
    """Rows that are stored and that the inverted index does not know."""
    if table.count(tenant) == table.count(tenant, expressions.any_uuid()):
        return []
    found: list[str] = []
    for uuids in table.uuids(tenant):
        listed = table.existing(tenant, uuids)
        found += [each for each in uuids if each not in listed]
    return found


def _left_over(table: Table, tenant: str, batch: pa.RecordBatch, uuids: Sequence[str]) -> set[str]:
    """Rows that are stored as they are about to be written, and that a search for their vector misses."""
    names = [each.name for each in table.spec.vectors]
    known = table.existing(tenant, uuids)
    if not known:
        return set()
    places = [row for row, uuid in enumerate(uuids) if uuid in known]
    missed: set[str] = set()
    rows = table.page_rows(names)
    for start in range(0, len(places), rows):
        among = places[start : start + rows]
        stored = table.rows(tenant, [uuids[row] for row in among], names)
        place = {uuid: row for row, uuid in enumerate(stored.uuids())}
        for each in table.spec.vectors:
            mine = records.vectors(batch, each.name)
            theirs = stored.vectors(each.name, each.dim)
            same = [
                row
                for row in among
                if uuids[row] in place and mine[row].tobytes() == theirs[place[uuids[row]]].tobytes()
            ]
            missed |= {uuids[row] for row in _missed(table, tenant, each.name, mine, uuids, same)}
    return missed


def _missed_in_any_field(table: Table, tenant: str, batch: pa.RecordBatch, uuids: Sequence[str]) -> list[int]:
    """Those rows that a search for their own vector, in one of the vector fields, does not find."""
    missed: set[int] = set()
    for each in table.spec.vectors:
        vectors = records.vectors(batch, each.name)
        missed.update(_missed(table, tenant, each.name, vectors, uuids, range(len(uuids))))
    return sorted(missed)


def _missed(
    table: Table, tenant: str, name: str, vectors: FloatArray, uuids: Sequence[str], rows: Sequence[int]
) -> list[int]:
    """Those of some rows that a search for their own vector does not find."""
    requests = [
        wire.search_request(
            table.layout, tenant, limit=_NEIGHBOURS, columns=None,
            near=(name, vectors[row].astype("<f4").tobytes()),
        )
        for row in rows
    ]  # fmt: skip
    answers = table.connection.call_each("Search", requests, what=f"look into {table.spec.name!r}")
    return [
        row
        for row, answer in zip(rows, answers, strict=True)
        if uuids[row] not in wire.Answer(answer.results, table.layout).uuids()
    ]
