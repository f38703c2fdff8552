"""Queries and hits: shapes, bounds, rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vecbridge.errors import SchemaError
from vecbridge.query import Hit, Hits, Query, Status


@pytest.mark.parametrize(
    "vectors",
    [[1, 2, 3], (1.0, 2.0, 3.0), np.array([1, 2, 3], np.int8), [[1, 2, 3]], np.array([[1, 2, 3]]).T.T],
    ids=str,
)
def test_one_vector_or_many_become_contiguous_float32_rows(vectors: Any) -> None:
    found = Query(vectors).vectors
    assert (found.shape, found.dtype, found.flags.c_contiguous) == ((1, 3), np.float32, True)
    assert found.tolist() == [[1, 2, 3]]


def test_float32_rows_are_not_copied() -> None:
    vectors = np.ones((5, 3), np.float32)
    assert np.shares_memory(Query(vectors).vectors, vectors)


def test_a_strided_view_keeps_its_values() -> None:
    wide = np.arange(12, dtype=np.float64).reshape(3, 4)
    assert Query(wide[:, ::2]).vectors.tolist() == [[0, 2], [4, 6], [8, 10]]


@pytest.mark.parametrize("vectors", [[], [[]], [[[1.0]]], [[1], [1, 2]], ["x"], [1j], {"a": 1}], ids=str)
def test_what_is_no_vector_is_refused(vectors: Any) -> None:
    with pytest.raises(SchemaError):
        Query(vectors)


@pytest.mark.parametrize("name", ["k", "ef", "nprobe"])
@pytest.mark.parametrize("value", [0, -1, 1.0, "5", True])
def test_a_limit_is_a_whole_number_from_1(name: str, value: Any) -> None:
    with pytest.raises(SchemaError, match=name):
        Query([1.0], **{name: value})


@pytest.mark.parametrize("name", ["min_score", "max_distance"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("-inf"), "0.5", True], ids=str)
def test_a_bound_is_a_finite_number(name: str, value: Any) -> None:
    with pytest.raises(SchemaError, match=f"{name}=.*: a finite number"):
        Query([1.0], **{name: value})


def test_a_numpy_limit_becomes_an_int() -> None:
    assert type(Query([1.0], k=np.int32(7)).k) is int


@pytest.mark.parametrize("include", [None, "title", 3, {"title"}])
def test_include_is_all_or_a_list_of_names(include: Any) -> None:
    with pytest.raises(SchemaError, match=r'include=.*: "all" for every column, or a list .*, \(\) for none'):
        Query([1.0], include=include)


def test_hits_are_rows_and_columns() -> None:
    records = pa.RecordBatch.from_pydict({"id": ["a", "b"], "year": [1, None]})
    hits = Hits(["a", "b"], np.array([0.5, 0.25], np.float32), records)
    assert len(hits) == 2
    assert list(hits) == [Hit("a", 0.5, {"id": "a", "year": 1}), Hit("b", 0.25, {"id": "b", "year": None})]
    assert hits[-1].id == "b"
    with pytest.raises(IndexError):
        hits[2]


def test_integer_hits_give_python_ints_and_no_record_without_include() -> None:
    [hit] = Hits(np.array([2**63 - 1]), np.array([1.0], np.float32))
    assert (hit.id, type(hit.id), hit.record) == (2**63 - 1, int, None)


def test_the_index_is_as_ready_as_its_least_ready_field() -> None:
    assert Status(0).index == "ready"
    assert Status(5, {"a": "ready", "b": "exact: needs 3 more"}).index == "exact: needs 3 more"
