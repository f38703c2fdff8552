"""Rows that a killed server left behind: stored, and not in the indexes.

A server that is killed while it writes may keep objects that no search finds, and some that no filter finds,
nor a look-up by UUID, which is a filter to it. Sending such a row again changes nothing, because the server
leaves the indexes alone where the vector is the one that it has. So the row is written twice: first with the
last bit of one component changed, which makes the server index it anew, then as it is. Deleting it first
would do as well, and would lose a row that was acknowledged before if this process died in between.

Two kinds of rows need that. Those of the interrupted write itself are mended when they are sent again: the
process whose write it was remembers them; in a collection that it did not make, the first write compares the
number of objects with that of the inverted index, and rows that are stored with the very vector that is
written are looked for by that vector. And rows that had been acknowledged: the server writes the end of its
graph's log a little later than it acknowledges, and rows of the graph may hang on others that are gone. They
are found by looking for every row, which :func:`mend` does.

A row that is not found in the last round either is hardly a victim of the crash: HNSW itself leads to no
row whose every neighbour has nearer ones enough, however often it is written. :func:`mend` says how many.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.errors import DeadlineError
from vecbridge.query import FloatArray
from vecbridge.stores.weaviate import errors, expressions, wire
from vecbridge.stores.weaviate.table import Search, Table

_NEIGHBOURS: Final = 10
_PAGE_ROWS: Final = 500
_ROUNDS: Final = 3

_log = logging.getLogger(__name__)


def unindexed(table: Table, tenant: str, batch: pa.RecordBatch, uuids: Sequence[str]) -> list[int]:
    """Places of the rows that have to be written twice.

    Args:
        table: The collection.
        tenant: The namespace's.
        batch: What is about to be written.
        uuids: Of its rows.
    """
    doubted = set(table.doubted(tenant, uuids))
    if not table.fresh:
        if tenant not in table.examined:
            if unlisted := _unlisted(table, tenant):
                table.doubt(tenant, unlisted)
                table.suspect(tenant)
            table.examined.add(tenant)
            doubted = set(table.doubted(tenant, uuids))
        if left_over := _left_over(table, tenant, batch, uuids):
            table.suspect(tenant)
            doubted |= left_over
    return [row for row, uuid in enumerate(uuids) if uuid in doubted]


def touch(table: Table, tenant: str, batch: pa.RecordBatch, uuids: Sequence[str]) -> None:
    """Writes rows with one bit changed; written as they are, they are indexed anew.

    Raises:
        VecbridgeError: What the server says of the first that it did not take.
    """
    _write(table, tenant, batch, uuids, _changed(table, batch))


def mend(table: Table, tenant: str, timeout: float) -> int:
    """Looks for every row by its own vector, and writes those twice that are not found; how many there were.

    Rows that are written late may take the last link of others, or need others that lead to them: it looks
    again, three times at most, until it finds all, or the graph proves too sparse to lead to what it is
    given. It goes on where a call before ran out of time. Writes of this process wait meanwhile, a page at a
    time.

    Raises:
        DeadlineError: Not within ``timeout`` seconds; says how far it came.
    """
    deadline = time.monotonic() + timeout
    search = table.searches.setdefault(tenant, Search())
    start = search.looked_at
    while True:
        with table.gate.alone(deadline):
            page = table.page(tenant, table.spec.column_names[1:], rows=_PAGE_ROWS, after=search.after)
            if not len(page):
                if not search.worth_another_round or search.round == _ROUNDS:
                    break
                search.begin_another()
                continue
            _mend_page(table, tenant, page.batch(table.spec, None), page.uuids(), search)
        if time.monotonic() > deadline:
            raise DeadlineError(
                f"the server of {table.spec.name!r} was started anew since it was written to, so that each "
                f"row is looked for by its own vector: {search.looked_at - start:,} in {timeout:g} s; "
                "call again to go on"
            )
    del table.searches[tenant]
    if search.written:
        _log.warning(
            "%s: %d rows were found by no search for their own vector, and were written again",
            table.spec.name, len(search.written),
        )  # fmt: skip
    if search.hidden:
        _log.warning(
            "%s: %d of them are still not found: this graph leads to no row that stands so far from the "
            "others; one with a larger m does (HNSW)",
            table.spec.name, len(search.hidden),
        )  # fmt: skip
    return len(search.written)


def _mend_page(
    table: Table, tenant: str, batch: pa.RecordBatch, uuids: Sequence[str], search: Search
) -> None:
    rows = _anywhere_missed(table, tenant, batch, uuids)
    still: list[str] = []
    if rows:
        again, again_uuids = batch.take(pa.array(rows)), [uuids[row] for row in rows]
        touch(table, tenant, again, again_uuids)
        _write(table, tenant, again, again_uuids, None)
        search.missed += len(rows)
        search.written.update(again_uuids)
        still = [again_uuids[row] for row in _anywhere_missed(table, tenant, again, again_uuids)]
    search.hidden.difference_update(uuids)
    search.hidden.update(still)
    search.looked_at += len(uuids)
    search.after = uuids[-1]


def _write(
    table: Table, tenant: str, batch: pa.RecordBatch, uuids: Sequence[str],
    vectors: Mapping[str, FloatArray] | None,
) -> None:  # fmt: skip
    request = wire.batch_request(table.spec, table.layout, tenant, batch, uuids, vectors)
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


def _anywhere_missed(table: Table, tenant: str, batch: pa.RecordBatch, uuids: Sequence[str]) -> list[int]:
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
