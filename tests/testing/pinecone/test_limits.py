"""What the service refuses is refused, with its status and its number; what is just within is taken."""

from __future__ import annotations

from typing import Any

import pytest

from tests.testing.pinecone.conftest import Api, Servers
from vecbridge.testing.pinecone import Emulator


def refused(answer, says: str = "", status: int = 400, code: int = 3) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == {"code", "message", "details"}
    assert body["code"] == code
    assert says in body["message"]


def row(id: Any = "a", values: Any = (1.0, 0.0), **more: Any) -> dict[str, Any]:
    return {"id": id, "values": values} | more


# -- requests


def test_a_request_beyond_2_mb_is_413(index: Api) -> None:
    body = b'{"vectors": [{"id": "a", "values": [1, 0]}]' + b" " * (2 * 1024 * 1024)
    within, beyond = body[: 2 * 1024 * 1024 - 1] + b"}", body[: 2 * 1024 * 1024] + b"}"
    assert index.send("/vectors/upsert", within).status_code == 200
    refused(index.send("/vectors/upsert", beyond), "the limit is: 2097152 bytes", 413, 11)


def test_an_upsert_takes_1000_rows_and_no_more(index: Api) -> None:
    rows = [row(f"{number}") for number in range(1_001)]
    assert index.upsert(*rows[:1_000]).json() == {"upsertedCount": 1_000}
    refused(index.upsert(*rows), "1000")


def test_an_upsert_of_nothing_is_refused(index: Api) -> None:
    refused(index.upsert())


def test_what_is_not_a_json_object_is_refused(index: Api) -> None:
    refused(index.send("/vectors/upsert", b"{"))
    refused(index.send("/vectors/upsert", b'{"vectors": [{"id": "a", "values": [NaN, 0]}]}'))
    assert index.send("/vectors/upsert", b"[]").status_code == 422


def test_one_bad_row_refuses_the_whole_upsert(index: Api) -> None:
    refused(index.upsert(row("good"), row("bad", [1.0])))
    assert index.ids() == []


# -- ids


@pytest.mark.parametrize("id", ["a", " ", "a b/c?%#", "x" * 512])
def test_an_id_is_up_to_512_bytes_of_ascii(index: Api, id: str) -> None:
    index.upsert(row(id)).raise_for_status()
    assert list(index.get("/vectors/fetch", ids=[id]).json()["vectors"]) == [id]


@pytest.mark.parametrize("id", ["", "x" * 513, "fünf", "\0", 7, None])
def test_another_id_is_refused_everywhere(index: Api, id: Any) -> None:
    refused(index.upsert(row(id)), "Vector ID")
    refused(index.post("/vectors/delete", ids=[id]), "")
    if isinstance(id, str) and id:
        refused(index.get("/vectors/fetch", ids=[id]), "Vector ID")
        refused(index.post("/vectors/update", id=id, setMetadata={"a": 1}))


def test_a_fetch_and_a_delete_take_1000_ids_and_no_more(index: Api) -> None:
    index.upsert(row())
    ids = [f"{number}" for number in range(1_001)]
    assert index.get("/vectors/fetch", ids=ids[:1_000]).status_code == 200
    refused(index.get("/vectors/fetch", ids=ids), "1000")
    assert index.post("/vectors/delete", ids=ids[:1_000]).status_code == 200
    refused(index.post("/vectors/delete", ids=ids), "1000")
    refused(index.get("/vectors/fetch"))


# -- vectors


@pytest.mark.parametrize("values", [[1.0], [1.0, 0.0, 0.0], []])
def test_a_vector_of_another_dimension_is_refused(index: Api, values: list[float]) -> None:
    says = f"Vector dimension {len(values)} does not match the dimension of the index 2"
    refused(index.upsert(row(values=values)), says)
    if values:
        refused(index.post("/query", topK=1, vector=values), says)


def test_a_vector_of_zeros_is_refused_in_a_record_and_taken_in_a_query(index: Api) -> None:
    says = "Dense vectors must contain at least one non-zero value. Vector ID 'a' contains only zeros"
    refused(index.upsert(row(values=[0, 0])), says)
    index.upsert(row())
    assert index.ids(vector=[0, 0]) == ["a"]


@pytest.mark.parametrize(
    "values", [[1e39, 0], ["1", 0], [True, 0], [None, 0], "10", {"0": 1, "1": 0}], ids=str
)
def test_a_vector_is_finite_float32_numbers(index: Api, values: Any) -> None:
    refused(index.upsert(row(values=values)), "values")


# -- metadata


@pytest.mark.parametrize("value", ["", "ä", 0, -1.5, 2**60, True, [], ["a", ""]], ids=str)
def test_metadata_are_strings_numbers_booleans_and_lists_of_strings(index: Api, value: Any) -> None:
    index.upsert(row(metadata={"key": value})).raise_for_status()
    stored = index.get("/vectors/fetch", ids="a").json()["vectors"]["a"]["metadata"]["key"]
    assert stored == value
    assert type(stored) is (float if type(value) is int else type(value))


@pytest.mark.parametrize("value", [None, {"a": 1}, [1], ["a", None], [["a"]], [True]], ids=str)
def test_null_nested_and_mixed_metadata_are_refused(index: Api, value: Any) -> None:
    says = "Metadata value must be a string, number, boolean or list of strings, got '"
    refused(index.upsert(row(metadata={"key": value})), says)
    index.upsert(row())
    refused(index.post("/vectors/update", id="a", setMetadata={"key": value}), "for field 'key'")


def test_integers_beyond_2_53_lose_their_last_digits(index: Api) -> None:
    index.upsert(row(metadata={"key": 2**53 + 1}))
    assert index.get("/vectors/fetch", ids="a").json()["vectors"]["a"]["metadata"]["key"] == 2**53


@pytest.mark.parametrize("key", ["", "$key"])
def test_a_metadata_key_is_not_empty_and_no_operator(index: Api, key: str) -> None:
    refused(index.upsert(row(metadata={key: 1})), "Metadata keys")


def test_metadata_take_40_kb_a_record(index: Api) -> None:
    overhead = len('{"key":""}')
    assert index.upsert(row(metadata={"key": "x" * (40_960 - overhead)})).status_code == 200
    says = "metadata size is 40961 bytes, which exceeds the limit of 40960 bytes per vector"
    refused(index.upsert(row(metadata={"key": "x" * (40_961 - overhead)})), says)


# -- queries


@pytest.mark.parametrize("k", [0, -1, 10_001, 1.5, "1", None, True])
def test_top_k_is_1_to_10000(index: Api, k: Any) -> None:
    refused(index.post("/query", topK=k, vector=[1, 0]), "topK")
    assert index.post("/query", topK=10_000, vector=[1, 0]).status_code == 200


def test_a_query_takes_a_vector_or_an_id(index: Api) -> None:
    refused(index.post("/query", topK=1))
    refused(index.post("/query", topK=1, vector=[1, 0], id="a"), "both")
    refused(index.post("/query", topK=1, queries=[{"values": [1, 0]}]), "deprecated")


def test_a_result_beyond_4_mb_is_refused(servers: Servers, emulator: Emulator) -> None:
    index = servers.index(emulator, name="wide", dimension=2_000)
    for start in range(0, 600, 100):
        rows = [row(f"{number}", [1] * 2_000) for number in range(start, start + 100)]
        index.upsert(*rows).raise_for_status()
    query = {"vector": [1] * 2_000, "topK": 600}
    assert index.post("/query", **query).status_code == 200
    refused(index.post("/query", **query, includeValues=True), "4194304 bytes")


def test_stats_take_no_filter_on_serverless(index: Api) -> None:
    refused(index.post("/describe_index_stats", filter={"year": 1}), "Serverless")


@pytest.mark.parametrize("limit", [0, 101, -1, "x"])
def test_a_page_of_a_list_has_at_most_100_ids(index: Api, limit: Any) -> None:
    refused(index.get("/vectors/list", limit=limit), "limit")


def test_a_token_that_no_page_gave_is_refused(index: Api) -> None:
    for token in ("x", "bm90IGpzb24=", "MQ=="):
        refused(index.get("/vectors/list", paginationToken=token), "token")


def test_sparse_values_need_the_dotproduct_metric(servers: Servers, emulator: Emulator) -> None:
    sparse = {"indices": [3, 5], "values": [1.0, 2.0]}
    cosine, dot = servers.index(emulator, name="c"), servers.index(emulator, name="d", metric="dotproduct")
    refused(cosine.upsert(row(sparseValues=sparse)), "dotproduct")
    assert dot.upsert(row(sparseValues=sparse)).status_code == 200
    assert dot.get("/vectors/fetch", ids="a").json()["vectors"]["a"]["sparseValues"] == sparse
    refused(dot.upsert(row(sparseValues={"indices": [1, 1], "values": [1, 2]})), "each index once")


def test_the_same_rules_hold_for_an_update(index: Api) -> None:
    index.upsert(row())
    refused(index.post("/vectors/update", id="a", values=[1.0]), "dimension")
    refused(index.post("/vectors/update", id="a", values=[0, 0]), "zeros")
    refused(index.post("/vectors/update", setMetadata={"a": 1}), "id")
    refused(index.post("/vectors/update", id="a", filter={"a": 1}, setMetadata={"a": 1}), "both")
