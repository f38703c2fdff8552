"""Any history of writes, deletes, compactions and restarts ends where the oracle ends."""

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
    assert_same_rows,
    assert_same_scores,
    examples,
    ids_of,
    points,
    put,
    query,
    supported_fields,
)
from vecbridge.testing.maker import Maker

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


def apply(collection: Collection, kind: str, value: Any) -> None:
    """One step, but for "reopen", on a store or on the oracle."""
    match kind:
        case "upsert":
            put(collection, **value)
        case "delete":
            collection.delete(value)
        case "delete_where":
            collection.delete(filter=value)
        case "compact" if collection.capabilities.compacts:
            collection.compact()
        case "wait_ready":
            collection.wait_ready()
    collection.flush()


def assert_same(mine: Collection, truth: Collection, condition: Filter | None) -> None:
    """The same rows to every way of reading."""
    assert ids_of(mine) == ids_of(truth)
    assert (mine.count(), mine.count(condition)) == (truth.count(), truth.count(condition))
    assert_same_rows(mine.fetch(KEYS), truth.fetch(KEYS), mine.capabilities)
    asked = query(points(2), k=50, filter=condition)
    for found, expected in zip(mine.search(asked), truth.search(asked), strict=True):
        scores = dict(zip(expected.ids, expected.scores.tolist(), strict=True))
        assert set(found.ids) == set(scores)
        assert_same_scores(found.scores, [scores[key] for key in found.ids])


class TestHistory:
    """Sequences of everything that changes a collection."""

    @pytest.mark.parametrize("kind", ["auto", "flat", "hnsw"])
    def test_any_history_leaves_the_rows_that_the_oracle_has(
        self,
        store_case: StoreCase,
        store_url: str,
        store: Store,
        make: Maker,
        oracle: Store,
        kind: str,
    ) -> None:
        fields = supported_fields(store.capabilities)
        spec = make(fields=fields, metric="l2", index=INDEXES[kind]).spec
        truth_spec = CollectionSpec.single(spec.name, dim=4, metric="l2", fields=fields)
        store.close()

        @examples(store_case)
        @given(
            history=histories(spec, store),
            condition=st.none() | strategies.filter_trees(spec, store.capabilities),
        )
        def run(history: list[Step], condition: Filter | None) -> None:
            truth = oracle.create(truth_spec, if_exists="replace")
            opened = connect(store_url, **store_case.options)
            try:
                mine = opened.create(spec, if_exists="replace")
                for step in history:
                    if step[0] == "reopen":
                        opened.close()
                        opened = connect(store_url, **store_case.options)
                        mine = opened.open(spec.name)
                    apply(mine, *step)
                    apply(truth, *step)
                    assert ids_of(mine) == ids_of(truth), step
                assert_same(mine, truth, condition)
            finally:
                opened.close()

        run()
