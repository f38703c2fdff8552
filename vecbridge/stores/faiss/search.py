"""How a query is answered: by the index where that loses nothing, by the rows themselves where it would.

At default knobs the recall under a filter stays at 0.95 or above. Within each index

- up to ``EXACT_ROWS`` matches are compared, every one;
- the graph is searched for matches where enough of the rows around the query match: ``GRAPH_FROM``;
- else, or where the graph must have missed some, the lists of the rows are visited, the most promising ones
  first: :mod:`.walk`.

Rows that no index covers yet are compared, every one that matches.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from vecbridge.driver import SearchRequest
from vecbridge.query import FloatArray
from vecbridge.schema import Metric
from vecbridge.stores.faiss import exact
from vecbridge.stores.faiss.exact import Candidates, FieldVectors
from vecbridge.stores.faiss.indexes import Loaded
from vecbridge.stores.faiss.log import Rows
from vecbridge.stores.faiss.rows import Mask, Snapshot
from vecbridge.stores.faiss.selections import Selection
from vecbridge.stores.faiss.walk import Walk

EXACT_ROWS: Final = 4096
GRAPH_FROM: Final = 0.3  # share of the rows around a query that match, from which the graph finds them
_SHARES: Final = 16  # queries of the same sixteenth of that share search the graph together
_COMPARED_PER_EF: Final = 32  # matches that a walk compares at least for each unit of an explicit ``ef``
_AT_ONCE: Final = 256  # queries whose order of the lists is in memory at the same time
_FETCH_LIMIT: Final = 4096
_NARROWEST: Final = 0.25  # share of live rows below which no more lists are visited
_NEARLY_ALL: Final = 0.9  # share of live rows from which a search is as broad as it was asked to be
_LONG: Final = 100.0  # product of lengths from which float32 dot products are off by more than 1e-5


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
        candidates = exact.search_rows(stored, queries, k, selection.rows)
        rough = False
    elif selection is not None:
        candidates = _matching(query, queries, snapshot, stored, indexes, selection, k)
        rough = query.field.index.quantized
    else:
        candidates = _with_indexes(query, queries, snapshot, stored, indexes, k)
        rough = query.field.index.quantized
    if rough or (stored.metric is Metric.DOT and _long(stored, queries, snapshot, query.field.name)):
        return exact.rescored(stored, queries, candidates, k)
    return candidates.first(k)


def _with_indexes(
    query: SearchRequest,
    queries: FloatArray,
    snapshot: Snapshot,
    stored: FieldVectors,
    indexes: list[Loaded],
    k: int,
) -> Candidates:
    """The best live rows."""
    allowed = snapshot.live
    wanted = 4 * k + 64 if query.field.index.quantized else k
    if len(indexes) == 1 and indexes[0].rows == snapshot.live_rows == snapshot.total:
        candidates = _ask(indexes[0], queries, query, min(wanted, snapshot.total), snapshot.total, allowed)
        if candidates.full:  # the common case, and nothing to merge
            return candidates
    parts = []
    short = np.zeros(len(queries), np.bool_)
    for index in indexes:
        stop = index.first + index.rows
        some = allowed[index.first : stop]
        count = index.rows if snapshot.live_rows == snapshot.total else int(some.sum())
        part = _ask(index, queries, query, min(wanted, count), count, allowed)
        short |= (part.rows >= 0).sum(axis=1) < min(k, count)
        parts.append(part)
    covered = indexes[-1].first + indexes[-1].rows if indexes else 0
    if covered < snapshot.total:
        parts.append(exact.search_range(stored, queries, wanted, covered, snapshot.total, allowed))
    candidates = exact.merged(parts, wanted)
    if short.any():
        again = np.flatnonzero(short)
        surely = exact.search_range(stored, queries[again], wanted, 0, snapshot.total, allowed)
        candidates = _replaced(candidates, again, surely.first(wanted))
    return candidates


def _matching(
    query: SearchRequest,
    queries: FloatArray,
    snapshot: Snapshot,
    stored: FieldVectors,
    indexes: list[Loaded],
    selection: Selection,
    k: int,
) -> Candidates:
    """The best rows that match a filter."""
    parts = [_matching_of(index, query, queries, stored, selection, k) for index in indexes]
    covered = indexes[-1].first + indexes[-1].rows
    if covered < snapshot.total:
        behind = np.flatnonzero(selection.allowed[covered:]) + covered
        if len(behind):
            parts.append(exact.search_rows(stored, queries, k, behind))
    return exact.merged(parts, max(k, *(part.rows.shape[1] for part in parts)))


def _matching_of(
    index: Loaded,
    query: SearchRequest,
    queries: FloatArray,
    stored: FieldVectors,
    selection: Selection,
    k: int,
) -> Candidates:
    """The best matches within an index."""
    part = selection.within(index)
    count = len(part.rows)
    k = min(k, count)
    if k == 0:
        return Candidates.none(len(queries))
    asked = query.ef if index.is_graph else query.nprobe
    if count == index.rows:
        wanted = min(4 * k + 64 if query.field.index.quantized else k, count)
        candidates = index.search(queries, wanted, index.default_breadth(k) if asked is None else asked)
        short = np.flatnonzero((candidates.rows >= 0).sum(axis=1) < k)
        if len(short):
            surely = exact.search_rows(stored, queries[short], k, part.rows)
            candidates = _replaced(candidates, short, surely)
        return candidates
    if index.lists is None or part.starts is None or count <= EXACT_ROWS:
        return exact.search_rows(stored, queries, k, part.rows)
    return _by_lists(index, queries, stored, selection, k, asked)


def _by_lists(
    index: Loaded, queries: FloatArray, stored: FieldVectors, selection: Selection, k: int, asked: int | None
) -> Candidates:
    """The best matches within an index, by the graph or by the lists as each query is better served.

    Args:
        index: The index.
        queries: As prepared.
        stored: The vectors.
        selection: The matches.
        k: How many.
        asked: The ef or nprobe of the query. At least as large a share of the matches is compared as nprobe
            is of the lists of the index.
    """
    if len(queries) > _AT_ONCE:
        some = [queries[low : low + _AT_ONCE] for low in range(0, len(queries), _AT_ONCE)]
        parts = [_by_lists(index, each, stored, selection, k, asked) for each in some]
        distances = np.concatenate([each.distances for each in parts])
        return Candidates(np.concatenate([each.rows for each in parts]), distances)
    part = selection.within(index)
    assert index.lists is not None
    assert part.starts is not None
    assert part.counts is not None
    walks = [Walk(index.lists, stored, query) for query in queries]
    rows, distances = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
    by_graph: dict[int, list[int]] = {}  # ef: the queries that search the graph with it
    if index.is_graph:
        breadth = index.default_breadth(k) if asked is None else max(asked, k)
        for line, walk in enumerate(walks):
            share = walk.share_nearby(part.counts)
            if share >= GRAPH_FROM:
                least_share = math.floor(share * _SHARES) / _SHARES
                by_graph.setdefault(math.ceil(breadth / least_share**0.5), []).append(line)
    to_walk = set(range(len(queries)))
    for ef, lines in by_graph.items():
        those = queries if len(lines) == len(queries) else queries[lines]
        found = index.search(those, k, ef, selection.selector(index))
        rows[lines], distances[lines] = found.rows, found.distances
        full, worst = (found.rows[:, -1] >= 0).tolist(), found.distances[:, -1].tolist()
        to_walk -= {
            line
            for line, is_full, last in zip(lines, full, worst, strict=True)
            if is_full and not walks[line].doubts(k, last, part.counts)
        }
    least = 0
    if asked is not None:
        least = _COMPARED_PER_EF * asked if index.is_graph else index.share(asked, len(part.rows))
    for line in to_walk:
        found = walks[line].best(k, part.rows, part.starts, least)
        rows[line], distances[line] = found.rows[0], found.distances[0]
    return Candidates(rows, distances)


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
