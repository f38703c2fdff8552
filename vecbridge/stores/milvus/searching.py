"""How a search is asked, so that neither a filter nor rows that are growing cost neighbours.

What a server (2.3.5) misses of the true ten, if it is asked once, in 20,000 vectors of 128 dimensions in 64
clusters ("random": in as many random ones of 48 dimensions):

    sealed, HNSW, no filter   1 in 500
    sealed, HNSW, a filter    1 in 10 where the filter goes with a region of the space, at any ``ef``: the
                              walk passes through matches alone. Where it keeps one row in 20 or fewer, all
                              matches are compared, and nothing is missed.
    sealed, IVF               nothing, as all lists are visited under a filter
    growing, no filter        nothing; of random ones 4 in 10. An interim IVF answers, which visits 16 of 128
                              lists and takes no ``nprobe``
    growing, a filter         up to 9 in 10

So, under a filter, the nearest rows are asked for without it, and then which of them match: a graph that is
whole misses nothing. Among growing rows that is a *range search* without bounds, which does not stop at some
lists. It has a limit, too: it stops at lists that deletions have emptied. So its answer is not believed if
it lacks a hit of the usual search. What is still missing is read and compared by the front, if it is little.

milvus-lite walks as if there were no filter and leaves out what does not match: a longer walk helps, and
the fewer rows match, the longer it must be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from vecbridge.driver import SearchRequest, SearchResult
from vecbridge.indexes import HNSW, IVFPQ, IVFSQ8, SCANN, Auto, Flat, IVFFlat
from vecbridge.query import Hits
from vecbridge.schema import Metric
from vecbridge.stores.milvus import index_params
from vecbridge.stores.milvus.asking import Asker
from vecbridge.stores.milvus.readiness import Readiness

#: Matches that are read and compared where no index is sure to find the nearest: 0.5 to 1 s for so many.
READ_ROWS: Final = 20_000
#: Rows of a collection up to which a search may look at each of them while some are growing.
RANGE_ROWS: Final = 150_000
_FEW_ROWS: Final = 2_000
_COMPARED: Final = 20  # a filter that keeps one row in so many, or fewer: a server compares all that it keeps
_MOST_HITS: Final = 16_384  # of a query
_ANSWER_HITS: Final = 200_000
_NEAREST: Final = 160  # hits asked for without the filter at first, or four times k if that is more
_GROWTH: Final = 8
_PLENTY: Final = 100  # on milvus-lite: a walk has met enough if it met so many, or one row in so many
_LITE_SHARE: Final = 5  # on milvus-lite: a walk visits one row in so many
_LITE_LEAST_EF: Final = 1_024
_LITE_FEW: Final = 20  # on milvus-lite: a walk under a filter that keeps one row in so many visits all rows
_TOLERANCE: Final = 1e-5
_LISTED: Final = IVFFlat | IVFSQ8 | IVFPQ | SCANN
_RANGED: Final = Auto | HNSW | IVFFlat | IVFSQ8 | IVFPQ


class Searcher:
    """Searches one namespace.

    Args:
        asker: Sends its requests.
        readiness: Of the collection's indexes.
        seals: Whether rows reach an index in sealed segments: a server, not milvus-lite.
    """

    def __init__(self, asker: Asker, readiness: Readiness, *, seals: bool) -> None:
        self._asker = asker
        self._readiness = readiness
        self._seals = seals

    def search(self, request: SearchRequest) -> SearchResult:
        """The nearest rows, and which queries the front must compare with every match."""
        expression = self._asker.expression(request.filter)
        ask = self._way(request, expression)
        hits: list[Hits] = []
        unsure: list[int] = []
        at_once = max(1, _ANSWER_HITS // request.k)
        for start in range(0, len(request.vectors), at_once):
            part = replace(request, vectors=request.vectors[start : start + at_once])
            answer = ask(part, expression)
            hits += answer.hits
            unsure += [start + place for place in answer.unsure]
        return SearchResult(hits, unsure)

    def _way(self, request: SearchRequest, expression: str) -> Callable[[SearchRequest, str], SearchResult]:
        index = request.field.index
        graph = isinstance(index, Auto | HNSW)
        if index.quantized and not graph and expression:
            return self._compressed_matches
        if not self._seals:
            return self._walked if graph and expression else self._usual
        if isinstance(index, Flat):
            return self._usual
        if not self._readiness.sealed(request.deadline):
            return self._growing_matches if expression else self._growing
        return self._sealed_matches if graph and expression else self._usual

    def _usual(self, request: SearchRequest, expression: str) -> SearchResult:
        """One request; what comes back short is asked again with the widest knob; unsure if it stays so."""
        params = self._params(request, filtered=bool(expression))
        hits = self._asker.hits(request, expression, params)
        if min(map(len, hits)) >= request.k:
            return SearchResult(hits)
        wanted = self._wanted(request, expression)
        short = _shorter(hits, wanted)
        wider = index_params.widest(request.field.index, request.k)
        if short and wider and wider != params:
            again = self._asker.hits(_some(request, short), expression, wider)
            for place, line in zip(short, again, strict=True):
                hits[place] = max(hits[place], line, key=len)
        return SearchResult(hits, _shorter(hits, wanted))

    def _compressed_matches(self, request: SearchRequest, expression: str) -> SearchResult:
        """With a filter, through lists of compressed vectors: few matches are compared whole."""
        if self._asker.count(expression, request.deadline) <= _FEW_ROWS:
            return SearchResult(self._asker.nothing(request), range(len(request.vectors)))
        return self._usual(request, expression)

    def _wanted(self, request: SearchRequest, expression: str) -> int:
        """How many hits there should be."""
        if self._seals:
            return min(request.k, self._asker.count(expression, request.deadline))
        return len(self._asker.some_keys(expression, request.k, request.deadline))  # it counts by reading all

    def _sealed_matches(self, request: SearchRequest, expression: str) -> SearchResult:
        """Through a graph, of rows that are all in it."""
        found, matches = self._among_nearest(request, expression, {})
        missing = _absent(found)
        if not missing:
            return SearchResult(_present(found))
        hits = [line if line is not None else self._asker.nothing(request)[0] for line in found]
        compared = matches * _COMPARED <= self._readiness.rows(request.deadline)
        if matches <= READ_ROWS and not compared:
            return SearchResult(hits, missing)
        usual = self._usual(_some(request, missing), expression)
        for place, line in zip(missing, usual.hits, strict=True):
            hits[place] = line
        return SearchResult(hits, [missing[place] for place in usual.unsure])

    def _growing(self, request: SearchRequest, expression: str) -> SearchResult:
        """Without a filter, of rows some of which are growing."""
        usual = self._usual(request, expression)
        rows = self._readiness.rows(request.deadline)
        if rows > RANGE_ROWS or not isinstance(request.field.index, _RANGED):
            return usual
        params = {**self._params(request, filtered=False), **index_params.unbounded(request.field.metric)}
        return surest(request, usual, self._asker.hits(request, expression, params), rows)

    def _growing_matches(self, request: SearchRequest, expression: str) -> SearchResult:
        """With a filter, of rows some of which are growing."""
        everyone = range(len(request.vectors))
        rows = self._readiness.rows(request.deadline)
        matches = self._asker.count(expression, request.deadline)
        if matches <= _FEW_ROWS and matches * _COMPARED <= rows:
            return SearchResult(self._asker.nothing(request), everyone)
        usual = self._usual(request, expression)
        if rows > RANGE_ROWS or not isinstance(request.field.index, _RANGED):
            return usual if matches > READ_ROWS else SearchResult(usual.hits, everyone)
        unbounded = index_params.unbounded(request.field.metric)
        found, matches = self._among_nearest(request, expression, unbounded, matches)
        return surest(request, usual, found, matches)

    def _among_nearest(
        self, request: SearchRequest, expression: str, range: Mapping[str, float], matches: int | None = None
    ) -> tuple[list[Hits | None], int]:
        """The matches among the nearest of all rows, where there are k; they have no records.

        Args:
            request: With a filter.
            expression: Its rows.
            range: Parameters beside the knobs.
            matches: How many there are, if that is known.

        Returns:
            The hits of each query, None where they would take longer to find than all matches to read; and
            how many matches there are, -1 if that was not asked.
        """
        found: list[Hits | None] = [None] * len(request.vectors)
        rows, nearest = self._readiness.rows(request.deadline), max(_NEAREST, 4 * request.k)
        while True:
            nearest = max(min(nearest, rows, _MOST_HITS), request.k)
            self._fill(found, replace(request, k=nearest, columns=None), request.k, range)
            missing = _absent(found)
            if not missing:
                return found, -1 if matches is None else matches
            if matches is None:
                matches = self._asker.count(expression, request.deadline)
            done, nearest = nearest, nearest * _GROWTH
            if (
                done >= min(rows, _MOST_HITS)
                or nearest > 2 * matches
                or matches * _COMPARED <= rows
                or len(missing) * nearest > _ANSWER_HITS
            ):
                return found, matches

    def _fill(
        self, found: list[Hits | None], request: SearchRequest, k: int, range: Mapping[str, float]
    ) -> None:
        """Fills in the hits of the queries that have none yet, where k of the nearest rows match."""
        missing = _absent(found)
        asked = replace(_some(request, missing), ef=max(request.ef or 0, request.k, index_params.DEFAULT_EF))
        lines = self._asker.lines(asked, {**self._params(asked, filtered=False), **range})
        everyone = {key for keys, _ in lines for key in keys}
        matching = self._asker.matching(everyone, request.filter, request.deadline)
        for place, (keys, scores) in zip(missing, lines, strict=True):
            kept = [number for number, key in enumerate(keys) if key in matching][:k]
            if len(kept) == k:
                found[place] = self._asker.bare(([keys[number] for number in kept], scores[kept]))

    def _params(self, request: SearchRequest, *, filtered: bool) -> dict[str, int]:
        index = request.field.index
        return index_params.search_params(
            index, request.k, request.ef, request.nprobe,
            filtered=filtered,
            rows=self._readiness.rows(request.deadline) if isinstance(index, _LISTED) else 0,
        )  # fmt: skip

    def _walked(self, request: SearchRequest, expression: str) -> SearchResult:
        """Through a graph of milvus-lite, under a filter.

        The walk is long, and more hits are asked for. Where it met plenty of matches it has passed the
        nearest ones. Where it met few, all are read if that is little; else the walk is through all rows.
        """
        k, rows = request.k, self._readiness.rows(request.deadline)
        matches = self._asker.count(expression, request.deadline)
        plenty = min(max(_PLENTY, rows // _PLENTY, 4 * k), _MOST_HITS)
        longest = max(min(rows, 2 * _MOST_HITS), plenty)
        # the nearest of few matches are far from the query, and not every cluster on the way there is met
        wanted = max(rows // _LITE_SHARE, rows * rows // (_LITE_FEW * max(matches, 1)), _LITE_LEAST_EF)
        breadth = max(request.ef or 0, min(wanted, longest), plenty)
        hits = self._asker.hits(replace(request, k=plenty), expression, {"ef": breadth})
        met = list(map(len, hits))
        doubtful = _shorter(hits, plenty)
        hits = [_first(line, k) for line in hits]
        if not doubtful:
            return SearchResult(hits)
        if matches <= _FEW_ROWS:
            return SearchResult(hits, [place for place in doubtful if met[place] < matches])
        if breadth >= longest:
            return SearchResult(hits)
        again = self._asker.hits(_some(request, doubtful), expression, {"ef": longest})
        for place, line in zip(doubtful, again, strict=True):
            hits[place] = line
        return SearchResult(hits)


def surest(
    request: SearchRequest, usual: SearchResult, others: Sequence[Hits | None], matches: int
) -> SearchResult:
    """The other hits, where none of the usual ones is missing among them; else all matches are to be read.

    Where those are too many, the usual hits stay.
    """
    metric = request.field.metric
    pairs = list(zip(usual.hits, others, strict=True))
    doubtful = [place for place, (known, line) in enumerate(pairs) if not _covers(line, known, metric)]
    hits = [known if line is None else line for known, line in pairs]
    if matches <= READ_ROWS:
        return SearchResult(hits, doubtful)
    for place in doubtful:
        hits[place] = usual.hits[place]
    return SearchResult(hits, [place for place in usual.unsure if place in doubtful])


def _covers(hits: Hits | None, others: Hits, metric: Metric) -> bool:
    """Whether each hit is at least as good as the other one of its rank."""
    if hits is None or len(hits) < len(others):
        return False
    ahead = others.scores - hits.scores[: len(others)]
    ahead = ahead if metric.higher_is_better else -ahead
    return bool(np.all(ahead <= _TOLERANCE * np.maximum(1, np.abs(others.scores))))


def _some(request: SearchRequest, places: Sequence[int]) -> SearchRequest:
    """The same search for some of its queries."""
    return replace(request, vectors=np.ascontiguousarray(request.vectors[list(places)]))


def _shorter(hits: Sequence[Hits], wanted: int) -> list[int]:
    return [place for place, line in enumerate(hits) if len(line) < wanted]


def _absent(found: Sequence[Hits | None]) -> list[int]:
    return [place for place, line in enumerate(found) if line is None]


def _present(found: Sequence[Hits | None]) -> list[Hits]:
    return [line for line in found if line is not None]


def _first(hits: Hits, k: int) -> Hits:
    records = None if hits.records is None else hits.records.slice(0, k)
    return Hits(hits.ids[:k], hits.scores[:k], records)
