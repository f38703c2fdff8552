"""Specs: what is built is what was asked for, and stays so."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given

from vecbridge.errors import (
    CollectionExistsError,
    ConfigError,
    NotFoundError,
    SchemaError,
    UnsupportedError,
)
from vecbridge.indexes import HNSW, Auto, Flat, IndexParams, Other, Quantizer
from vecbridge.schema import CollectionSpec, EmbedderIdentity, Field, Metric, VectorField
from vecbridge.store import Store
from vecbridge.testing import strategies
from vecbridge.testing.cases import StoreCase
from vecbridge.testing.checks import INDEXES, examples, ids_of, points, put, query, supported_fields
from vecbridge.testing.maker import Maker

EMBEDDER = EmbedderIdentity("tiny-clip", "0123abcd", 4, "feed", config="c0de", tokenizer="70ce", format=2)


class TestSchema:
    """create(), open(), drop(), collections() and the spec."""

    def test_any_declared_spec_opens_as_it_was_built(
        self, store_case: StoreCase, store: Store, make: Maker
    ) -> None:
        name = make.name()

        @examples(store_case)
        @given(spec=strategies.specs(store.capabilities, name=name))
        def run(spec: CollectionSpec) -> None:
            assert store.create(spec, if_exists="replace").spec == spec
            assert store.open(name).spec == spec

        run()

    def test_the_embedder_is_stored_with_the_spec(self, store: Store, make: Maker) -> None:
        spec = make.create(make.spec(embedder=EMBEDDER)).spec
        assert spec.vector.embedder == EMBEDDER
        assert store.open(spec.name).spec == spec

    def test_collections_are_listed_by_name_until_they_are_dropped(self, store: Store, make: Maker) -> None:
        names = sorted(make().spec.name for _ in range(3))
        assert [each for each in store.collections() if each in names] == names
        store.drop(names[1])
        assert [each for each in store.collections() if each in names] == [names[0], names[2]]

    def test_a_dropped_collection_is_gone_with_its_rows(self, store: Store, make: Maker) -> None:
        collection = make()
        put(collection, id=["a"])
        store.drop(collection.spec.name)
        assert ids_of(make.create(collection.spec)) == set()

    def test_what_is_absent_is_not_found(self, store: Store, make: Maker) -> None:
        name = make.name()
        with pytest.raises(NotFoundError):
            store.open(name)
        with pytest.raises(NotFoundError):
            store.drop(name)
        with pytest.raises(NotFoundError):
            store.namespaces(name)

    def test_creating_what_exists_is_an_error_and_touches_nothing(self, store: Store, make: Maker) -> None:
        collection = make()
        put(collection, id=["a"])
        with pytest.raises(CollectionExistsError):
            store.create(collection.spec)
        assert ids_of(collection) == {"a"}

    def test_if_exists_open_opens_the_rows_of_an_agreeing_collection(self, store: Store, make: Maker) -> None:
        collection = make()
        put(collection, id=["a"])
        opened = store.create(collection.spec, if_exists="open")
        assert (opened.spec, ids_of(opened)) == (collection.spec, {"a"})

    def test_if_exists_open_creates_what_is_absent(self, make: Maker) -> None:
        spec = make.spec()
        assert make.create(spec, if_exists="open").spec == spec

    def test_if_exists_open_lists_every_difference(self, store: Store, make: Maker) -> None:
        spec = make(fields={"year": "int64", "title": "string"}).spec
        fields = (Field("year", "float64"), Field("flag", "bool"))
        other = replace(spec, fields=fields, vectors=(VectorField("vector", 5, spec.vector.metric),))
        with pytest.raises(CollectionExistsError) as caught:
            store.create(other, if_exists="open")
        for each in ("'year'", "'title'", "'flag'", "'vector'"):
            assert each in str(caught.value)

    def test_if_exists_open_minds_no_embedder_where_none_is_known(self, store: Store, make: Maker) -> None:
        spec = make(embedder=EMBEDDER).spec
        unknown = replace(spec, vectors=(replace(spec.vector, embedder=None),))
        assert store.create(unknown, if_exists="open").spec == spec

    def test_if_exists_replace_empties_and_may_change_the_spec(self, store: Store, make: Maker) -> None:
        collection = make(dim=4)
        put(collection, id=["a"])
        wider = replace(collection.spec, vectors=(VectorField("vector", 6),))
        replaced = store.create(wider, if_exists="replace")
        assert (replaced.spec, ids_of(replaced)) == (wider, set())
        assert store.open(wider.name).spec == wider

    def test_if_exists_replace_leaves_the_old_where_the_new_cannot_be_built(
        self, store: Store, make: Maker
    ) -> None:
        collection = make()
        put(collection, id=["a"])
        foreign = VectorField("vector", 4, index=Other("DISKANN"))
        with pytest.raises(UnsupportedError):
            store.create(replace(collection.spec, vectors=(foreign,)), if_exists="replace")
        assert ids_of(store.open(collection.spec.name)) == {"a"}

    def test_an_unknown_if_exists_is_refused_and_touches_nothing(self, store: Store, make: Maker) -> None:
        collection = make()
        put(collection, id=["a"])
        with pytest.raises(ConfigError):
            store.create(collection.spec, if_exists="overwrite")  # type: ignore[arg-type]
        assert ids_of(store.open(collection.spec.name)) == {"a"}

    @pytest.mark.parametrize("kind", INDEXES)
    def test_an_index_is_built_as_declared_or_refused_before_anything_is_created(
        self, make: Maker, kind: str
    ) -> None:
        spec = make.spec(dim=16, metric="l2", index=INDEXES[kind])
        collection = make.create(spec)
        put(collection, id=[str(row) for row in range(300)], vector=points(300, 16))
        collection.wait_ready()
        assert collection.spec == spec
        assert collection.status().rows == 300
        assert len(ids_of(collection)) == 300

    @pytest.mark.parametrize("quantizer", get_args(Quantizer))
    def test_a_quantizer_is_built_as_declared_or_refused(self, make: Maker, quantizer: Quantizer) -> None:
        spec = make.spec(dim=16, metric="l2", index=HNSW(quantizer=quantizer))
        collection = make.create(spec)
        put(collection, id=[str(row) for row in range(300)], vector=points(300, 16))
        collection.wait_ready()
        assert collection.spec == spec
        assert len(collection.search(query(points(1, 16), k=10))[0]) == 10

    @pytest.mark.parametrize("dim", [1, 2, 3, 769, 65_536])
    def test_a_dimension_is_taken_as_declared_or_refused(self, make: Maker, dim: int) -> None:
        collection = make(dim=dim, metric="l2")
        vectors = points(3, dim)
        put(collection, id=["a", "b", "c"], vector=vectors)
        [hits] = collection.search(query(vectors[1], k=1))
        assert list(hits.ids) == ["b"]

    def test_a_foreign_index_is_never_created(self, store: Store, make: Maker) -> None:
        spec = make.spec(index=Other("DISKANN", {"search_list": 10}))
        assert [gap.kind for gap in store.capabilities.check(spec) if gap.blocking] == ["index"]
        with pytest.raises(UnsupportedError):
            store.create(spec)
        assert spec.name not in store.collections()

    @pytest.mark.parametrize(
        "index", [*INDEXES.values(), Other("DISKANN"), HNSW(quantizer="bq"), HNSW(ef=50)], ids=repr
    )
    def test_nearest_proposes_what_create_takes(self, store: Store, make: Maker, index: IndexParams) -> None:
        wanted = make.spec(dim=8, index=index, namespaced=True, fields=supported_fields(store.capabilities))
        proposal, gaps = store.capabilities.nearest(wanted)
        assert (proposal == wanted) == (gaps == [])
        assert store.create(proposal).spec == proposal

    def test_several_vector_fields_are_searched_by_name(self, make: Maker) -> None:
        fields = (VectorField("image", 3, Metric.L2), VectorField("text", 2, Metric.L2))
        collection = make.create(CollectionSpec(make.name(), fields))
        put(collection, id=["a", "b"], image=[[0, 0, 1], [9, 9, 9]], text=[[9, 9], [0, 1]])
        with pytest.raises(SchemaError):
            collection.search(query([0, 1]))
        [by_image] = collection.search(query([0, 0, 1], k=1, using="image"))
        [by_text] = collection.search(query([0, 1], k=1, using="text"))
        assert (list(by_image.ids), list(by_text.ids)) == (["a"], ["b"])

    def test_the_status_names_the_built_index_of_every_vector_field(self, store: Store, make: Maker) -> None:
        store.collections()  # from now on the capabilities are this server's
        index = Flat() if Flat.kind in store.capabilities.indexes else Auto()
        fields = tuple(VectorField(name, 2, Metric.L2, index) for name in ("image", "text"))
        columns = {field.name: [[0, 1], [1, 2]] for field in fields[: store.capabilities.max_vectors]}
        collection = make.create(CollectionSpec(make.name(), fields[: len(columns)]))
        put(collection, id=["a", "b"], **columns)
        collection.wait_ready()
        status = collection.status()
        assert status.built.keys() == status.indexes.keys() == columns.keys()
        if index == Flat():
            assert set(status.built.values()) == {Flat()}, "every row is compared"
        else:
            assert all(found is None or isinstance(found, IndexParams) for found in status.built.values())
