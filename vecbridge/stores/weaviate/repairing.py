"""Finding and writing again the rows that are missing in the graph; ``mending`` says why there are any.

A row is written again with one bit of its vector changed, which makes the server index it anew, and then as
it is. Deleting it first would do as well, and would lose an acknowledged row if this process died in between.

A row that is not found in the last round either is hardly a victim of the crash: HNSW itself leads to no row
all of whose neighbours have enough nearer ones, however often it is written. :func:`repair` logs how many.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.driver import Deadline
from vecbridge.query import FloatArray
from vecbridge.stores.weaviate import errors, expressions, wire
from vecbridge.stores.weaviate.mending import Graph, Progress
from vecbridge.stores.weaviate.table import Deadlines, Table

_NEIGHBOURS: Final = 10
_PAGE_ROWS: Final = 500
_REQUEST_SECONDS: Final = 30.0
_SEARCHES: Final = 100  # that have the deadline of one request
_ROUNDS: Final = 3

_log = logging.getLogger(__name__)


def unindexed(
    table: Table, graph: Graph, batch: pa.RecordBatch, uuids: Sequence[str], deadlines: Deadlines
) -> list[int]:
    """Positions of the rows that have to be written twice.

    Args:
        table: Where they are about to be written.
        graph: What is known of its graph.
        batch: The rows.
        uuids: Of the rows.
        deadlines: Of the requests; the first call may send many, to list the rows of the namespace.
    """
    left: set[str] = set()
    if not graph.leftovers_sought:
        left.update(_unlisted(table, deadlines))
    if not graph.fresh:
        left |= _leftovers(table, batch, uuids, deadlines)
    if left:
        graph.mark_doubtful(left)
        graph.mark_suspect()
    graph.leftovers_sought = True
    doubtful = graph.doubtful(uuids)
    return [row for row, uuid in enumerate(uuids) if uuid in doubtful]


def write_changed(table: Table, batch: pa.RecordBatch, uuids: Sequence[str], deadline: Deadline) -> None:
    """Writes rows with one bit of each vector changed, so that writing them as they are indexes them anew.

    Raises:
        VecbridgeError: What the server says of the first that it did not take.
    """
    _write(table, batch, uuids, deadline, _changed(table, batch))


def repair(table: Table, graph: Graph, deadline: Deadline) -> int:
    """Searches for every row by its own vector, and writes those twice that are not found; how many.

    Rows that are written late may take the last link of others, or need others that lead to them: all rows
    are searched for again, three times at most, until all are found, or the graph proves too sparse to lead
    to what it is given. It goes on where a call before ran out of time. Writes of this process wait
    meanwhile, a page at a time.

    Raises:
        DeadlineError: Says how far it came.
        SchemaError: Fields were added since the collection was opened.
    """
    name, progress = table.spec.name, graph.progress
    before = progress.examined
    while True:
        with graph.lock.exclusive(deadline):
            if not _repair_page(table, progress):
                if not progress.worth_another_round or progress.round == _ROUNDS:
                    break
                progress.begin_another()
        looked = f"{progress.examined - before:,} rows were searched for by their own vectors"
        deadline.pause(0, f"the graph of {name!r} is repaired: {looked}; call again to go on")
    graph.progress = Progress()
    if progress.written:
        _log.warning(
            "%s: %d rows were found by no search for their own vector, and were written again",
            name, len(progress.written),
        )  # fmt: skip
    if progress.hidden:
        _log.warning(
            "%s: %d of them are still not found: this graph leads to no row that stands so far from the "
            "others; one with a larger m does (HNSW)",
            name, len(progress.hidden),
        )  # fmt: skip
    return len(progress.written)


def _repair_page(table: Table, progress: Progress) -> bool:
    """Searches for the rows of the next page, and writes those twice that are not found; False at the end.

    Deadlines are its own: a row must not stay as :func:`write_changed` leaves it when the caller's is over.
    """
    deadlines = partial(Deadline.after, _REQUEST_SECONDS)
    columns, after = table.spec.column_names[1:], (progress.after, "")
    pages = table.pages(columns, rows=_PAGE_ROWS, deadlines=deadlines, bounds=after, limit=1)
    if (page := next(pages, None)) is None:
        return False
    fit, _ = page.fitting(table.spec, None)  # what has no vector is in no graph
    batch, uuids = fit.batch(table.spec, None), fit.uuids()
    rows = _missed_in_any_field(table, batch, uuids, deadlines)
    still_missed: list[str] = []
    if rows:
        table.require_all_fields(deadlines())
        again, again_uuids = batch.take(pa.array(rows)), [uuids[row] for row in rows]
        write_changed(table, again, again_uuids, deadlines())
        _write(table, again, again_uuids, deadlines())
        progress.missed += len(rows)
        progress.written.update(again_uuids)
        still_missed = [
            again_uuids[row] for row in _missed_in_any_field(table, again, again_uuids, deadlines)
        ]
    progress.hidden.difference_update(uuids)
    progress.hidden.update(still_missed)
    progress.examined += len(uuids)
    progress.after = page.last_uuid
    return True


def _write(
    table: Table, batch: pa.RecordBatch, uuids: Sequence[str], deadline: Deadline,
    changed: Mapping[str, FloatArray] | None = None,
) -> None:  # fmt: skip
    request = wire.batch_request(table.spec, table.layout, table.tenant, batch, uuids, changed)
    if refused := table.write(request, deadline):
        row, error = next(iter(refused.items()))
        key = batch.column("id")[row].as_py()
        raise errors.of_text(error, f"index row {key!r} of {table.spec.name!r} anew")


def _changed(table: Table, batch: pa.RecordBatch) -> dict[str, FloatArray]:
    """By vector field, the vectors of a batch with the last bit of their first component changed."""
    result = {}
    for vector in table.spec.vectors:
        values = records.vectors(batch, vector.name).copy()
        values[:, 0] = np.nextafter(values[:, 0], np.float32(0 if vector.dim > 1 else np.inf))
        was_zero = values[:, 0] == records.vectors(batch, vector.name)[:, 0]
        values[was_zero, 0] = np.float32(1e-30)
        result[vector.name] = values
    return result


def _unlisted(table: Table, deadlines: Deadlines) -> list[str]:
    """UUIDs of rows that are stored and that the inverted index does not know."""
    if table.count(deadlines()) == table.count(deadlines(), expressions.any_uuid()):
        return []
    unlisted: list[str] = []
    for uuids in table.all_uuids(deadlines):
        listed = set(table.rows(uuids, None, deadlines()).uuids())
        unlisted += [uuid for uuid in uuids if uuid not in listed]
    return unlisted


def _leftovers(table: Table, batch: pa.RecordBatch, uuids: Sequence[str], deadlines: Deadlines) -> set[str]:
    """UUIDs of rows that are stored as they are about to be written, and that no search for them finds."""
    known = set(table.rows(uuids, None, deadlines()).uuids())
    rows = [row for row, uuid in enumerate(uuids) if uuid in known]
    names = [vector.name for vector in table.spec.vectors]
    step = table.page_rows(names)
    leftovers: set[str] = set()
    for start in range(0, len(rows), step):
        page = rows[start : start + step]
        stored = table.rows([uuids[row] for row in page], names, deadlines())
        position = {uuid: row for row, uuid in enumerate(stored.uuids())}
        for vector in table.spec.vectors:
            mine, theirs = records.vectors(batch, vector.name), stored.vectors(vector.name)
            same = [
                row
                for row in page
                if uuids[row] in position and mine[row].tobytes() == theirs[position[uuids[row]]]
            ]
            leftovers |= {uuids[row] for row in _missed(table, vector.name, mine, uuids, same, deadlines)}
    return leftovers


def _missed_in_any_field(
    table: Table, batch: pa.RecordBatch, uuids: Sequence[str], deadlines: Deadlines
) -> list[int]:
    """Those rows that a search for their own vector, in one of the vector fields, does not find."""
    missed: set[int] = set()
    for vector in table.spec.vectors:
        values = records.vectors(batch, vector.name)
        missed.update(_missed(table, vector.name, values, uuids, range(len(uuids)), deadlines))
    return sorted(missed)


def _missed(
    table: Table, name: str, vectors: FloatArray, uuids: Sequence[str], rows: Sequence[int],
    deadlines: Deadlines,
) -> list[int]:  # fmt: skip
    """Those of some rows that a search for their own vector does not find."""
    ask = partial(wire.search_request, table.layout, table.tenant, limit=_NEIGHBOURS, columns=None)
    what, missed = f"look into {table.spec.name!r}", []
    for start in range(0, len(rows), _SEARCHES):
        some = rows[start : start + _SEARCHES]
        requests = (ask(near=(name, vectors[row].astype("<f4").tobytes())) for row in some)
        answers = table.connection.grpc.call_each("Search", requests, deadlines(), what)
        for row, answer in zip(some, answers, strict=True):
            if uuids[row] not in table.answer(answer.results).uuids():
                missed.append(row)
    return missed
