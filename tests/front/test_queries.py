"""From a query to what a driver is asked, and what is refused on the way."""

from __future__ import annotations

import numpy as np
import pytest

from tests.core.test_capabilities import FULL, POOR, spec
from vecbridge.errors import (
    DimensionMismatchError,
    EmbedderMismatchError,
    SchemaError,
    UnsupportedError,
    VecbridgeError,
)
from vecbridge.filters import And, field
from vecbridge.front.queries import QueryResolver
from vecbridge.indexes import HNSW, IVFFlat
from vecbridge.query import Query
from vecbridge.schema import EmbedderIdentity


def test_a_query_is_resolved_to_what_can_run() -> None:
    target = spec(index=HNSW(), fields={"year": "int64", "title": "string"})
    asked = Query([1, 2, 3, 4], k=5, filter=~(field("year") < 1), include=["title", "year"], ef=9)
    resolver = QueryResolver(target, FULL)
    for _ in range(2):  # the second time from memory
        assert resolver.target(asked) == (target.vector, ("year", "title"))
    assert resolver.filter(asked.filter) == (field("year") >= 1)
    assert resolver.filter(None) is True


def test_what_is_remembered_of_a_query_is_not_taken_for_another_one() -> None:
    resolver = QueryResolver(spec(index=HNSW(), fields={"year": "int64"}), FULL)
    vector = [1, 2, 3, 4]
    resolver.target(Query(vector))
    for other in (Query(vector, nprobe=3), Query(vector, using="image"), Query(vector, include=["nope"])):
        with pytest.raises(VecbridgeError):
            resolver.target(other)
    with pytest.raises(DimensionMismatchError):
        resolver.target(Query([1, 2, 3]))


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (Query([1, 2]), DimensionMismatchError),
        (Query([1, 2, 3, np.nan]), SchemaError),
        (Query([1, 2, 3, 1e39]), SchemaError),
        (Query([[1, 2, 3, 4], [0, 0, 0, 0]]), SchemaError),
        (Query([1, 2, 3, 4], using="image"), SchemaError),
        (Query([1, 2, 3, 4], include=["nope"]), SchemaError),
        (Query([1, 2, 3, 4], filter=field("nope") == 1), SchemaError),
        (Query([1, 2, 3, 4], filter=field("year") > 1), UnsupportedError),
        (Query([1, 2, 3, 4], filter=And((field("year") == 1, ~field("year").isin([2])))), UnsupportedError),
        (Query([1, 2, 3, 4], k=101), UnsupportedError),
        (Query([1, 2, 3, 4], ef=10), UnsupportedError),
        (Query([1, 2, 3, 4], nprobe=10), UnsupportedError),
        (Query([1, 2, 3, 4], embedder=EmbedderIdentity("x", "2", 4, "p")), EmbedderMismatchError),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_query_that_cannot_run_is_refused(asked: Query, error: type[VecbridgeError]) -> None:
    target = spec(fields={"year": "int64"}, embedder=EmbedderIdentity("x", "1", 4, "p"))
    resolver = QueryResolver(target, POOR)
    with pytest.raises(error):
        _ = resolver.target(asked), resolver.filter(asked.filter)


def test_a_knob_belongs_to_an_index() -> None:
    vector = [1, 2, 3, 4]
    QueryResolver(spec(index=HNSW()), FULL).target(Query(vector, ef=5))
    QueryResolver(spec(index=IVFFlat()), FULL).target(Query(vector, nprobe=5))
    for asked, index in ((Query(vector, ef=5), IVFFlat()), (Query(vector, nprobe=5), HNSW())):
        with pytest.raises(UnsupportedError, match="this index takes"):
            QueryResolver(spec(index=index), FULL).target(asked)
