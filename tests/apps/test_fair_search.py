"""Fair search on a collection, and recall by group."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from vecbridge.apps.fair_search import _candidates, fair_search, group_values
from vecbridge.apps.group_recall import recall_by_field, recall_by_group
from vecbridge.errors import ConfigError, SchemaError

FIELDS = {"lives": "string", "year": "int64", "wild": "bool", "tags": "list<string>", "about": "json"}
SPEC = vb.CollectionSpec.single("animals", dim=2, fields=FIELDS)
COUNT = 40


@pytest.fixture
def animals() -> Any:
    """Forty records, the farther the higher their number; every eighth lives in the sea, the last nowhere."""
    angles = np.linspace(0, 1, COUNT)
    with vb.connect("memory://") as store:
        collection = store.create(SPEC)
        collection.upsert([
            {
                "id": f"{row:02}",
                "vector": [np.cos(angle), np.sin(angle)],
                "lives": None if row == COUNT - 1 else "sea" if row % 8 == 7 else "land",
                "year": row % 3,
                "wild": row % 2 == 0,
                "about": {"row": row},
            }
            for row, angle in enumerate(angles)
        ])  # fmt: skip
        yield collection


def query(**changes: Any) -> vb.Query:
    return vb.Query(**({"vectors": [1, 0], "k": 8} | changes))


def test_hits_represent_the_targets_and_keep_scores_and_records(animals: Any) -> None:
    [found] = fair_search(
        animals, query(include=["about"]), by="lives", targets={"land": 0.5, "sea": 0.5}, candidates=40
    )
    assert found.groups == ("land", "sea") * 4
    assert found.hits.ids == ["00", "07", "01", "15", "02", "23", "03", "31"]
    assert found.ranks == (1, 8, 2, 16, 3, 24, 4, 32)
    assert [hit.record for hit in found.hits] == [
        {"id": each, "about": {"row": int(each)}} for each in found.hits.ids
    ]
    angles = np.linspace(0, 1, COUNT)[[int(each) for each in found.hits.ids]]
    np.testing.assert_allclose(found.hits.scores, np.cos(angles), atol=1e-6)
    assert found.candidates == COUNT


def test_without_targets_the_shares_are_those_of_the_candidates(animals: Any) -> None:
    [found] = fair_search(animals, query(k=4), by="lives")
    assert found.candidates == 40
    figures = {each.group: each for each in found.ranking.groups}
    assert set(figures) == {"land", "sea", None}
    assert figures["sea"].target == pytest.approx(4 / 40)
    assert figures[None].candidates == 1


@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_the_best_candidate_of_a_group_comes_first_under_each_metric(metric: str) -> None:
    spec = vb.CollectionSpec.single("m", dim=1, metric=metric, fields={"g": "string"})
    with vb.connect("memory://") as store:
        collection = store.create(spec)
        vectors, groups = [[1.0], [2.0], [3.0], [4.0]], ["a", "a", "b", "b"]
        collection.upsert(vb.batch(spec, id=["1", "2", "3", "4"], vector=vectors, g=groups))
        [found] = fair_search(collection, vb.Query([4.0], k=2), by="g", targets={"a": 0.5, "b": 0.5})
    assert found.hits.ids == ["4", "2"]
    assert found.ranking.ndcg_loss > 0


def test_several_queries_a_filter_and_a_record_as_the_query(animals: Any) -> None:
    both = fair_search(animals, query(vectors=[[1, 0], [0, 1]]), by="wild")
    assert [len(each.hits) for each in both] == [8, 8]
    [sea] = fair_search(animals, query(filter=vb.field("lives") == "sea"), by="lives", targets={"land": 1.0})
    assert set(sea.groups) == {"sea"}
    [land] = [each for each in sea.ranking.groups if each.group == "land"]
    assert (land.missing, land.candidates) == (4, 0)
    [like] = fair_search(animals, vb.Query(id="07", k=3), by="year")
    assert "07" not in like.hits.ids


@pytest.mark.parametrize(
    ("include", "columns"), [((), None), (["year"], ["id", "year"]), (["lives"], ["id", "lives"])]
)
def test_the_field_of_the_groups_is_returned_only_where_it_was_asked_for(
    animals: Any, include: Any, columns: list[str] | None
) -> None:
    [found] = fair_search(animals, query(include=include), by="lives")
    assert (found.hits.records and found.hits.records.schema.names) == columns


def test_candidates_are_ten_a_hit_as_far_as_the_backend_goes() -> None:
    def most(k: int, limit: int | None) -> int:
        return _candidates(query(k=k), None, SimpleNamespace(max_top_k=limit))

    assert (most(8, None), most(8, 1_000), most(8, 50), most(80, 50)) == (80, 80, 50, 80)


def test_a_backend_with_a_limit_gets_no_more_than_it_takes(
    animals: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    search = type(animals).search
    limited = replace(animals.capabilities, max_top_k=20)
    monkeypatch.setattr(type(animals), "capabilities", property(lambda _: limited))
    monkeypatch.setattr(
        type(animals), "search", lambda self, given: asked.append(given.k) or search(self, given)
    )
    fair_search(animals, query(k=8), by="lives")
    assert asked == [20]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"by": "live"}, "'animals' has no field 'live'; did you mean 'lives'"),
        ({"by": "tags"}, "field 'tags' is of type list<string>"),
        ({"by": "about"}, "field 'about' is of type json"),
        ({"by": "vector"}, "has no field 'vector'"),
        ({"by": "lives", "targets": {"sea": 0.4}}, "add up to 0.4"),
        ({"by": "lives", "targets": {1: 1.0}}, "target 1: field 'lives' is of type string"),
        ({"by": "year", "targets": {True: 1.0}}, "target True: field 'year' is of type int64"),
        ({"by": "lives", "candidates": 3}, "candidates=3: a whole number from k=8"),
    ],
)
def test_what_cannot_be_right_is_refused(animals: Any, arguments: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        fair_search(animals, query(), **arguments)


def test_an_empty_collection_is_told_from_a_filter_that_matches_nothing(animals: Any) -> None:
    [none] = fair_search(animals, query(filter=vb.field("year") == 9), by="lives")
    assert (len(none.hits), none.ranking.order) == (0, ())
    with vb.connect("memory://") as store, pytest.raises(ConfigError, match="'animals' holds no records"):
        fair_search(store.create(SPEC), query(), by="lives")


def test_a_query_that_does_not_fit_is_refused_as_by_search(animals: Any) -> None:
    with pytest.raises(SchemaError):
        fair_search(animals, query(vectors=[1, 0, 0]), by="lives")


def test_groups_written_as_text_become_values_of_the_field() -> None:
    assert group_values(SPEC, "year", {"1": 0.5, "-2": 0.5}) == {1: 0.5, -2: 0.5}
    assert group_values(SPEC, "wild", {"True": 0.5, "false": 0.5}) == {True: 0.5, False: 0.5}
    assert group_values(SPEC, "lives", {"1": 1}) == {"1": 1}
    for by, text in (("year", "one"), ("wild", "yes")):
        with pytest.raises(ConfigError, match=f"target '{text}': field '{by}' is of type"):
            group_values(SPEC, by, {text: 1.0})


# ------------------------------------------------------------------------------------- recall by group


def test_recall_of_a_group_is_the_mean_over_its_queries() -> None:
    found = [["a", "b"], ["c", "x"], ["x", "y"]] * 40
    report = recall_by_group(found, [["a"], ["c", "d"], ["z"]] * 40, ["one", "one", "two"] * 40, k=2)
    one, two = report.groups
    assert (one.queries, one.recall, two.recall) == (80, 0.75, 0.0)
    assert (two.low, two.high) == (0.0, 0.0)
    assert report.gap == 0.75
    assert report.overall.recall == pytest.approx(0.5)
    assert one.low < 0.75 < one.high
    assert report.to_dict()["groups"][0]["group"] == "one"


def test_only_the_first_k_hits_count() -> None:
    found, relevant, groups = [["x", "a"]] * 30, [["a"]] * 30, ["g"] * 30
    assert recall_by_group(found, relevant, groups, k=1).overall.recall == 0
    assert recall_by_group(found, relevant, groups, k=2).overall.recall == 1


def test_the_interval_is_that_of_the_binomial_and_the_same_for_a_seed() -> None:
    """The mean of n draws of 0 or 1 has a standard error of sqrt(p (1 - p) / n)."""
    found = [["a"] if row % 4 else ["x"] for row in range(400)]
    report = recall_by_group(found, [["a"]] * 400, ["g"] * 400, k=1, seed=3)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert report.overall.low == pytest.approx(0.75 - half, abs=0.01)
    assert report.overall.high == pytest.approx(0.75 + half, abs=0.01)
    assert recall_by_group(found, [["a"]] * 400, ["g"] * 400, k=1, seed=3) == report


def test_a_group_of_fewer_than_thirty_queries_is_warned_of() -> None:
    groups = ["many"] * 30 + ["few"] * 29
    with pytest.warns(UserWarning, match=r"fewer than 30 queries say little: 'few' \(29\)$"):
        report = recall_by_group([["a"]] * 59, [["a"]] * 59, groups)
    assert [each.few for each in report.groups] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (([], [], []), "no queries"),
        (([["a"]], [["a"]], []), "as many of each"),
        (([["a"]], [[]], ["g"]), "query 0 has nothing to find"),
    ],
)
def test_queries_that_give_no_recall_are_refused(arguments: Any, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        recall_by_group(*arguments)


def test_the_group_of_a_query_is_that_of_the_record_that_it_should_find(animals: Any) -> None:
    angles = np.linspace(0, 1, COUNT)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    wanted = [[f"{row:02}"] for row in range(COUNT)]
    wanted[7] = ["39", "39"]  # which is far from query 7, and lives nowhere
    with pytest.warns(UserWarning, match="fewer than 30 queries"):
        report = recall_by_field(animals, query(vectors=vectors, k=1, include="all"), wanted, by="lives")
    figures = {each.group: (each.queries, each.recall) for each in report.groups}
    assert figures == {"land": (35, 1.0), None: (2, 0.5), "sea": (3, 1.0)}


@pytest.mark.parametrize(
    ("wanted", "by", "error"),
    [
        ([["00"]], "live", "no field 'live'"),
        ([["99"]], "lives", "query 0 should find '99', which is not in the collection"),
        ([["00", "07"]], "lives", "several values of 'lives'"),
        ([[]], "lives", "nothing to find"),
        ([["00"]] * 2, "lives", "as many of each"),
    ],
)
def test_what_gives_no_group_is_refused(animals: Any, wanted: Any, by: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        recall_by_field(animals, query(), wanted, by=by)


@pytest.mark.parametrize("name", ["k", "resamples"])
def test_numbers_below_1_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=0"):
        recall_by_group([["a"]], [["a"]], ["g"], **{name: 0})
