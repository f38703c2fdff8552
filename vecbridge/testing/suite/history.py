"""Any history of writes, deletes, compactions and restarts ends where a plain Python model ends."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecbridge.filters import Filter
from vecbridge.registry import connect
from vecbridge.schema import CollectionSpec
from vecbridge.store import Collection, Store
from vecbridge.testing import strategies
from vecbridge.testing.cases import StoreCase
from vecbridge.testing.checks import (
    INDEXES,
    assert_deleted,
    assert_same_batch,
    assert_same_records,
    assert_same_scores,
    examples,
    ids_of,
    points,
    put,
    query,
    read,
    supported_fields,
)
from vecbridge.testing.maker import Maker
from vecbridge.testing.model import Model

KEYS = [f"k{number}" for number in range(12)]
Step = tuple[str, Any]


def histories(spec: CollectionSpec, store: Store) -> st.SearchStrategy[list[Step]]:
    """Lists of steps; few ids, so that most writes replace something."""
    keys, capabilities = st.sampled_from(KEYS), store.capabilities
    step = st.one_of(
        st.tuples(st.just("upsert"), strategies.columns(spec, capabilities, max_rows=5, keys=keys)),
        st.tuples(st.just("delete"), st.lists(keys, max_size=4)),
        st.tuples(st.just("delete_where"), strategies.filter_trees(spec, capabilities)),
        st.tuples(st.sampled_from(["reopen", "compact", "wait_ready"]), st.none()),
    )
    return st.lists(step, min_size=3, max_size=15)


def apply(collection: Collection, model: Model, kind: str, value: Any) -> None:
    """One step, but for "reopen", on a collection and on the model of it."""
    match kind:
        case "upsert":
            put(collection, **value)
            model.upsert(value)
        case "delete":
            assert_deleted(collection, collection.delete(value), model.delete(value))
        case "delete_where":
            assert_deleted(collection, collection.delete(filter=value), model.delete_where(value))
        case "compact" if collection.capabilities.compacts:
            collection.compact()
        case "wait_ready":
            collection.wait_ready()
    collection.flush()


def assert_same(collection: Collection, model: Model, condition: Filter | None) -> None:
    """The same rows to every way of reading."""
    rows = read(collection)
    assert rows.keys() == model.find()
    assert_same_records([rows[key] for key in model.records], list(model.records.values()), collection)
    assert ids_of(collection, condition) == model.find(condition)
    assert (collection.count(), collection.count(condition)) == (model.count(), model.count(condition))
    assert_same_batch(collection.fetch(KEYS), model.fetch(KEYS), collection)
    vectors = points(2)
    found = collection.search(query(vectors, k=50, filter=condition))
    for vector, hits in zip(vectors, found, strict=True):
        scores = dict(model.search(vector, 50, condition))
        assert len(hits.ids) == len(scores)
        assert set(hits.ids) == scores.keys()
        assert_same_scores(hits.scores, [scores[key] for key in hits.ids])


class TestHistory:
    """Sequences of everything that changes a collection."""

    @pytest.mark.parametrize("kind", ["auto", "flat", "hnsw"])
    def test_any_history_leaves_the_rows_that_the_oracle_has(
        self, store_case: StoreCase, store_url: str, store: Store, make: Maker, kind: str
    ) -> None:
        fields = supported_fields(store.capabilities)
        spec = make(fields=fields, metric="l2", index=INDEXES[kind]).spec
        store.close()

        @examples(store_case)
        @given(
            history=histories(spec, store),
            condition=st.none() | strategies.filter_trees(spec, store.capabilities),
        )
        def run(history: list[Step], condition: Filter | None) -> None:
            model = Model(spec)
            opened = connect(store_url, **store_case.options)
            try:
                collection = opened.create(spec, if_exists="replace")
                for step in history:
                    if step[0] == "reopen":
                        opened.close()
                        opened = connect(store_url, **store_case.options)
                        collection = opened.open(spec.name)
                    apply(collection, model, *step)
                    assert ids_of(collection) == model.find(), step
                assert_same(collection, model, condition)
            finally:
                opened.close()

        run()
