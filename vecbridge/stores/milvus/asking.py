"""Single search requests of one namespace, and the keys and counts that searches need beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np

from vecbridge.driver import Deadline, SearchRequest
from vecbridge.filters import Filter
from vecbridge.query import FloatArray, Hits
from vecbridge.schema import CollectionSpec
from vecbridge.stores.milvus import expressions, index_params, wire
from vecbridge.stores.milvus.layout import Keys, Layout
from vecbridge.stores.milvus.table import Table

_KEYS_A_QUERY: Final = 10_000

#: Primary keys of the hits of one query, best first, and their scores.
Line = tuple[list[Any], FloatArray]


class Asker:
    """Sends the requests of searches.

    Args:
        table: The collection.
        layout: Where its columns are, as the handle knows it.
        keys: Primary keys of the namespace.
        spec: As the handle knows it.
    """

    def __init__(self, table: Table, layout: Layout, keys: Keys, spec: CollectionSpec) -> None:
        self._table = table
        self._layout = layout
        self._keys = keys
        self._spec = spec

    def expression(self, filter: Filter | None) -> str:
        """The rows of the namespace that match; "" is every row of the collection."""
        return expressions.scoped(self._layout, self._keys, filter)

    def hits(self, request: SearchRequest, expression: str, params: Mapping[str, float]) -> list[Hits]:
        """The hits of each query as the server answers them, with the columns that are asked for."""
        lines, fields = self._search(request, expression, params)
        rows = None
        if request.columns is not None:
            ids = self._keys.decode([key for keys, _ in lines for key in keys])
            rows = wire.Answer(fields, self._layout.pk).batch(self._spec, self._keys, request.columns, ids)
        hits, start = [], 0
        for line in lines:
            count = len(line[0])
            hits.append(self.bare(line, None if rows is None else rows.slice(start, count)))
            start += count
        return hits

    def bare(self, line: Line, rows: Any = None) -> Hits:
        """Keys and scores as hits."""
        keys, scores = line
        return Hits(self._keys.ids(keys), scores, rows)

    def nothing(self, request: SearchRequest) -> list[Hits]:
        """No hits."""
        return [self.bare(([], np.empty(0, np.float32)))] * len(request.vectors)

    def lines(self, request: SearchRequest, params: Mapping[str, float]) -> list[Line]:
        """The nearest rows of all namespaces, without columns."""
        return self._search(request, "", params)[0]

    def _search(
        self, request: SearchRequest, expression: str, params: Mapping[str, float]
    ) -> tuple[list[Line], Any]:
        columns, metric = request.columns, index_params.METRICS[request.field.metric]
        message = wire.search(
            request.field.name, request.vectors, request.k, params, expression,
            [] if columns is None else wire.output_fields(self._layout, columns),
            metric=metric, level=self._table.search_level,
        )  # fmt: skip
        results = self._table.read("Search", request.deadline, **message).results
        keys, scores = wire.key_list(results.ids), np.array(results.scores, np.float32)
        lines: list[Line] = []
        start = 0
        for count in results.topks or [0] * len(request.vectors):
            lines.append((list(keys[start : start + count]), scores[start : start + count]))
            start += count
        return lines, results.fields_data

    def count(self, expression: str, deadline: Deadline) -> int:
        """How many rows satisfy an expression, as searches see them."""
        return self._table.count(expression, deadline, level=self._table.search_level)

    def some_keys(self, expression: str, most: int, deadline: Deadline) -> Sequence[Any]:
        """Primary keys of rows that satisfy an expression, so many at most."""
        table, pk = self._table, self._layout.pk
        return table.query(expression, [pk], deadline, rows=most, level=table.search_level).keys()

    def matching(self, keys: Collection[Any], filter: Filter | None, deadline: Deadline) -> Collection[Any]:
        """Those of some primary keys that are of the namespace and whose rows match."""
        if (bounds := self._keys.bounds) is not None:
            keys = [key for key in keys if bounds[0] <= key < bounds[1]]
        if filter is None:
            return set(keys)
        wanted, found = list(keys), set[Any]()
        for start in range(0, len(wanted), _KEYS_A_QUERY):
            some = wanted[start : start + _KEYS_A_QUERY]
            these = expressions.of_keys(self._layout, some)
            expression = expressions.scoped(self._layout, self._keys, filter, these)
            found.update(self.some_keys(expression, len(some), deadline))
        return found
