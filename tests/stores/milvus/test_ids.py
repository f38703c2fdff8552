"""Ids that tempt escaping, collation and integer widths; the same ids in two namespaces are other rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stores.milvus.helpers import (
    contents,
    fresh,
    lite_url,
    made,
    milvus_store,
    random_vectors,
    rows,
    scanned,
    small,
)
from vecbridge.errors import InvalidRecordError, PartialWriteError
from vecbridge.filters import field
from vecbridge.query import Query
from vecbridge.schema import IdType
from vecbridge.store import Store

TEXTS = sorted(
    [
        "plain", 'a "quoted" id', '"', '"" or true', "it's", "'", "back\\slash", "\\", '\\"', "\\n",
        "two\nlines", "\r\n", "\t", " ", "  a  ", "a/b", "/", "0", "%", "_", "*", "{x}", "$meta", "id",
        "Zürich", "Zu\u0308rich", "東京", "🌊" * 3, "\u2028", "\ufeff", "\U0010ffff", "\x01", "\x7f",
        "x" * 512, "é" * 256, "🌊" * 128, "A", "a", "true", "1", "1.0",
    ]
)  # fmt: skip
NUMBERS = [
    -(2**63), -(2**63) + 1, -(2**53) - 1, -(2**53), -(2**31), -1, 0, 1, 2**31, 2**53, 2**53 + 1, 2**53 + 2,
    2**63 - 2,
]  # fmt: skip
CASES: list[Any] = [
    pytest.param("string", TEXTS, id="text"),
    pytest.param("int64", NUMBERS, id="int64"),
]


@pytest.mark.parametrize(("id_type", "ids"), CASES)
def test_every_id_is_written_found_fetched_replaced_and_deleted(
    store: Store, id_type: IdType, ids: Sequence[Any]
) -> None:
    spec = small(fresh("ids"), id_type=id_type, fields={"n": "int64"})
    stored = random_vectors(len(ids))
    with made(store, spec) as photos:
        photos.upsert(rows(spec, ids, vector=stored, n=list(range(len(ids)))))
        assert scanned(photos) == ids, "a scan goes by code points, or by numbers"
        assert scanned(photos, batch_rows=1) == ids
        assert photos.fetch(list(reversed(ids))).column("id").to_pylist() == list(reversed(ids))
        assert photos.count(field("n") >= 0) == len(ids)
        photos.flush()
        answers = photos.search(Query(stored, k=1))
        assert [each.ids.tolist() if id_type == "int64" else each.ids for each in answers] == [
            [key] for key in ids
        ]
        for number, key in enumerate(ids):
            photos.upsert(rows(spec, [key], vector=stored[number : number + 1], n=[1000 + number]))
        assert {key: each["n"] for key, each in contents(photos).items()} == {
            key: 1000 + number for number, key in enumerate(ids)
        }
        left = list(ids)
        for key in ids[::3]:
            assert photos.delete([key]) == 1
            left.remove(key)
        assert scanned(photos) == left
        assert photos.delete(ids) == len(left)
        assert photos.count() == 0


@pytest.mark.parametrize(("id_type", "ids"), CASES)
def test_the_same_ids_in_two_namespaces_never_touch_each_other(
    store: Store, id_type: IdType, ids: Sequence[Any]
) -> None:
    spec = small(fresh("spaces"), id_type=id_type, namespaced=True, fields={"of": "string"})
    here, there = random_vectors(len(ids), seed=1), random_vectors(len(ids), seed=2)
    with made(store, spec, namespace="eu") as eu:
        others = {name: store.open(spec.name, namespace=name) for name in ("", "eu-1", "e", "EU")}
        eu.upsert(rows(spec, ids, vector=here, of=["eu"] * len(ids)))
        for name, other in others.items():
            other.upsert(rows(spec, ids, vector=there, of=[f"other {name}"] * len(ids)))
        assert store.namespaces(spec.name) == sorted(["", "EU", "e", "eu", "eu-1"])
        eu.upsert(rows(spec, ids[:2], vector=here[:2], of=["new"] * 2))
        assert eu.delete([ids[-1]]) == 1
        assert eu.delete(filter=field("of") == "eu") == len(ids) - 3
        eu.flush()
        assert {key: each["of"] for key, each in contents(eu).items()} == dict.fromkeys(ids[:2], "new")
        assert eu.count() == 2
        [hits] = eu.search(Query(there[5], k=100, include=["of"]))
        assert set(hits.ids) == set(ids[:2])
        for name, other in others.items():
            found = contents(other)
            assert {key: each["of"] for key, each in found.items()} == dict.fromkeys(ids, f"other {name}")
            [hits] = other.search(Query(there[5], k=1))
            assert list(hits.ids) == [ids[5]]
            assert other.fetch(ids).column("id").to_pylist() == list(ids)
        store.drop(spec.name, namespace="eu")
        assert eu.count() == 0
        assert others["eu-1"].count() == len(ids)


def test_the_id_that_milvus_never_gives_back_is_refused_and_named(genuine: Store) -> None:
    spec = small(fresh("largest"), id_type="int64")
    with made(genuine, spec) as photos:
        with pytest.raises(InvalidRecordError, match="never gives back") as caught:
            photos.upsert(rows(spec, [1, 2**63 - 1, 2]))
        assert [(each.row, each.id) for each in caught.value.rows] == [(1, 2**63 - 1)]
        assert photos.count() == 0
        photos.upsert(rows(spec, [2**63 - 2]))
        assert scanned(photos) == [2**63 - 2]


def test_in_a_namespace_the_largest_id_is_kept_like_any(store: Store) -> None:
    spec = small(fresh("largest"), id_type="int64", namespaced=True)
    with made(store, spec, namespace="eu") as photos:
        photos.upsert(rows(spec, [2**63 - 1, -(2**63)]))
        assert photos.fetch([2**63 - 1, -(2**63)]).column("id").to_pylist() == [2**63 - 1, -(2**63)]


@pytest.mark.parametrize("kind", ["milvus", "milvus-lite"])
def test_a_row_too_wide_for_the_dynamic_field_is_named_and_its_neighbours_are_not_sent(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    spec = small(fresh("wide"), fields={"s": "string", "t": "string"})
    with ExitStack() as stack:
        if kind == "milvus":
            store = request.getfixturevalue("genuine")
        else:
            store = stack.enter_context(milvus_store(lite_url(tmp_path), columns="dynamic"))
        photos = stack.enter_context(made(store, spec))
        texts = ["a", "é" * 20_000, "b"]
        with pytest.raises(InvalidRecordError) as caught:
            photos.upsert(rows(spec, ["a", "wide", "b"], s=texts, t=texts))
        assert [(each.row, each.id) for each in caught.value.rows] == [(1, "wide")]
        assert photos.count() == 0
        photos.upsert(rows(spec, ["wide"], s=["é" * 30_000], t=["\\" * 2_000]))
        [record] = photos.fetch(["wide"], include=["s", "t"]).to_pylist()
        assert (record["s"], record["t"]) == ("é" * 30_000, "\\" * 2_000)


def test_values_that_tempt_escaping_are_filtered_exactly(store: Store) -> None:
    texts = [*TEXTS, ""]
    spec = small(fresh("values"), fields={"s": "string", "tags": "list<string>"})
    with made(store, spec) as photos:
        names = [f"r{number:03d}" for number in range(len(texts))]
        photos.upsert(rows(spec, names, s=texts, tags=[[text, "all"] for text in texts]))
        for name, text in zip(names, texts, strict=True):
            assert scanned(photos, filter=field("s") == text) == [name], text
            assert scanned(photos, filter=field("tags").contains(text)) == [name], text
        assert scanned(photos, filter=~field("s").isin(texts[:-2])) == names[-2:]
        assert scanned(photos, filter=field("tags").contains("all")) == names


def test_the_ends_of_int64_are_filtered_exactly(store: Store) -> None:
    numbers = [*NUMBERS, 2**63 - 1]
    spec = small(fresh("ends"), fields={"n": "int64"})
    with made(store, spec) as photos:
        names = [f"r{number:03d}" for number in range(len(numbers))]
        photos.upsert(rows(spec, names, n=numbers))
        for place, number in enumerate(numbers):
            assert scanned(photos, filter=field("n") == number) == [names[place]]
            assert scanned(photos, filter=field("n") != number) == names[:place] + names[place + 1 :]
            assert scanned(photos, filter=field("n") < number) == names[:place]
            assert scanned(photos, filter=field("n") >= number) == names[place:]
            assert scanned(photos, filter=field("n").isin([number, numbers[0]])) == sorted(
                {names[place], names[0]}
            )
        assert photos.fetch(names, include=["n"]).column("n").to_pylist() == numbers


def test_a_duplicate_id_in_a_batch_is_refused_and_nothing_of_it_is_stored(store: Store) -> None:
    spec = small(fresh("twice"))
    with made(store, spec) as photos:
        with pytest.raises((InvalidRecordError, PartialWriteError)) as caught:
            photos.upsert(rows(spec, ["a", "b", "a"]))
        assert isinstance(caught.value, InvalidRecordError)
        assert photos.count() == 0
        assert np.array_equal(scanned(photos), [])
