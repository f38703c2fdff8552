"""Index parameters: their bounds and their JSON form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecbridge import indexes
from vecbridge.errors import SchemaError
from vecbridge.indexes import DISKANN, HNSW, IVFPQ, IVFSQ8, SCANN, Auto, Flat, IVFFlat, Other

ALL = [
    Auto(),
    Flat(),
    IVFFlat(nlist=7),
    IVFSQ8(nlist=65_536),
    IVFPQ(nlist=1, m=3, nbits=16),
    HNSW(m=2, ef_construction=1, quantizer="rq", ef=9),
    SCANN(nlist=5, with_raw_data=False),
    DISKANN(),
    Other("GPU_CAGRA", {"search_list": 10, "nested": {"a": [1, None]}}),
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("index", ALL, ids=lambda index: index.kind)
def test_the_json_form_reads_back_equal(index: indexes.IndexParams) -> None:
    assert indexes.from_dict(json.loads(json.dumps(indexes.to_dict(index)))) == index


def test_kinds_are_distinct() -> None:
    assert len({index.kind for index in ALL}) == len(ALL)


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (IVFFlat, {"nlist": 0}),
        (IVFFlat, {"nlist": 65_537}),
        (IVFSQ8, {"nlist": 1.0}),
        (IVFSQ8, {"nlist": True}),
        (IVFPQ, {"m": 0}),
        (IVFPQ, {"nbits": 17}),
        (HNSW, {"m": 1}),
        (HNSW, {"ef_construction": 0}),
        (HNSW, {"ef": 0}),
        (HNSW, {"quantizer": "zip"}),
        (SCANN, {"nlist": 0}),
        (SCANN, {"with_raw_data": 1}),
    ],
)
def test_a_parameter_out_of_bounds_is_refused_by_name(make: Any, values: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match=next(iter(values))):
        make(**values)


def test_only_indexes_of_compressed_vectors_are_quantised() -> None:
    quantized = {index.kind for index in ALL if index.quantized}
    assert quantized == {"ivf_sq8", "ivf_pq", "hnsw", "scann", "diskann", "other"}
    assert not HNSW().quantized


@given(json_values)
def test_any_json_is_an_index_or_a_schema_error(values: Any) -> None:
    for form in (values, {"kind": values}, {"kind": "hnsw", "m": values}, {"kind": "flat", "odd": values}):
        try:
            indexes.from_dict(form)
        except SchemaError:
            continue
        assert indexes.to_dict(indexes.from_dict(form))["kind"] == form["kind"]
