"""Capabilities: what they say about a spec and a query, and what nearest() proposes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbridge.capabilities import FIELD_TYPES, FILTER_OPERATORS, Capabilities
from vecbridge.errors import (
    UnsupportedError,
)
from vecbridge.filters import TYPE_OPERATORS
from vecbridge.indexes import HNSW, IVFPQ, Auto, Flat, Other
from vecbridge.schema import CollectionSpec, Metric, VectorField
from vecbridge.testing import strategies
from vecbridge.testing.checks import FIELDS, INDEXES

FULL = Capabilities(
    backend="full",
    indexes=frozenset(INDEXES),
    quantizers=frozenset({"pq"}),
    knobs={"hnsw": frozenset({"ef"}), "ivf_flat": frozenset({"nprobe"})},
)
POOR = Capabilities(
    backend="poor",
    indexes=frozenset({"auto", "hnsw"}),
    metrics=frozenset({Metric.COSINE}),
    filter_operators=frozenset({"==", "in"}),
    field_types=frozenset({"string", "int64"}),
    id_types=frozenset({"string"}),
    nulls=False,
    int_bits=53,
    max_dim=8,
    max_vectors=1,
    max_top_k=100,
    text_bytes=50,
    namespaces=False,
)


def spec(**changes: Any) -> CollectionSpec:
    return CollectionSpec.single("photos", **({"dim": 4} | changes))


def gaps(capabilities: Capabilities, spec: CollectionSpec) -> list[tuple[str, bool]]:
    return [(gap.kind, gap.blocking) for gap in capabilities.check(spec)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"id_type": "int64"}, [("id", True)]),
        ({"namespaced": True}, [("namespace", True)]),
        ({"metric": "l2"}, [("metric", True)]),
        ({"dim": 9}, [("size", True)]),
        ({"index": IVFPQ(m=2)}, [("index", True)]),
        ({"index": Other("DISKANN")}, [("index", True)]),
        ({"index": HNSW(quantizer="pq")}, [("quantization", True)]),
        ({"index": HNSW(ef=10)}, [("index", True)]),
        ({"fields": {"price": "float64"}}, [("field:price", True), ("null", False)]),
        ({"fields": {"year": "int64"}}, [("int_width", False), ("null", False)]),
        ({"fields": {"title": "string"}}, [("size", False), ("null", False)]),
    ],
    ids=str,
)
def test_each_gap_is_named_and_says_whether_it_blocks(
    changes: dict[str, Any], expected: list[tuple[str, bool]]
) -> None:
    assert gaps(POOR, spec(**changes)) == expected
    if any(blocking for _, blocking in expected):
        with pytest.raises(UnsupportedError, match="poor does not support"):
            POOR.require(spec(**changes))
    else:
        POOR.require(spec(**changes))


def test_a_vector_field_too_many_is_a_gap_of_its_own_name() -> None:
    two = CollectionSpec("p", (VectorField("a", 2), VectorField("b", 2)))
    assert gaps(POOR, two) == [("vector:b", True)]
    assert gaps(FULL, two) == []


@settings(max_examples=60)
@given(strategies.specs(FULL))
def test_a_backend_that_has_everything_has_no_gaps(drawn: CollectionSpec) -> None:
    assert FULL.check(drawn) == []
    assert FULL.nearest(drawn) == (drawn, [])


@settings(max_examples=100)
@given(strategies.specs(FULL), st.sampled_from([POOR, replace(POOR, metrics=frozenset(Metric), max_dim=99)]))
def test_nearest_proposes_a_spec_without_blocking_gaps_or_raises(
    drawn: CollectionSpec, backend: Capabilities
) -> None:
    try:
        proposal, given_up = backend.nearest(drawn)
    except UnsupportedError:
        assert {gap.kind for gap in backend.check(drawn)} & {"metric", "size", "id"}
    else:
        backend.require(proposal)
        assert given_up == [gap for gap in backend.check(drawn) if gap.blocking]
        assert (proposal == drawn) == (given_up == [])
        assert backend.nearest(proposal) == (proposal, [])


def test_nearest_gives_up_as_little_as_it_can() -> None:
    poorer = replace(FULL, indexes=frozenset({"auto", "hnsw"}))
    proposal, _ = poorer.nearest(spec(index=HNSW(m=32, quantizer="bq", ef=7), fields=FIELDS))
    assert proposal == spec(index=HNSW(m=32), fields=FIELDS)
    assert poorer.nearest(spec(index=Flat()))[0] == spec(index=Auto())
    assert FULL.nearest(spec(index=HNSW(quantizer="pq")))[1] == []


def test_the_error_names_the_nearest_as_the_way_out() -> None:
    with pytest.raises(UnsupportedError, match=r"nearest\(spec\)") as caught:
        POOR.require(spec(metric="l2", id_type="int64"))
    assert caught.value.backend == "poor"
    assert "no l2; there are cosine" in str(caught.value)
    assert "int64 ids cannot be stored" in str(caught.value)


def test_the_closed_sets_are_complete() -> None:
    assert set(FIELDS.values()) == FIELD_TYPES
    assert {*TYPE_OPERATORS["int64"], "contains", "is_empty", "not"} == FILTER_OPERATORS
    assert set().union(*TYPE_OPERATORS.values()) | {"not"} == FILTER_OPERATORS
