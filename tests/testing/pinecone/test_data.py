"""The data plane: what is written is read, searched exactly, listed and deleted as the service does it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.testing.pinecone.conftest import Api, Clock, Servers
from vecbridge.testing.pinecone import Emulator


def test_a_record_is_fetched_as_it_was_written(index: Api) -> None:
    metadata = {"year": 2020.0, "tags": ["a", ""], "seen": False, "title": ""}
    index.upsert({"id": "a", "values": [0.1, -2], "metadata": metadata}, {"id": "b", "values": [1, 1]})
    found = index.get("/vectors/fetch", ids=["a", "b", "absent"]).json()["vectors"]
    assert found == {
        "a": {"id": "a", "values": [0.1, -2.0], "metadata": metadata},
        "b": {"id": "b", "values": [1.0, 1.0]},
    }


def test_vectors_are_float32_bit_by_bit(servers: Servers, emulator: Emulator) -> None:
    index = servers.index(emulator, name="wide", dimension=64)
    vector = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    index.upsert({"id": "a", "values": vector.tolist()})
    stored = index.get("/vectors/fetch", ids="a").json()["vectors"]["a"]["values"]
    assert np.array_equal(np.array(stored, np.float32), vector)


@pytest.mark.parametrize("metric", ["cosine", "dotproduct", "euclidean"])
def test_search_is_exact_under_each_metric(servers: Servers, emulator: Emulator, metric: str) -> None:
    index = servers.index(emulator, name=metric, dimension=16, metric=metric)
    random = np.random.default_rng(1)
    vectors, query = random.standard_normal((200, 16)), random.standard_normal(16)
    index.upsert(*[{"id": f"{row}", "values": vector.tolist()} for row, vector in enumerate(vectors)])
    if metric == "euclidean":
        scores = ((vectors - query) ** 2).sum(axis=1)  # squared, as the service reports it
        best = np.argsort(scores)[:10]
    else:
        scores = vectors @ query
        if metric == "cosine":
            scores /= np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
        best = np.argsort(-scores)[:10]
    matches = index.post("/query", topK=10, vector=query.tolist()).json()["matches"]
    assert [int(match["id"]) for match in matches] == best.tolist()
    assert np.allclose([match["score"] for match in matches], scores[best], rtol=1e-5)


def test_sparse_values_add_to_the_score(servers: Servers, emulator: Emulator) -> None:
    index = servers.index(emulator, name="hybrid", metric="dotproduct")
    index.upsert(
        {"id": "a", "values": [1, 0], "sparseValues": {"indices": [7, 9], "values": [2.0, 1.0]}},
        {"id": "b", "values": [1, 0]},
    )
    query = {"vector": [1, 0], "sparseVector": {"indices": [7, 8], "values": [0.5, 4.0]}}
    matches = index.post("/query", topK=2, **query).json()["matches"]
    assert [(match["id"], match["score"]) for match in matches] == [("a", 2.0), ("b", 1.0)]


def test_a_sparse_index_holds_sparse_vectors_only(servers: Servers, emulator: Emulator) -> None:
    shape = {"dimension": None, "metric": "dotproduct", "vector_type": "sparse"}
    index = servers.index(emulator, name="words", **shape)
    assert index.upsert({"id": "a", "values": [1, 0]}).status_code == 400
    index.upsert({"id": "a", "sparseValues": {"indices": [1], "values": [3.0]}}).raise_for_status()
    query = {"indices": [1], "values": [2.0]}
    assert index.post("/query", topK=1, sparseVector=query).json()["matches"][0]["score"] == 6.0
    assert index.post("/describe_index_stats").json()["vectorType"] == "sparse"


def test_a_query_shows_values_and_metadata_when_asked(index: Api) -> None:
    index.upsert({"id": "a", "values": [1, 0], "metadata": {"year": 1}})
    ask = {"topK": 1, "vector": [1, 0]}
    assert index.post("/query", **ask).json()["matches"] == [{"id": "a", "score": 1.0, "values": []}]
    [match] = index.post("/query", **ask, includeValues=True, includeMetadata=True).json()["matches"]
    assert match == {"id": "a", "score": 1.0, "values": [1.0, 0.0], "metadata": {"year": 1.0}}


def test_a_query_by_id_uses_that_records_vector(index: Api) -> None:
    index.upsert({"id": "a", "values": [1, 0]}, {"id": "b", "values": [0, 1]})
    assert index.ids(id="b") == ["b", "a"]
    assert index.ids(id="absent") == []


def test_an_upsert_replaces_the_whole_record_and_the_last_of_two_wins(index: Api) -> None:
    index.upsert({"id": "a", "values": [1, 0], "metadata": {"year": 1}})
    index.upsert({"id": "a", "values": [2, 0]}, {"id": "a", "values": [3, 0]})
    assert index.get("/vectors/fetch", ids="a").json()["vectors"] == {"a": {"id": "a", "values": [3.0, 0.0]}}


def test_an_update_merges_metadata_and_ignores_an_unknown_id(index: Api) -> None:
    index.upsert({"id": "a", "values": [1, 0], "metadata": {"year": 1, "title": "x"}})
    index.post("/vectors/update", id="a", setMetadata={"year": 2}).raise_for_status()
    index.post("/vectors/update", id="a", values=[0, 5]).raise_for_status()
    index.post("/vectors/update", id="absent", values=[0, 5]).raise_for_status()
    found = index.get("/vectors/fetch", ids=["a", "absent"]).json()["vectors"]
    assert found == {"a": {"id": "a", "values": [0.0, 5.0], "metadata": {"year": 2.0, "title": "x"}}}


def test_an_update_by_filter_counts_and_may_be_tried_dry(index: Api) -> None:
    rows = [{"id": f"{year}", "values": [1, 0], "metadata": {"year": year}} for year in range(4)]
    index.upsert(*rows)
    body = {"filter": {"year": {"$gte": 2}}, "setMetadata": {"new": True}}
    assert index.post("/vectors/update", **body, dryRun=True).json() == {"matchedRecords": 2}
    assert index.ids(filter={"new": True}) == []
    assert index.post("/vectors/update", **body).json() == {"matchedRecords": 2}
    assert set(index.ids(filter={"new": True})) == {"2", "3"}


# -- deletes


@pytest.fixture
def letters(index: Api) -> Api:
    rows = [{"id": id, "values": [1, 0], "metadata": {"vowel": id in "aeiou"}} for id in "abcde"]
    index.upsert(*rows).raise_for_status()
    return index


def test_delete_by_ids_by_filter_and_of_all(letters: Api) -> None:
    assert letters.post("/vectors/delete", ids=["a", "absent"]).json() == {}
    assert set(letters.ids()) == set("bcde")
    letters.post("/vectors/delete", filter={"vowel": True})
    assert set(letters.ids()) == set("bcd")
    letters.post("/vectors/delete", deleteAll=True)
    assert letters.ids() == []


def test_given_ids_and_a_filter_a_delete_takes_the_filter_alone(letters: Api) -> None:
    letters.post("/vectors/delete", ids=["b"], filter={"vowel": True}).raise_for_status()
    assert set(letters.ids()) == set("bcd")


def test_a_delete_of_nothing_named_is_refused_and_so_is_all_with_more(letters: Api) -> None:
    for body in ({}, {"ids": []}, {"filter": {}}, {"deleteAll": True, "ids": ["a"]}):
        assert letters.post("/vectors/delete", **body).status_code == 400
    assert set(letters.ids()) == set("abcde")


# -- lists


def test_a_list_comes_in_pages_of_100_each_id_once(index: Api) -> None:
    ids = [f"{number:03}" for number in range(250)]
    index.upsert(*[{"id": id, "values": [1, 0]} for id in ids])
    seen, token, pages = [], None, 0
    while pages == 0 or token:
        page = index.get("/vectors/list", **({"paginationToken": token} if token else {})).json()
        seen += [item["id"] for item in page["vectors"]]
        token, pages = page.get("pagination", {}).get("next"), pages + 1
    assert (seen, pages) == (ids, 3)


def test_a_list_keeps_to_its_prefix_and_limit(index: Api) -> None:
    index.upsert(*[{"id": id, "values": [1, 0]} for id in ("a#1", "a#2", "a", "b#1", "A#1")])
    page = index.get("/vectors/list", prefix="a#", limit=1).json()
    assert page["vectors"] == [{"id": "a#1"}]
    page = index.get("/vectors/list", prefix="a#", paginationToken=page["pagination"]["next"]).json()
    assert (page["vectors"], "pagination" in page) == ([{"id": "a#2"}], False)


def test_a_token_outlives_the_record_that_it_names(index: Api) -> None:
    index.upsert(*[{"id": id, "values": [1, 0]} for id in "abc"])
    token = index.get("/vectors/list", limit=1).json()["pagination"]["next"]
    index.post("/vectors/delete", ids=["a"])
    assert index.get("/vectors/list", paginationToken=token).json()["vectors"] == [{"id": "b"}, {"id": "c"}]


def test_fetch_by_metadata_comes_in_pages(letters: Api) -> None:
    page = letters.post("/vectors/fetch_by_metadata", filter={"vowel": False}, limit=2).json()
    assert list(page["vectors"]) == ["b", "c"]
    token = page["pagination"]["next"]
    page = letters.post("/vectors/fetch_by_metadata", filter={"vowel": False}, paginationToken=token).json()
    assert (list(page["vectors"]), "pagination" in page) == (["d"], False)
    assert letters.post("/vectors/fetch_by_metadata").status_code == 400


# -- namespaces


def test_a_namespace_is_made_by_its_first_write_and_the_same_id_lives_in_each(index: Api) -> None:
    for namespace in ("", "one", "two"):
        index.upsert({"id": "a", "values": [1, 0]}, namespace=namespace)
    index.post("/vectors/delete", ids=["a"], namespace="one")
    assert [index.ids(namespace=name) for name in ("", "__default__", "one", "two")] == [
        ["a"],
        ["a"],
        [],
        ["a"],
    ]
    counts = index.post("/describe_index_stats").json()
    assert counts["namespaces"] == {
        "__default__": {"vectorCount": 1},
        "one": {"vectorCount": 0},
        "two": {"vectorCount": 1},
    }
    assert (counts["totalVectorCount"], counts["dimension"]) == (2, 2)


def test_an_unknown_namespace_reads_as_empty_and_is_404_to_a_delete(index: Api) -> None:
    assert index.ids(namespace="no") == []
    assert index.get("/vectors/fetch", ids="a", namespace="no").json()["vectors"] == {}
    assert index.get("/vectors/list", namespace="no").json()["vectors"] == []
    assert index.post("/vectors/fetch_by_metadata", filter={"a": 1}, namespace="no").json()["vectors"] == {}
    answer = index.post("/vectors/delete", deleteAll=True, namespace="no")
    assert (answer.status_code, answer.json()["message"]) == (404, "Namespace not found")


def test_namespaces_are_listed_described_and_deleted(index: Api) -> None:
    for number in range(3):
        index.upsert({"id": "a", "values": [1, 0]}, namespace=f"n{number}")
    page = index.get("/namespaces", limit=2).json()
    assert page["namespaces"] == [{"name": "n0", "record_count": "1"}, {"name": "n1", "record_count": "1"}]
    assert page["total_count"] == 3
    [last] = index.get("/namespaces", paginationToken=page["pagination"]["next"]).json()["namespaces"]
    assert index.get("/namespaces/n2").json() == last
    assert index.delete("/namespaces/n2").json() == {}
    assert index.get("/namespaces/n2").status_code == index.delete("/namespaces/n2").status_code == 404
    assert index.post("/namespaces", name="n0").status_code == 409
    assert index.post("/namespaces", name="n9").json() == {"name": "n9", "record_count": "0"}


# -- eventual consistency


def test_a_write_is_seen_by_reads_some_time_later(servers: Servers, clock: Clock) -> None:
    index = servers.index(servers.emulator(delay=3))
    index.upsert({"id": "a", "values": [1, 0]})
    clock.now = 2.9
    assert index.ids() == []
    assert index.get("/vectors/fetch", ids="a").json()["vectors"] == {}
    assert index.get("/vectors/list").json()["vectors"] == []
    assert index.post("/describe_index_stats").json()["totalVectorCount"] == 0
    clock.now = 3.0
    assert index.ids() == ["a"]
    index.post("/vectors/delete", ids=["a"])
    assert index.ids() == ["a"]
    clock.now = 6.0
    assert index.ids() == []


def test_log_numbers_tell_when_a_write_is_seen(servers: Servers, clock: Clock) -> None:
    index = servers.index(servers.emulator(delay=3))

    def written(id: str, namespace: str = "") -> int:
        answer = index.upsert({"id": id, "values": [1, 0]}, namespace=namespace)
        return int(answer.headers["x-pinecone-request-lsn"])

    def seen() -> int:
        return int(index.post("/query", topK=1, vector=[1, 0]).headers["x-pinecone-max-indexed-lsn"])

    assert (written("a"), seen()) == (1, 0)
    clock.now = 2.0
    assert (written("b"), seen()) == (2, 0)
    assert written("a", namespace="other") == 1  # each namespace has a log of its own
    clock.now = 3.0
    assert (seen(), index.ids()) == (1, ["a"])
    clock.now = 5.0
    assert (seen(), index.ids()) == (2, ["a", "b"])


def test_changes_are_applied_in_the_order_in_which_they_were_accepted(servers: Servers, clock: Clock) -> None:
    index = servers.index(servers.emulator(delay=1))
    index.upsert({"id": "a", "values": [1, 0]})
    index.post("/vectors/update", id="a", setMetadata={"year": 1})
    index.post("/vectors/delete", ids=["a"])
    index.upsert({"id": "a", "values": [0, 1]})
    clock.now = 1.0
    assert index.get("/vectors/fetch", ids="a").json()["vectors"] == {"a": {"id": "a", "values": [0.0, 1.0]}}


def test_a_delete_by_filter_takes_the_writes_that_were_accepted_before_it(
    servers: Servers, clock: Clock
) -> None:
    index = servers.index(servers.emulator(delay=1))
    for id in ("a", "b"):
        index.upsert({"id": id, "values": [1, 0], "metadata": {"year": 1}})
        index.post("/vectors/delete", filter={"year": 1})
    index.upsert({"id": "c", "values": [1, 0], "metadata": {"year": 1}})
    clock.now = 1.0
    assert index.ids() == ["c"]
