"""What is written is what is read, over either transport, and how it looks to other programs."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vecbridge as vb
from tests.stores.pinecone.helpers import (
    KEY,
    contents,
    pinecone_store,
    random_vectors,
    rows,
    scanned,
    small,
)
from vecbridge.errors import ConfigError, UnsupportedError
from vecbridge.filters import COMPARE, Cmp, In, Not, Op, normalize
from vecbridge.query import Query
from vecbridge.schema import CollectionSpec, EmbedderIdentity
from vecbridge.store import Store
from vecbridge.stores.pinecone import expressions, integers, layout, tags
from vecbridge.testing.pinecone import Emulator
from vecbridge.testing.pinecone.filters import compiled
from vecbridge.testing.strategies import ODD_INTEGERS, ODD_TEXTS, ODD_TIMES

FIELDS: dict[str, Any] = {
    "flag": "bool", "year": "int64", "price": "float64", "title": "string", "tags": "list<string>",
    "facts": "json", "taken": "timestamp", "sizes": "list<int64>", "ratios": "list<float64>",
}  # fmt: skip
VALUES: dict[str, list[Any]] = {
    "flag": [True, False, None, None, None],
    "year": [2020, 2**63 - 1, -(2**63), 2**53 + 1, None],
    "price": [0.1, 5e-324, 1.7976931348623157e308, -0.5, None],
    "title": ["", 'say "hi"\\\n', "\U0001f600", "null", None],
    "tags": [[], [""], ["a", 'b"', "\U00010000"], ["[]"], None],
    "facts": ["null", '""', "[]", f'{{"a":{2**80}}}', None],
    "taken": [
        datetime(1970, 1, 1, microsecond=7, tzinfo=UTC),
        ODD_TIMES[0],
        ODD_TIMES[-1],
        ODD_TIMES[4],
        None,
    ],
    "sizes": [[], [2**63 - 1, -(2**63)], [7, 7, 0], [2**53 + 1], None],
    "ratios": [[0.5, 3.0], [], [0.1, 5e-324, -1.7976931348623157e308], [1e16, 1e22], None],
}
ALL_OR_FILTERED = pytest.mark.parametrize("condition", [None, vb.field("year") >= 0], ids=["all", "filtered"])
IDS = ["a", "50% off?/#&é", "\U0001f600", " blank ", "%C3%A9"]


@pytest.mark.parametrize(("writer", "reader"), [("rest", "grpc"), ("grpc", "rest")])
def test_what_one_transport_writes_the_other_reads(emulator: Emulator, writer: str, reader: str) -> None:
    vectors = random_vectors(5) * np.float32(1e-3)
    with (
        pinecone_store(emulator, transport=writer) as one,
        pinecone_store(emulator, transport=reader) as other,
    ):
        photos = one.create(small(fields=FIELDS))
        batch = rows(photos.spec, IDS, vector=vectors, **VALUES)
        photos.upsert(batch)
        found = other.open("photos").fetch(IDS)
        assert found.equals(batch)
        assert set(scanned(other.open("photos"))) == set(IDS)
        [hits] = other.open("photos").search(Query(vectors[2], k=1, include=list(FIELDS)))
        assert hits.records == batch.slice(2, 1).select(["id", *FIELDS])


def test_other_programs_find_plain_metadata(emulator: Emulator, rest: Store) -> None:
    import pinecone

    photos = rest.create(small("my_photos", fields=FIELDS, namespaced=True), namespace="eu")
    photos.upsert(rows(photos.spec, IDS, **VALUES))
    with pinecone.Pinecone(api_key=KEY, host=emulator.host) as client, client.index("my-photos") as index:
        plain = {
            key: dict(row.metadata or {})
            for key, row in index.fetch(ids=["a"], namespace="eu").vectors.items()
        }
        assert plain == {
            "a": {
                "_vb_id": "a",
                "flag": True,
                "year": 2020.0,
                "price": 0.1,
                "title": "",
                "_vb_tags": "[]",
                "facts": "null",
                "taken": 7.0,
                "_vb_sizes": "[]",
                "ratios": ["0.5", "3.0"],
            }
        }
        page = index.list_paginated(namespace="eu")
        assert {each.id for each in page.vectors} == {
            "a", "50%25 off?/#&%C3%A9", "%F0%9F%98%80", " blank ", "%25C3%25A9",
        }  # fmt: skip
        found = index.query(vector=[1, 1, 1, 1], top_k=9, namespace="eu", filter={"year": {"$gt": 2019}})
        assert {each.id for each in found.matches} == {"a", "50%25 off?/#&%C3%A9", " blank "}


@settings(max_examples=300)
@given(
    stored=st.lists(st.sampled_from(ODD_INTEGERS) | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8),
    literal=st.sampled_from(ODD_INTEGERS) | st.integers(-(2**63), 2**63 - 1),
    shift=st.integers(-2, 2),
)
def test_integers_compare_as_they_are_at_every_width(stored: list[int], literal: int, shift: int) -> None:
    near = min(max(literal + shift, -(2**63)), 2**63 - 1)
    spec = small(fields={"year": "int64"})
    where = layout.of_spec(spec)
    for value in [*stored, near]:
        nearest, rest = integers.split(value)
        held = {"year": nearest} | ({"_vb_year": float(rest)} if rest else {})
        held = orjson.loads(orjson.dumps(held))
        assert integers.joined(held["year"], held.get("_vb_year", 0)) == value
        for op in COMPARE:
            condition: Any = expressions.compiled(normalize(Cmp("year", op, literal), spec), where)
            assert compiled(condition)(held) == COMPARE[op](value, literal), (value, op, literal)
        for wanted in ([literal, *stored[1:]], [literal]):
            condition = expressions.compiled(normalize(In("year", tuple(wanted)), spec), where)
            assert compiled(condition)(held) == (value in wanted)
            condition = expressions.compiled(normalize(Not(In("year", tuple(wanted))), spec), where)
            assert compiled(condition)(held) == (value not in wanted)


@pytest.mark.parametrize("op", list(COMPARE))
def test_an_ordinary_integer_filters_as_anybody_would_write_it(op: Op) -> None:
    spec = small(fields={"year": "int64"})
    condition = expressions.compiled(normalize(Cmp("year", op, 2020), spec), layout.of_spec(spec))
    plain = {"year": {integers.OPERATORS[op]: 2020.0}}
    either = {"$or": [{"year": {"$lt": 2020.0}}, {"year": {"$gt": 2020.0}}]}
    assert condition == (either if op == "!=" else plain)


def test_what_means_not_asks_whether_there_is_a_value() -> None:
    spec = small(fields=FIELDS)
    where = layout.of_spec(spec)
    for condition in (
        vb.field("title") != "a",
        ~vb.field("title").isin(["a"]),
        ~vb.field("tags").contains("a"),
        ~vb.field("year").isin([1]),
    ):
        text = json.dumps(expressions.compiled(normalize(condition, spec), where))
        assert '"$exists": true' in text
        assert '"$not"' not in text


def test_an_ordinary_time_filters_as_microseconds() -> None:
    spec = small(fields={"taken": "timestamp"})
    condition = normalize(vb.field("taken") > datetime(2020, 1, 1, tzinfo=UTC), spec)
    assert expressions.compiled(condition, layout.of_spec(spec)) == {"taken": {"$gt": 1_577_836_800e6}}


def test_lists_of_numbers_are_filtered_by_their_elements_and_empty_ones_stay_apart(store: Store) -> None:
    photos = store.create(small(fields={"sizes": "list<int64>", "ratios": "list<float64>"}))
    ratios = [[0.1, 3.0], [], None, [-0.0]]
    photos.upsert(rows(photos.spec, list("abcd"), sizes=[[7, 2**53 + 1], [2**53], [], None], ratios=ratios))
    sizes, of = vb.field("sizes"), vb.field("ratios")
    for condition, keeps in (
        (sizes.contains(2**53 + 1), "a"),
        (sizes.contains(2**53), "b"),
        (~sizes.contains(7), "bc"),
        (sizes.is_empty(), "c"),
        (~sizes.is_empty(), "ab"),
        (sizes.is_null(), "d"),
        (of.contains(3), "a"),
        (of.contains(0), "d"),
        (~of.contains(0.1), "bd"),
        (of.is_empty() | of.is_null(), "bc"),
    ):
        assert scanned(photos, filter=condition) == list(keeps), condition
    assert photos.fetch(["d"])["ratios"].to_pylist() == [[0.0]]


def test_ids_are_filtered_by_the_service_in_one_request(emulator: Emulator, store: Store) -> None:
    photos = store.create(small(fields={"year": "int64"}))
    photos.upsert(rows(photos.spec, IDS, year=range(len(IDS))))
    emulator.log.clear()
    wanted = vb.field("id").isin([*IDS[:3], "nobody", "x" * 600]) & (vb.field("year") > 0)
    assert photos.count(wanted) == 2
    assert [request.operation for request in emulator.log.requests()] == ["fetch_by_metadata"]


def test_records_of_an_older_index_have_no_copy_of_their_id(emulator: Emulator, rest: Store) -> None:
    import pinecone

    rest.create(small(fields={"year": "int64"}))
    with pinecone.Pinecone(api_key=KEY, host=emulator.host) as client, client.index("photos") as index:
        older = client.indexes.describe("photos").tags["vecbridge"].replace("2-", "1-", 1)
        client.indexes.configure("photos", tags={"vecbridge": older})
        photos = rest.open("photos")
        photos.upsert(rows(photos.spec, ["a"], year=[1]))
        assert dict(index.fetch(ids=["a"]).vectors["a"].metadata) == {"year": 1.0}
    for condition in (vb.field("id") == "a", ~vb.field("id").isin(["b"]), vb.field("id") != "b"):
        with pytest.raises(UnsupportedError, match=r"id of this index.*fetch\(\) and delete\(\) take ids"):
            photos.count((vb.field("year") == 1) | condition)
    assert scanned(photos, filter=vb.field("year") == 1) == ["a"]


def test_a_list_beyond_ten_thousand_values_goes_in_parts(rest: Store) -> None:
    photos = rest.create(small(fields={"year": "int64"}))
    photos.upsert(rows(photos.spec, ["a", "b"], year=[24_999, -1]))
    wanted = vb.field("year").isin(range(25_000))
    assert (photos.count(wanted), photos.count(~wanted)) == (1, 1)


@pytest.mark.parametrize("text", [each for each in ODD_TEXTS if each] + ["%", "%%41", "é" * 80, "~ \x7f\x01"])
def test_an_id_is_ascii_at_the_service_and_itself_here(text: str) -> None:
    where = layout.Layout("string", {})
    key = where.key(text)
    assert key.isascii()
    assert key.isprintable()
    assert where.id(key) == text


def test_float32_is_read_back_exactly_from_its_shortest_digits() -> None:
    bits = np.random.default_rng(3).integers(0, 2**32, 200_000, dtype=np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    read = np.array(orjson.loads(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)), np.float64)
    assert read.astype(np.float32).tobytes() == values.tobytes()


def test_a_namespace_may_be_called_like_the_default_one(store: Store) -> None:
    spec = small(namespaced=True)
    for number, name in enumerate(("", "__default__", "eu")):
        store.create(spec, if_exists="open", namespace=name).upsert(rows(spec, [f"r{number}"]))
    assert store.namespaces("photos") == ["", "__default__", "eu"]
    assert [scanned(store.open("photos", namespace=name)) for name in store.namespaces("photos")] == [
        ["r0"], ["r1"], ["r2"],
    ]  # fmt: skip
    store.drop("photos", namespace="__default__")
    store.drop("photos", namespace="")
    assert store.namespaces("photos") == ["eu"]


def test_the_spec_is_in_no_search_count_scan_or_namespace(emulator: Emulator, rest: Store) -> None:
    identity = EmbedderIdentity("openai/clip-vit-base-patch32", "3d74acf9a28c" * 3, 4, "0" * 64)
    fields = {f"a_field_with_a_long_name_{number}": "list<string>" for number in range(60)}
    photos = rest.create(small(fields=fields, embedder=identity, namespaced=True))
    assert (photos.count(), contents(photos), rest.namespaces("photos")) == (0, {}, [])
    assert photos.search(Query(random_vectors(1)))[0].ids == []
    with pinecone_store(emulator) as other:
        assert other.open("photos").spec == photos.spec
        assert other.collections() == ["photos"]


def test_a_users_tags_stand_beside_the_spec(emulator: Emulator) -> None:
    import pinecone

    with pinecone_store(emulator, tags={"team": "search", "env": "test"}) as store:
        store.create(small())
        assert store.open("photos").spec == small()
    with vb.connect(f"{emulator.host.replace('http', 'pinecone')}?tags=team:b,env:c", api_key=KEY) as other:
        other.create(small("second"))
    with pinecone.Pinecone(api_key=KEY, host=emulator.host) as client:
        assert client.indexes.describe("photos").tags.items() >= {"team": "search", "env": "test"}.items()
        assert client.indexes.describe("second").tags.items() >= {"team": "b", "env": "c"}.items()
    with pinecone_store(emulator, tags={f"tag{number}": "x" for number in range(19)}) as store:
        with pytest.raises(UnsupportedError, match="19 tags"):
            store.create(small("third"))
        assert store.collections() == ["photos", "second"]
    with pinecone_store(emulator, tags={"vecbridge": "x"}) as store, pytest.raises(ConfigError, match="own"):
        store.create(small("third"))


def test_a_spec_that_no_index_has_tags_for_is_a_blocking_gap(rest: Store) -> None:
    rng = np.random.default_rng(1)
    names = ["f" + bytes(rng.integers(97, 123, 40, dtype=np.uint8)).decode() for _ in range(100)]
    spec = CollectionSpec.single("photos", dim=4, fields=dict.fromkeys(names, "bool"))
    assert len(tags.chunks(spec)) > tags.MOST
    assert any(gap.kind == "size" and gap.blocking for gap in rest.check(spec))
    with pytest.raises(UnsupportedError, match="tags"):
        rest.create(spec)


def test_underscores_are_hyphens_at_the_service_and_none_ends_a_name(rest: Store) -> None:
    assert rest.create(small("my_old_photos")).spec.name == "my_old_photos"
    assert rest.collections() == ["my_old_photos"]
    assert rest.open("my-old-photos").spec.name == "my_old_photos"
    with pytest.raises(UnsupportedError, match="cannot end in -"):
        rest.create(small("photos_"))


@ALL_OR_FILTERED
def test_a_cursor_goes_on_in_another_store_and_ends_where_the_scan_ended(
    emulator: Emulator, store: Store, condition: Any
) -> None:
    photos = store.create(small(fields={"year": "int64"}))
    ids = [f"r{number:04}" for number in range(730)]
    photos.upsert(rows(photos.spec, ids, year=range(730)))
    pages = list(photos.scan(batch_rows=110, filter=condition))
    assert [page.batch.num_rows for page in pages] == [110] * 6 + [70]
    with pinecone_store(emulator) as other:
        same = other.open("photos")
        for number, page in enumerate(pages):
            rest = scanned(same, cursor=page.cursor, filter=condition, batch_rows=33)
            assert rest == ids[(number + 1) * 110 :]
        with pytest.raises(ConfigError, match="another filter"):
            same.scan(cursor=pages[0].cursor, filter=None if condition is not None else vb.field("year") == 1)


@ALL_OR_FILTERED
def test_a_scan_holds_one_page_however_many_rows_there_are(store: Store, condition: Any) -> None:
    photos = store.create(small(dim=64, fields={"year": "int64"}))
    photos.upsert(rows(photos.spec, [f"r{number:04}" for number in range(8_000)], year=range(8_000)))
    python, arrow = [], []
    for page in photos.scan(batch_rows=200, filter=condition):
        if not python:
            tracemalloc.start()  # the emulator has sorted its ids by now
        python.append(tracemalloc.get_traced_memory()[1])
        arrow.append(pa.total_allocated_bytes())
        del page
    tracemalloc.stop()
    assert len(python) == 40
    assert python[-1] < 1.5 * python[5]
    assert max(arrow) < 1.5 * arrow[0]


def test_more_hits_than_an_answer_holds_are_fetched_with_their_columns(
    emulator: Emulator, store: Store
) -> None:
    photos = store.create(small(dim=64, fields={"title": "string"}))
    ids = [f"r{number}" for number in range(300)]
    photos.upsert(rows(photos.spec, ids, title=[key * 5_000 for key in ids]))
    [hits] = photos.search(Query(random_vectors(1, 64), k=300, include=["title", "vector"]))
    assert len(hits) == 300
    assert np.all(np.diff(hits.scores) >= 0)
    assert hits.records is not None
    assert hits.records.column("title").to_pylist() == [str(key) * 5_000 for key in hits.ids]
