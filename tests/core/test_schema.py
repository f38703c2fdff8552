"""Specs: what is legal, how two of them differ, and their JSON form."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbridge.agreement import differences, require_agreement
from vecbridge.capabilities import Capabilities
from vecbridge.errors import CollectionExistsError, ConfigError, SchemaError
from vecbridge.front.arguments import check_namespace
from vecbridge.indexes import HNSW, IVFPQ, Flat, Other
from vecbridge.schema import (
    CollectionSpec,
    EmbedderIdentity,
    Field,
    Metric,
    VectorField,
)
from vecbridge.testing import strategies
from vecbridge.testing.checks import INDEXES

EVERYTHING = Capabilities(backend="everything", indexes=frozenset(INDEXES))
CLIP = EmbedderIdentity("clip", "abc", 4, "hash")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def spec(**changes: Any) -> CollectionSpec:
    return CollectionSpec.single("photos", **({"dim": 4, "fields": {"year": "int64"}} | changes))


@given(strategies.specs(EVERYTHING))
def test_the_json_form_reads_back_equal(drawn: CollectionSpec) -> None:
    assert CollectionSpec.from_json(drawn.to_json()) == drawn
    assert pickle.loads(pickle.dumps(drawn)) == drawn
    assert differences(drawn, CollectionSpec.from_json(drawn.to_json())) == []


def test_embedder_and_foreign_index_read_back_equal() -> None:
    full = spec(embedder=CLIP, index=Other("DISKANN", {"list": [1, 2]}), metric="l2", namespaced=True)
    assert CollectionSpec.from_json(full.to_json()) == full
    assert "\n" not in full.to_json()


def test_the_short_form_is_the_long_one() -> None:
    long = CollectionSpec(
        "photos",
        (VectorField("vector", 4, Metric.DOT, HNSW(m=8)),),
        (Field("year", "int64"), Field("tags", "list<string>")),
        "int64",
        namespaced=True,
    )
    short = CollectionSpec.single(
        "photos",
        dim=4,
        metric="dot",
        index=HNSW(m=8),
        fields={"year": "int64", "tags": "list<string>"},
        id_type="int64",
        namespaced=True,
    )
    assert short == long
    assert hash(short) == hash(long)


def test_columns_stand_in_canonical_order() -> None:
    assert spec(fields={"b": "bool", "a": "json"}).column_names == ("id", "vector", "b", "a")


@pytest.mark.parametrize("name", ["a", "photos_2", "a" * 41])
def test_a_collection_name_that_every_backend_can_map(name: str) -> None:
    assert CollectionSpec.single(name, dim=1).name == name


@pytest.mark.parametrize("name", ["", "Photos", "1a", "_a", "a-b", "a b", "é", "a" * 42, "a\n", "a.b"])
def test_a_bad_collection_name_is_refused(name: str) -> None:
    with pytest.raises(SchemaError, match="collection name"):
        CollectionSpec.single(name, dim=1)


@pytest.mark.parametrize(
    "name", ["id", "ID", "vector", "Vector", "_vb", "_vb_x", "1a", "a-b", "", "a b", "é"]
)
def test_a_reserved_or_bad_field_name_is_refused(name: str) -> None:
    with pytest.raises(SchemaError):
        spec(fields={name: "int64"})


def test_names_that_differ_by_case_alone_clash() -> None:
    with pytest.raises(SchemaError, match="case"):
        spec(fields={"year": "int64", "Year": "int64"})
    with pytest.raises(SchemaError, match="case"):
        CollectionSpec("p", (VectorField("image", 2),), (Field("Image", "string"),))


@pytest.mark.parametrize("dim", [0, -1, 65_537, 2.0, "2", True, None])
def test_a_bad_dim_is_refused(dim: Any) -> None:
    with pytest.raises(SchemaError, match="dim"):
        spec(dim=dim)


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": "euclid"},
        {"index": "hnsw"},
        {"index": HNSW},
        {"index": IVFPQ(m=3)},
        {"fields": {"year": "int32"}},
        {"id_type": "uuid"},
        {"embedder": replace(CLIP, dim=5)},
        {"namespaced": "yes"},
    ],
    ids=str,
)
def test_a_spec_that_no_backend_takes_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        spec(**changes)


def test_a_collection_without_vectors_is_refused() -> None:
    with pytest.raises(SchemaError, match="no vector"):
        CollectionSpec("p", ())


def test_with_several_vectors_one_must_be_named() -> None:
    two = CollectionSpec("p", (VectorField("image", 3), VectorField("text", 2)))
    assert two.vector_field("text").dim == 2
    with pytest.raises(SchemaError, match=r"using= one of image, text"):
        two.vector_field()
    with pytest.raises(SchemaError, match="did you mean 'text'"):
        two.vector_field("txt")
    assert spec().vector_field() == spec().vector


def test_only_l2_is_a_distance() -> None:
    assert [metric.higher_is_better for metric in (Metric.COSINE, Metric.DOT, Metric.L2)] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"id_type": "int64"}, "id_type"),
        ({"namespaced": True}, "namespaced"),
        ({"dim": 5}, "'vector'"),
        ({"metric": "l2"}, "'vector'"),
        ({"index": Flat()}, "'vector'"),
        ({"fields": {"year": "float64"}}, "'year'"),
        ({"fields": {}}, "'year'"),
        ({"fields": {"year": "int64", "new": "bool"}}, "'new'"),
    ],
)
def test_each_difference_is_named(change: dict[str, Any], word: str) -> None:
    [found] = differences(spec(), spec(**change))
    assert word in found
    with pytest.raises(CollectionExistsError, match=word):
        require_agreement(spec(), spec(**change))


def test_all_differences_are_listed_at_once() -> None:
    other = spec(id_type="int64", namespaced=True, dim=5, fields={"a": "bool"})
    assert len(differences(spec(), other)) == 5


def test_an_unknown_embedder_differs_from_nothing_and_a_known_one_from_another() -> None:
    assert differences(spec(embedder=CLIP), spec()) == []
    assert differences(spec(), spec(embedder=CLIP)) == []
    assert len(differences(spec(embedder=CLIP), spec(embedder=replace(CLIP, revision="x")))) == 1


def test_the_order_of_fields_is_no_difference() -> None:
    assert differences(spec(fields={"a": "bool", "b": "json"}), spec(fields={"b": "json", "a": "bool"})) == []


def test_namespaces_need_a_namespaced_collection_and_a_plain_name() -> None:
    assert check_namespace(spec(), "") == ""
    assert check_namespace(spec(namespaced=True), "a-Z_9" * 12) == "a-Z_9" * 12
    with pytest.raises(ConfigError, match="not namespaced"):
        check_namespace(spec(), "eu")
    for bad in ("a b", "ä", "x" * 65, "a/b", "a\n"):
        with pytest.raises(ConfigError):
            check_namespace(spec(namespaced=True), bad)


@given(st.text() | json_values.map(json.dumps))
def test_any_text_is_a_spec_or_a_schema_error(text: str) -> None:
    with pytest.raises(SchemaError):
        CollectionSpec.from_json(text)


@pytest.mark.parametrize("text", ["1" * 5000, "[" * 100_000, "", "{", "null", "NaN"])
def test_hostile_text_is_a_schema_error(text: str) -> None:
    with pytest.raises(SchemaError):
        CollectionSpec.from_json(text)


@settings(max_examples=80)
@given(st.data())
def test_one_value_replaced_anywhere_is_a_spec_or_a_schema_error(data: st.DataObject) -> None:
    values = spec(index=HNSW(), embedder=CLIP).to_dict()
    node: Any = values
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = data.draw(json_values)
    try:
        read = CollectionSpec.from_dict(values)
    except SchemaError:
        pass
    else:
        assert CollectionSpec.from_dict(read.to_dict()) == read


def test_a_field_that_filters_use_says_so_and_is_no_other_field() -> None:
    year = Field("year", "int64", indexed=True)
    plain = spec(fields=(Field("year", "int64"), Field("title", "string")))
    hinted = spec(fields=(year, Field("title", "string")))
    assert year.indexed
    assert hinted == plain
    assert hash(hinted) == hash(plain)
    assert not differences(plain, hinted)
    assert "indexed" not in plain.to_json()
    assert hinted.to_dict()["fields"] == [
        {"name": "year", "type": "int64", "indexed": True},
        {"name": "title", "type": "string"},
    ]
    assert [each.indexed for each in CollectionSpec.from_json(hinted.to_json()).fields] == [True, False]
    with pytest.raises(SchemaError, match="indexed=1"):
        Field("year", "int64", indexed=1)  # type: ignore[arg-type]
