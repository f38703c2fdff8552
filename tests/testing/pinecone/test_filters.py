"""Metadata filters: what they match, and what is no filter."""

from __future__ import annotations

from typing import Any

import pytest

from tests.testing.pinecone.conftest import Api

ROWS = {
    "old": {"year": 1999, "title": "A", "tags": ["sea", "sun"], "seen": True},
    "new": {"year": 2020, "title": "B", "tags": [], "seen": False},
    "one": {"year": 1, "title": ""},
    "none": {},
}


@pytest.fixture
def films(index: Api) -> Api:
    rows = [{"id": id, "values": [1, 0], "metadata": metadata} for id, metadata in ROWS.items()]
    index.upsert(*rows).raise_for_status()
    return index


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({"year": 2020}, ["new"]),
        ({"year": {"$eq": 2020.0}}, ["new"]),
        ({"year": {"$ne": 2020}}, ["old", "one", "none"]),
        ({"year": {"$ne": 2020, "$exists": True}}, ["old", "one"]),
        ({"year": {"$gt": 1, "$lt": 2020}}, ["old"]),
        ({"year": {"$gte": 1999}}, ["old", "new"]),
        ({"year": {"$lte": 1}}, ["one"]),
        ({"title": {"$in": ["A", ""]}}, ["old", "one"]),
        ({"title": {"$in": []}}, []),
        ({"title": {"$nin": ["A", "B"]}}, ["one", "none"]),
        ({"tags": "sea"}, ["old"]),
        ({"tags": {"$ne": "sea"}}, ["new", "one", "none"]),
        ({"tags": {"$in": ["sea", "rain"]}}, ["old"]),
        ({"tags": {"$exists": True}}, ["old", "new"]),
        ({"seen": True}, ["old"]),
        ({"year": True}, []),  # a boolean is no number
        ({"seen": {"$eq": 1}}, []),
        ({"title": {"$exists": False}}, ["none"]),
        ({"$or": [{"year": 1}, {"title": "B"}]}, ["new", "one"]),
        ({"$and": [{"year": {"$gt": 1}}, {"seen": False}]}, ["new"]),
        ({"year": {"$gt": 1}, "seen": False}, ["new"]),
        ({}, ["old", "new", "one", "none"]),
    ],
    ids=str,
)
def test_a_filter_finds(films: Api, condition: Any, found: list[str]) -> None:
    assert films.ids(filter=condition) == found


@pytest.mark.parametrize(
    "condition",
    [
        {"year": {"$near": 1}},
        {"$not": [{"year": 1}]},
        {"year": {}},
        {"year": None},
        {"year": {"$eq": None}},
        {"year": {"$eq": [1]}},
        {"tags": ["sea"]},
        {"title": {"$gt": "A"}},
        {"year": {"$gt": True}},
        {"year": {"$in": 1}},
        {"seen": {"$in": [True]}},
        {"title": {"$exists": 1}},
        {"$and": []},
        {"$or": {"year": 1}},
        {"$and": ["year"]},
        {"title": {"$in": ["x"] * 10_001}},
        "year > 1",
    ],
    ids=lambda condition: str(condition)[:40],
)
def test_what_is_no_filter_is_refused_wherever_it_stands(films: Api, condition: Any) -> None:
    for answer in (
        films.post("/query", topK=1, vector=[1, 0], filter=condition),
        films.post("/vectors/delete", filter=condition),
        films.post("/vectors/fetch_by_metadata", filter=condition),
        films.post("/vectors/update", filter=condition, setMetadata={"a": 1}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (400, 3), answer.text
    assert set(films.ids()) == set(ROWS)


def test_in_takes_10000_values(films: Api) -> None:
    assert films.ids(filter={"title": {"$in": ["A"] * 10_000}}) == ["old"]


def test_a_filter_nested_beyond_reason_is_refused_and_the_emulator_lives(films: Api) -> None:
    content = b'{"$and":[' * 500 + b'{"year":1}' + b"]}" * 500
    answer = films.send("/query", b'{"topK":1,"vector":[1,0],"filter":' + content + b"}")
    assert (answer.status_code, answer.json()["message"]) == (400, "The filter is nested too deeply")
    assert films.ids(filter={"year": 1}) == ["one"]
