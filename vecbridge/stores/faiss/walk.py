"""The best matches of a filter, list by list: those lists first whose rows should be the nearest.

The rows of a list that match are compared one by one. After each step, what was found is held against what
the lists that are left should hold: how many of their matches are expected to be nearer than the k-th best
that was found, by the mean and the deviation of their distances (:func:`.lists.expected`). The search
ends when so few are expected that recall does not suffer. So it ends soon where many matches are near the
query, and goes on where all of them are far, because their distances hardly differ then.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vecbridge.query import FloatArray
from vecbridge.stores.faiss import exact
from vecbridge.stores.faiss.exact import Candidates, FieldVectors
from vecbridge.stores.faiss.lists import Lists, expected
from vecbridge.stores.faiss.log import Rows

_LEAST_ROWS: Final = 3584  # matches that are compared at least: clusters are no Gaussians near the query
_MISSED: Final = 0.04  # share of the k best that may be expected in lists that are left
_GROWTH: Final = 1.5  # of the number of matches that were compared, from step to step
_OPTIMISM: Final = 2.5  # deviations below the mean at which a list's best row is expected
_EXCESS_FAR: Final = 0.5  # exponent: queries far from the rows see less excess than those amid them
_NEAR: Final = 8  # lists around a query that tell how dense the matches are there
_NEAREST_ROWS: Final = 100  # rows around a query that tell it, too
_PLAUSIBLE: Final = 2.0  # times k: so many matches are expected within the distance of the k-th best, at most


class Walk:
    """A search from one query.

    Args:
        lists: Of the segment.
        stored: The vectors.
        query: As prepared, of shape (dim,).
    """

    def __init__(self, lists: Lists, stored: FieldVectors, query: FloatArray) -> None:
        self._lists = lists
        self._stored = stored
        self._query = query
        self._means, self._deviations = lists.predicted(query, stored.metric)
        self._hopes = self._means - _OPTIMISM * self._deviations  # the least distance to be hoped for

    def share_nearby(self, counts: Rows) -> float:
        """The share of the rows around the query that match: the least of the next rows and of some lists.

        Args:
            counts: How many rows of each list match.
        """
        hopes = self._hopes
        near = hopes.argpartition(_NEAR)[:_NEAR] if len(hopes) > _NEAR else np.arange(len(hopes))
        near = near[hopes[near].argsort()]
        sizes, matches = self._lists.sizes[near].tolist(), counts[near].tolist()
        least, passed, matching = 1.0, 0, 0
        for size, count in zip(sizes, matches, strict=True):
            passed, matching = passed + size, matching + count
            if passed >= _NEAREST_ROWS:
                least = min(least, matching / passed)
        return least if passed >= _NEAREST_ROWS else matching / max(1, passed)

    def doubts(self, k: int, worst: float, counts: Rows) -> bool:
        """Whether a search that ended with a k-th best at some distance must have missed better matches.

        Args:
            k: How many were found.
            worst: The distance of the last.
            counts: How many rows of each list match.
        """
        some = expected(counts, self._means, self._deviations, worst)
        return some > _PLAUSIBLE * k * self._lists.excess_at(k)

    def best(self, k: int, rows: Rows, starts: Rows, least: int = 0) -> Candidates:
        """The best k matches.

        Args:
            k: How many; no more than there are.
            rows: The matches, list by list.
            starts: Where each list begins in ``rows``.
            least: How many matches to compare at least, where that is more than usual.
        """
        counts = np.diff(starts)
        order = np.flatnonzero(counts)
        order = order[self._hopes[order].argsort()]
        ends = counts[order].cumsum()
        begins, stops = starts[order], starts[order + 1]
        best = Candidates.none(1)
        few = _MISSED * k * self._lists.excess_at(k) ** _EXCESS_FAR
        done, wanted = 0, max(_LEAST_ROWS, least, 2 * k)
        while done < len(order):
            upto = min(int(np.searchsorted(ends, wanted)) + 1, len(order))
            pairs = zip(begins[done:upto].tolist(), stops[done:upto].tolist(), strict=True)
            some = np.concatenate([rows[start:stop] for start, stop in pairs])
            found = exact.search_rows(self._stored, self._query[None], k, some)
            best = exact.merged([best, found], k + exact.SPARE) if done else found
            done = upto
            if done < len(order) and best.rows.shape[1] >= k:
                worst = float(best.distances[0, k - 1])
                left = order[done:]
                if expected(counts[left], self._means[left], self._deviations[left], worst) <= few:
                    break
            wanted = int(ends[done - 1] * _GROWTH) + 1
        return best.first(k)
