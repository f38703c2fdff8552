"""Indexes that other programs made: opened, read, searched and filtered, and left as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import vecbridge as vb
from tests.stores.pinecone.helpers import KEY, contents, random_vectors, rows, scanned
from vecbridge.collection import Collection
from vecbridge.errors import ConfigError, InvalidRecordError, NotFoundError, SchemaError, UnsupportedError
from vecbridge.query import Query
from vecbridge.schema import Metric
from vecbridge.store import Store
from vecbridge.testing.pinecone import Emulator

pinecone = pytest.importorskip("pinecone")

PLACE = pinecone.ServerlessSpec(cloud="aws", region="us-east-1")
VECTORS = random_vectors(120)
COUNT = 120


def metadata(number: int) -> dict[str, Any]:
    held: dict[str, Any] = {
        "year": 2000 + number,
        "flag": number % 2 == 0,
        "title": f"t{number}",
        "tags": [f"g{number % 3}", "all"],
        "mixed": number if number % 2 else "text",
        "with space": "x",
        "Title": "another case",
    }
    return {key: value for key, value in held.items() if key != "title" or number % 5}


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Any]:
    with pinecone.Pinecone(api_key=KEY, host=emulator.host) as opened:
        yield opened


@pytest.fixture
def index(client: Any) -> Iterator[Any]:
    client.indexes.create(
        name="other-photos", dimension=4, metric="euclidean", spec=PLACE, tags={"team": "b"}
    )
    with client.index("other-photos") as opened:
        data = [(f"p/{n:03}%41", VECTORS[n].tolist(), metadata(n)) for n in range(COUNT)]
        opened.upsert(vectors=data)
        yield opened


def state(client: Any, index: Any) -> str:
    """Everything of the index, as another program sees it."""
    described = client.indexes.describe("other-photos")
    rows = [index.fetch(ids=[each.id]).vectors for page in index.list() for each in page.vectors]
    return json.dumps([described.tags, str(index.describe_index_stats().namespaces), rows], default=str)


def test_a_foreign_index_is_read_searched_and_filtered_and_left_as_it_was(
    client: Any, index: Any, store: Store
) -> None:
    before = state(client, index)
    assert store.collections() == ["other-photos"]
    photos = store.open("other-photos")
    assert (photos.spec.name, photos.spec.id_type, photos.spec.namespaced) == (
        "other-photos",
        "string",
        False,
    )
    assert (photos.spec.vector.name, photos.spec.vector.dim, photos.spec.vector.metric) == (
        "vector",
        4,
        Metric.L2,
    )
    assert {each.name: each.type for each in photos.spec.fields} == {
        "Title": "string", "flag": "bool", "tags": "list<string>", "year": "float64", "extra": "json",
    }  # fmt: skip
    assert photos.losses == ()
    found = contents(photos)
    assert found.keys() == {f"p/{n:03}%41" for n in range(COUNT)}
    for n in range(COUNT):
        row, held = found[f"p/{n:03}%41"], metadata(n)
        assert row["vector"] == VECTORS[n].tolist()
        assert {key: row[key] for key in ("year", "flag", "tags", "Title")} == {
            key: held.pop(key) for key in ("year", "flag", "tags", "Title")
        }
        extra = json.loads(row["extra"])
        assert extra == {
            key: float(value) if isinstance(value, int) else value for key, value in held.items()
        }
    require_filters(photos)
    [hits] = photos.search(Query(VECTORS[7], k=1, include=["extra"]))
    assert hits[0].id == "p/007%41"
    photos.flush()
    assert state(client, index) == before, "reading altered the source"


def require_filters(photos: Collection) -> None:
    year, flag, tags = vb.field("year"), vb.field("flag"), vb.field("tags")
    for condition, keeps in (
        (year >= 2100, lambda n: n >= 100),
        (year != 2001, lambda n: n != 1),
        (~year.isin([2000, 2003]), lambda n: n not in (0, 3)),
        (flag == True, lambda n: n % 2 == 0),  # noqa: E712
        (tags.contains("g1"), lambda n: n % 3 == 1),
        (~tags.contains("g1"), lambda n: n % 3 != 1),
        (tags.is_null(), lambda n: False),
    ):
        wanted = [f"p/{n:03}%41" for n in range(COUNT) if keeps(n)]
        assert scanned(photos, filter=condition) == wanted, condition
        assert photos.count(condition) == len(wanted), condition
    for condition, said in (
        (vb.field("extra").is_null(), "'extra'"),
        (tags.is_empty(), "is_empty on 'tags'"),
        (~tags.is_empty(), "is_empty on 'tags'"),
        (vb.field("id") == "p/000%41", "filter on the id"),
    ):
        with pytest.raises(UnsupportedError, match=said):
            photos.count(condition)


def test_what_is_written_to_a_foreign_index_looks_like_its_other_records(index: Any, store: Store) -> None:
    photos = store.open("other-photos")
    columns: dict[str, Any] = {
        "year": [1.5, None, None],
        "flag": [None, True, None],
        "tags": [[], None, ["a"]],
    }
    columns |= {"Title": [None, "", None], "extra": ['{"title":"new","with space":"y"}', None, "{}"]}
    photos.upsert(rows(photos.spec, ["n1", "n%41", "p/000%41"], **columns))
    photos.flush()
    held = {key: each.metadata for key, each in index.fetch(ids=["n1", "n%41", "p/000%41"]).vectors.items()}
    assert held == {
        "n1": {"year": 1.5, "tags": [], "title": "new", "with space": "y"},
        "n%41": {"flag": True, "Title": ""},
        "p/000%41": {"tags": ["a"]},
    }
    again = photos.fetch(["n1", "n%41", "p/000%41"]).to_pydict()
    assert [again[name] for name in columns if name != "extra"] == [
        columns[name] for name in columns if name != "extra"
    ]
    assert again["extra"] == [columns["extra"][0], None, None]


@pytest.mark.parametrize(
    "extra",
    ["[1]", '{"$a":1}', '{"":1}', '{"a":null}', '{"a":{}}', '{"a":[1]}', f'{{"a":{2**60}}}', '{"year":1}'],
)
def test_what_other_keys_cannot_hold_is_refused(index: Any, store: Store, extra: str) -> None:
    photos = store.open("other-photos")
    with pytest.raises(InvalidRecordError) as caught:
        photos.upsert(rows(photos.spec, ["fine", "bad"], extra=[None, extra], year=[None, 1]))
    assert [each.row for each in caught.value.rows] == [1]
    with pytest.raises(InvalidRecordError, match="ASCII"):
        photos.upsert(rows(photos.spec, ["é"]))
    assert photos.fetch(["é", "fine"]).num_rows == 0


ODD = ["a b", "eu/west?x=1&y#z", "n" * 100]


def test_native_namespaces_are_namespaces_also_of_names_that_vecbridge_never_gives(
    index: Any, store: Store
) -> None:
    for namespace in ("eu", *ODD):
        index.upsert(vectors=[(f"x{namespace[:1]}", [1, 0, 0, 0], {"only": namespace})], namespace=namespace)
    assert store.open("other-photos").spec.namespaced
    assert store.namespaces("other-photos") == sorted(["", "eu", *ODD])
    for namespace in ("eu", *ODD):
        there = store.open("other-photos", namespace=namespace)
        assert (there.count(), scanned(there)) == (1, [f"x{namespace[:1]}"])
        assert there.losses == ()
        assert there.fetch([f"x{namespace[:1]}"])["only"].to_pylist() == [namespace]
        [first] = there.scan()
        assert list(there.scan(cursor=first.cursor)) == []
        assert vb.urls.parse(str(there.url)).namespace == namespace
    with pytest.raises(ConfigError, match="namespace 'a b'"):
        store.create(vb.CollectionSpec.single("own", dim=4, namespaced=True), namespace="a b")
    store.create(vb.CollectionSpec.single("own", dim=4, namespaced=True))
    with pytest.raises(ConfigError, match="namespace 'a b'"):
        store.open("own", namespace="a b")


def test_what_first_comes_behind_the_sample_stands_in_extra(index: Any, store: Store) -> None:
    held = {"year": "later", "flag": 1, "Title": ["x"], "tags": "all", "sudden": 2, "id": "i", "vector": True}
    more = [(f"q{n:03}", VECTORS[0].tolist(), {"year": n}) for n in range(100)]
    index.upsert(vectors=[*more, ("z", VECTORS[0].tolist(), held), ("zz", VECTORS[0].tolist(), {"year": 0})])
    photos = store.open("other-photos")
    assert "sudden" not in photos.spec.column_names
    row, last = photos.fetch(["z", "zz"]).to_pylist()
    assert {row[name] for name in ("year", "flag", "Title", "tags")} == {None}
    assert row["extra"] == (
        '{"Title":["x"],"flag":1.0,"id":"i","sudden":2.0,"tags":"all","vector":true,"year":"later"}'
    )
    assert (last["year"], last["extra"]) == (0.0, None)
    assert contents(photos)["z"] == row


def test_sparse_values_are_a_loss_and_the_index_is_not_written_to(client: Any, store: Store) -> None:
    client.indexes.create(name="hybrid", dimension=2, metric="dotproduct", spec=PLACE)
    with client.index("hybrid") as index:
        sparse = {"indices": [1, 5], "values": [0.5, 2.0]}
        index.upsert(vectors=[{"id": "a", "values": [1, 2], "sparse_values": sparse}])
    hybrid = store.open("hybrid")
    assert [(gap.kind, gap.blocking) for gap in hybrid.losses] == [("sparse", False)]
    assert hybrid.fetch(["a"]).column("vector").to_pylist() == [[1, 2]]
    with pytest.raises(UnsupportedError, match="sparse"):
        hybrid.upsert(rows(hybrid.spec, ["a"]))


def test_a_record_without_dense_values_is_named_and_ends_no_scan(
    client: Any, store: Store, emulator: Emulator
) -> None:
    client.indexes.create(name="hybrid", dimension=2, metric="dotproduct", spec=PLACE)
    with client.index("hybrid") as index:
        index.upsert(vectors=[(key, [1, number], {"n": number}) for number, key in enumerate("abcd")])
    without_values(emulator, "hybrid", "b")
    hybrid, named = store.open("hybrid"), {}
    for condition in (None, vb.field("n") >= 1):
        with pytest.raises(InvalidRecordError, match="'b': row:no_vector"):
            list(hybrid.scan(filter=condition))
        named.clear()
        pages = list(hybrid.scan(filter=condition, batch_rows=1, unfit=named.__setitem__))
        assert [key for page in pages for key in page.batch["id"].to_pylist()] == (
            ["a", "c", "d"] if condition is None else ["c", "d"]
        )
        assert {key: str(reason) for key, reason in named.items()} == {
            "b": "row:no_vector: it has no vector 'vector'"
        }
    limited = list(hybrid.scan(batch_rows=2, limit=2, unfit=named.__setitem__))
    assert [page.batch["id"].to_pylist() for page in limited] == [["a"]]
    with pytest.raises(InvalidRecordError, match="'b'"):
        hybrid.fetch(["a", "b"])
    assert hybrid.fetch(["b"], include=["n"])["n"].to_pylist() == [1]
    assert scanned(hybrid) == ["a", "b", "c", "d"]
    assert hybrid.count() == 4


def without_values(emulator: Emulator, index: str, key: str) -> None:
    """Makes a record one of sparse values alone, which the service took in earlier years."""
    records = emulator._project.find(index).data._namespaces[""].records
    records[key] = replace(records[key], values=None, sparse={1: 0.5})  # type: ignore[index]


def test_an_index_without_dense_vectors_is_no_collection(client: Any, store: Store) -> None:
    client.indexes.create(name="words", vector_type="sparse", metric="dotproduct", spec=PLACE)
    with pytest.raises(SchemaError, match="no dense vectors"):
        store.open("words")
    client.indexes.delete("words")
    with pytest.raises(NotFoundError):
        store.open("words")


def test_an_empty_foreign_index_opens_with_nothing_but_extra(client: Any, store: Store) -> None:
    client.indexes.create(name="empty", dimension=4, metric="cosine", spec=PLACE)
    empty = store.open("empty")
    assert empty.spec.column_names == ("id", "vector", "extra")
    empty.upsert(rows(empty.spec, ["a"], extra=['{"a":"b"}']))
    assert empty.fetch(["a"]).to_pydict()["extra"] == ['{"a":"b"}']
