"""How a query is answered: by the index where that loses nothing, exactly where it would.

A filter never costs recall. Up to ``EXACT_ROWS`` matches every one of them is compared. Above, the index
is asked for so many neighbours that k matches should be among them; if k are, they are the best that the
index knows of; if not (a filter that keeps away from the query's region), every match is compared.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import faiss
import numpy as np

from vecbridge.driver import SearchRequest
from vecbridge.filters import Filter
from vecbridge.query import FloatArray
from vecbridge.schema import Metric
from vecbridge.stores.faiss import exact, masks
from vecbridge.stores.faiss.exact import Candidates, Distances, FieldVectors
from vecbridge.stores.faiss.indexes import Loaded
from vecbridge.stores.faiss.log import Rows
from vecbridge.stores.faiss.rows import Mask, Snapshot

EXACT_ROWS: Final = 32_768
_COMPRESSED_FROM: Final = 2048  # matches of a filter that comes again
_MASKS_KEPT: Final = 16
_MASKS_BYTES: Final = 256 << 20
_FETCH_LIMIT: Final = 4096
_NARROWEST: Final = 0.25  # share of matches below which no more lists are visited
_NEARLY_ALL: Final = 0.9  # share of live rows from which a search is as broad as it was asked to be
_LONG: Final = 100.0  # product of lengths from which float32 dot products are off by more than 1e-5


@dataclass(slots=True, eq=False)
class Selection:
    """The rows that match a filter.

    Attributes:
        allowed: bool (total,).
        count: How many there are.
        uses: How often it was asked for.
        compressed: By vector field, the matches at 8 bits a component, for filters that come again.
    """

    allowed: Mask
    count: int
    uses: int = 0
    compressed: dict[str, Any] = field(default_factory=dict)
    _rows: Rows | None = None

    @property
    def rows(self) -> Rows:
        """The same as row numbers; kept where they are few."""
        if self._rows is not None:
            return self._rows
        rows = np.flatnonzero(self.allowed)
        if self.count <= EXACT_ROWS:
            self._rows = rows
        return rows


class Selections:
    """The filters that were used last on one snapshot."""

    def __init__(self) -> None:
        self._of: tuple[Snapshot | None, OrderedDict[Filter, Selection]] = None, OrderedDict()

    def get(self, filter: Filter, snapshot: Snapshot) -> Selection:
        """The rows that match a normalized filter.

        It takes no lock: each step is one operation of a dict. Threads that meet here may evaluate a filter
        twice, or count a use less, which does no harm.
        """
        known, selections = self._of
        if known is not snapshot:
            self._of = snapshot, selections = snapshot, OrderedDict()
        selection = selections.pop(filter, None)
        if selection is None:
            allowed = masks.mask(filter, snapshot)
            selection = Selection(allowed, int(np.count_nonzero(allowed)))
        selection.uses += 1
        selections[filter] = selection  # as the last one
        most = max(1, min(_MASKS_KEPT, _MASKS_BYTES // max(1, snapshot.total)))
        while len(selections) > most:
            with suppress(KeyError):  # another thread removed the last one
                selections.popitem(last=False)
        return selection


def search(
    query: SearchRequest,
    snapshot: Snapshot,
    stored: FieldVectors,
    indexes: list[Loaded],
    selection: Selection | None,
) -> Candidates:
    """The best rows of each query vector.

    Args:
        query: What is asked.
        snapshot: The rows.
        stored: The vectors of the field that is searched.
        indexes: Its indexes, adjacent from row 0 on.
        selection: The matches of the filter, or None without one.

    Returns:
        Rows of shape (n, at most k), best first, padded with -1, and their distances.
    """
    queries = stored.prepare(query.vectors)
    matching = snapshot.live_rows if selection is None else selection.count
    k = min(query.k, matching)
    if k == 0:
        return Candidates.none(len(queries))
    if _overflows(stored, queries, snapshot, query.field.name):
        rows = np.flatnonzero(snapshot.live) if selection is None else selection.rows
        return exact.search_wide(stored, queries, k, rows)
    if selection is not None and (matching <= EXACT_ROWS or not indexes):
        candidates = _among(selection, query.field.name, stored, queries, k)
        rough = False
    else:
        candidates = _with_indexes(query, queries, snapshot, stored, indexes, selection, k)
        rough = query.field.index.quantized
    if rough or (stored.metric is Metric.DOT and _long(stored, queries, snapshot, query.field.name)):
        return exact.rescored(stored, queries, candidates, k)
    return candidates.first(k)


def _among(selection: Selection, name: str, stored: FieldVectors, queries: FloatArray, k: int) -> Candidates:
    """The best matches, by comparing them all: compressed where that is sure to lose none."""
    count = len(selection.rows)
    if selection.uses < 2 or not max(_COMPRESSED_FROM, 8 * k) <= count <= EXACT_ROWS:
        return exact.search_rows(stored, queries, k, selection.rows)
    codes = selection.compressed.get(name)
    if codes is None:
        vectors = stored.prepare(stored.values[selection.rows])
        metric = faiss.METRIC_L2 if stored.metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT
        codes = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_8bit, metric)
        codes.train(vectors)
        codes.add(vectors)
        selection.compressed[name] = codes
    distances, places = codes.search(queries, 2 * k + 16)
    if stored.metric is not Metric.L2:
        np.negative(distances, out=distances)
    candidates = exact.rescored(stored, queries, Candidates(selection.rows[places], distances), k)
    unsure = np.flatnonzero(
        ~(candidates.distances[:, -1] <= distances[:, -1] - _margin(codes, queries, distances[:, -1]))
    )
    if len(unsure):
        surely = exact.search_rows(stored, queries[unsure], k, selection.rows)
        candidates = _replaced(candidates, unsure, surely.first(k))
    return candidates


def _margin(codes: Any, queries: FloatArray, worst: Distances) -> FloatArray:
    """How far the distance of a compressed vector may be from the truth, for each query; shape (n,).

    Rounding errs by at most half a step in each component, independently; by Hoeffding's inequality
    (1963, doi:10.1080/01621459.1963.10500830) four times the root of the summed squares of the ranges
    is exceeded with a probability below e^-32.

    Args:
        codes: The compressed vectors.
        queries: As prepared.
        worst: The key of the last candidate; what is no candidate lies beyond it.
    """
    steps = faiss.vector_to_array(codes.sq.trained)[codes.d :] / 255
    margin: FloatArray
    if codes.metric_type == faiss.METRIC_L2:
        margin = 8 * steps.max() * np.sqrt(worst) + np.square(steps).sum() / 4
    else:
        margin = 4 * np.linalg.norm(queries * steps, axis=1)
    return margin


def _with_indexes(
    query: SearchRequest,
    queries: FloatArray,
    snapshot: Snapshot,
    stored: FieldVectors,
    indexes: list[Loaded],
    selection: Selection | None,
    k: int,
) -> Candidates:
    allowed = snapshot.live if selection is None else selection.allowed
    wanted = 4 * k + 64 if query.field.index.quantized else k
    if len(indexes) == 1 and indexes[0].rows == snapshot.live_rows == snapshot.total and selection is None:
        candidates = _ask(indexes[0], queries, query, min(wanted, snapshot.total), snapshot.total, allowed)
        if candidates.full:  # the common case, and nothing to merge
            return candidates
    parts = []
    short = np.zeros(len(queries), np.bool_)
    for index in indexes:
        stop = index.first + index.rows
        some = allowed[index.first : stop]
        count = index.rows if selection is None and snapshot.live_rows == snapshot.total else int(some.sum())
        part = _ask(index, queries, query, min(wanted, count), count, allowed)
        short |= (part.rows >= 0).sum(axis=1) < min(k, count)
        parts.append(part)
    covered = indexes[-1].first + indexes[-1].rows if indexes else 0
    if covered < snapshot.total:
        parts.append(exact.search_range(stored, queries, wanted, covered, snapshot.total, allowed))
    candidates = exact.merged(parts, wanted)
    if short.any():
        again = np.flatnonzero(short)
        if selection is None:
            surely = exact.search_range(stored, queries[again], wanted, 0, snapshot.total, allowed)
        else:
            surely = exact.search_rows(stored, queries[again], wanted, selection.rows)
        candidates = _replaced(candidates, again, surely.first(wanted))
    return candidates


def _ask(
    index: Loaded, queries: FloatArray, query: SearchRequest, k: int, count: int, allowed: Mask
) -> Candidates:
    """The best k allowed rows of an index, fewer where it did not meet that many."""
    if k == 0:
        return Candidates.none(len(queries))
    asked = query.ef if index.is_graph else query.nprobe
    breadth = asked if asked is not None else index.default_breadth(k)
    if count == index.rows:
        return index.search(queries, k, breadth)
    share = count / index.rows
    fetch = min(math.ceil(2 * k / share) + 16, index.rows)
    if fetch > _FETCH_LIMIT:
        return Candidates.none(len(queries))
    wider = max(breadth, fetch) if index.is_graph else math.ceil(breadth / max(share, _NARROWEST))
    candidates = index.search(queries, fetch, breadth if share > _NEARLY_ALL else wider)
    rows = np.where((candidates.rows >= 0) & allowed[candidates.rows], candidates.rows, -1)
    distances = np.where(rows < 0, np.float32(np.inf), candidates.distances)
    return exact.merged([Candidates(rows, distances)], k)


def _replaced(candidates: Candidates, lines: Rows, other: Candidates) -> Candidates:
    """Some lines of the one taken from the other, which may be narrower."""
    width, narrow = candidates.rows.shape[1], other.rows.shape[1]
    rows = np.full((len(candidates.rows), max(width, narrow)), -1, np.int64)
    distances = np.full(rows.shape, np.inf, np.float32)
    rows[:, :width], distances[:, :width] = candidates.rows, candidates.distances
    rows[lines], distances[lines] = -1, np.inf
    rows[lines, :narrow], distances[lines, :narrow] = other.rows, other.distances
    return Candidates(rows, distances)


def _overflows(stored: FieldVectors, queries: FloatArray, snapshot: Snapshot, name: str) -> bool:
    """Whether a float32 could become infinite on the way to a score; indexes know nothing of such rows."""
    if stored.metric is Metric.COSINE:
        return snapshot.longest[name] > exact.LONGEST_COSINE
    longest = max(snapshot.longest[name], float(np.abs(queries).max()) * math.sqrt(queries.shape[1]))
    return longest > exact.LONGEST


def _long(stored: FieldVectors, queries: FloatArray, snapshot: Snapshot, name: str) -> bool:
    longest = float(np.linalg.norm(queries, axis=1).max())
    return snapshot.longest[name] * longest > _LONG
