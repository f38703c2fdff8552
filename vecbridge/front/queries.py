"""From a query and a filter, as people give them, to what a driver is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from vecbridge import filters
from vecbridge.capabilities import Capabilities
from vecbridge.driver import Columns
from vecbridge.errors import DimensionMismatchError, SchemaError, UnsupportedError
from vecbridge.filters import AnyFilter, Filter
from vecbridge.front.arguments import columns_of
from vecbridge.query import FloatArray, Hits, Ids, Query
from vecbridge.records import bad_vectors, require_same_embedder
from vecbridge.schema import CollectionSpec, Metric, VectorField

_MOST_SHAPES: Final = 64
Shape: TypeAlias = "tuple[str | None, int, int | None, int | None, str | tuple[str, ...], tuple[bool, bool]]"


class QueryResolver:
    """Checks queries against a collection.

    What does not depend on the vectors and the filter is remembered by the query's shape, so that the same
    kind of query is checked once.

    Args:
        spec: The collection's spec.
        capabilities: Of its server.
    """

    def __init__(self, spec: CollectionSpec, capabilities: Capabilities) -> None:
        self._spec = spec
        self._capabilities = capabilities
        self._json_columns = frozenset(field.name for field in spec.fields if field.type == "json")
        self._shapes: dict[Shape, tuple[VectorField, Columns | None]] = {}

    def target(self, query: Query) -> tuple[VectorField, Columns | None]:
        """The vector field that a query searches, and the columns of its hits (None: ids and scores alone).

        Raises:
            DimensionMismatchError: The query vectors have another length.
            SchemaError: NaN, Inf, a zero vector under cosine, an unknown column.
            EmbedderMismatchError: The query vectors are another model's.
            UnsupportedError: A knob that the index does not take, or a k that is too large.
        """
        include = query.include
        named = include if isinstance(include, str) else tuple(include)
        bounds = query.min_score is not None, query.max_distance is not None
        shape = (query.using, query.k, query.ef, query.nprobe, named, bounds)
        known = self._shapes.get(shape)
        if known is None:
            known = self._checked(query)
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            self._shapes[shape] = known
        field = known[0]
        vectors = query.vectors
        if vectors.shape[1] != field.dim:
            raise DimensionMismatchError(
                f"the query has {vectors.shape[1]} dimensions, and {field.name!r} has {field.dim}"
            )
        for row, problem in bad_vectors(vectors, field.metric)[:1] if len(vectors) else ():
            raise SchemaError(f"query vector {row} {problem}")
        if query.embedder is not None:
            require_same_embedder(field, query.embedder)
        return known

    def vectors(self, query: Query, field: VectorField) -> FloatArray:
        """The query vectors as the backend compares them right: under cosine, only their direction counts."""
        bounds = self._capabilities.vector_lengths
        if bounds is None or field.metric is not Metric.COSINE:
            return query.vectors
        squares = np.einsum("ij,ij->i", query.vectors, query.vectors)
        if 4 * bounds[0] ** 2 <= squares.min() and squares.max() <= bounds[1] ** 2 / 4:
            return query.vectors  # the factor of two is far more than the rounding of float32
        lengths = np.linalg.norm(query.vectors.astype(np.float64), axis=1, keepdims=True)
        if bounds[0] <= lengths.min() and lengths.max() <= bounds[1]:
            return query.vectors
        scaled: FloatArray = (query.vectors / lengths).astype(np.float32)
        return scaled

    def json_columns(self, columns: Columns) -> frozenset[str]:
        """Those of some columns that hold JSON."""
        return self._json_columns.intersection(columns) if self._json_columns else self._json_columns

    def filter(self, filter: AnyFilter | None) -> Filter | bool:
        """The normalized filter of one or of its JSON form; True or False where it is so for every row.

        Raises:
            SchemaError: It does not fit the spec, or is too deep or too large for the backend.
            UnsupportedError: An operator that the backend does not have.
        """
        if filter is None:
            return True
        if isinstance(filter, Mapping):
            filter = filters.from_dict(filter)
        return filters.folded(self._capabilities.resolve_filter(filter, self._spec))

    def _checked(self, query: Query) -> tuple[VectorField, Columns | None]:
        capabilities = self._capabilities
        field = self._spec.vector_field(query.using)
        if capabilities.max_top_k is not None and query.k > capabilities.max_top_k:
            raise UnsupportedError(capabilities.backend, f"k={query.k}", f"at most {capabilities.max_top_k}")
        capabilities.require_knobs(query, field)
        if field.metric.higher_is_better and query.max_distance is not None:
            raise SchemaError(
                f"max_distance= on {field.metric} scores, of which the largest are best: min_score="
            )
        if not field.metric.higher_is_better and query.min_score is not None:
            raise SchemaError("min_score= on l2 distances, of which the smallest are best: max_distance=")
        return field, columns_of(self._spec, query.include) or None


def within(hits: Hits, threshold: float, metric: Metric) -> Hits:
    """The hits that are no worse than a threshold: at least that similar, or at most that distant."""
    good = hits.scores >= threshold if metric.higher_is_better else hits.scores <= threshold
    return _shortened(hits, int(good.sum()))


def without(hits: Hits, key: str | int, k: int) -> Hits:
    """The best k hits that are not the record of that id."""
    others = np.flatnonzero([each != key for each in hits.ids])[:k]
    ids = hits.ids[others] if isinstance(hits.ids, np.ndarray) else [hits.ids[place] for place in others]
    rows = None if hits.records is None else hits.records.take(pa.array(others))
    return replace(hits, ids=ids, scores=hits.scores[others], records=rows)


def _shortened(hits: Hits, count: int) -> Hits:
    if count == len(hits):
        return hits
    rows = None if hits.records is None else hits.records.slice(0, count)
    return replace(hits, ids=hits.ids[:count], scores=hits.scores[:count], records=rows)


def empty_ids(spec: CollectionSpec) -> Ids:
    """The ids of no hits."""
    return [] if spec.id_type == "string" else np.empty(0, np.int64)


def no_scores() -> FloatArray:
    """The scores of no hits."""
    return np.empty(0, np.float32)


def selected(vectors: FloatArray, positions: Sequence[int]) -> FloatArray:
    """Some of the query vectors, C-contiguous."""
    return np.ascontiguousarray(vectors[list(positions)])
