"""Writing and reading back: what goes in is what comes out."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from vecbridge import records
from vecbridge.errors import ConfigError, InvalidRecordError, SchemaError
from vecbridge.filters import field
from vecbridge.store import Collection, Store
from vecbridge.testing import strategies
from vecbridge.testing.cases import StoreCase
from vecbridge.testing.checks import (
    assert_deleted,
    assert_same_batch,
    assert_same_records,
    examples,
    ids_of,
    points,
    put,
    query,
    read,
    supported_fields,
)
from vecbridge.testing.maker import Maker, require_nulls
from vecbridge.testing.model import Model


class TestWrites:
    """upsert(), fetch(), delete() and count()."""

    @pytest.mark.parametrize("id_type", ["string", "int64"])
    def test_what_is_written_is_what_is_read(
        self, store_case: StoreCase, store: Store, make: Maker, id_type: str
    ) -> None:
        spec = make(id_type=id_type, fields=supported_fields(store.capabilities)).spec

        @examples(store_case)
        @given(columns=strategies.columns(spec, store.capabilities))
        def run(columns: dict[str, Any]) -> None:
            collection, model = store.create(spec, if_exists="replace"), Model(spec)
            put(collection, **columns)
            model.upsert(columns)
            wanted = columns["id"][::-1]
            assert_same_batch(collection.fetch(wanted), model.fetch(wanted), collection)
            rows = read(collection)
            assert rows.keys() == model.find()
            assert_same_records([rows[key] for key in wanted], model.fetch(wanted), collection)

        run()

    def test_writing_twice_changes_nothing(self, make: Maker) -> None:
        collection = make(fields={"year": "int64"})
        for _ in range(2):
            put(collection, id=["a", "b"], year=[1, None])
            assert collection.count() == 2
            assert {key: row["year"] for key, row in read(collection).items()} == {"a": 1, "b": None}

    def test_a_record_is_replaced_whole_so_a_column_left_out_becomes_null(
        self, store: Store, make: Maker
    ) -> None:
        require_nulls(store)
        collection = make(fields={"year": "int64", "title": "string"})
        put(collection, id=["a", "b"], year=[1, 2], title=["A", "B"])
        put(collection, id=["a"], vector=[[4, 3, 2, 1]], title=["new"])
        [a, b] = collection.fetch(["a", "b"]).to_pylist()
        assert (a["year"], a["title"], a["vector"]) == (None, "new", [4, 3, 2, 1])
        assert (b["year"], b["title"]) == (2, "B")

    def test_a_replaced_vector_is_no_longer_found_where_it_was(self, make: Maker) -> None:
        collection = make(dim=2, metric="l2")
        put(collection, id=["a", "b"], vector=[[1, 1], [10, 10]])
        put(collection, id=["a"], vector=[[20, 20]])
        [hits] = collection.search(query([0, 0], k=10))
        assert list(hits.ids) == ["b", "a"]
        np.testing.assert_allclose(hits.scores, [200, 800], rtol=1e-4)

    def test_null_empty_text_empty_list_and_json_null_are_four_things(
        self, store: Store, make: Maker
    ) -> None:
        require_nulls(store)
        collection = make(fields={"title": "string", "tags": "list<string>", "extra": "json"})
        put(
            collection,
            id=["a", "b", "c"],
            title=[None, "", "null"],
            tags=[None, [], [""]],
            extra=[None, "null", '""'],
        )
        rows = collection.fetch(["a", "b", "c"]).to_pydict()
        assert rows["title"] == [None, "", "null"]
        assert rows["tags"] == [None, [], [""]]
        assert rows["extra"] == [None, "null", '""']

    def test_json_is_canonical_and_its_integers_are_exact(self, make: Maker) -> None:
        collection = make(fields={"extra": "json"})
        text = f'{{ "b" : {2**80}, "a": [1.0, true, "\\u00e9"] }}'
        put(collection, id=["a"], extra=[text])
        assert collection.fetch(["a"]).to_pylist()[0]["extra"] == f'{{"a":[1.0,true,"é"],"b":{2**80}}}'

    def test_minus_zero_becomes_zero(self, make: Maker) -> None:
        collection = make(fields={"price": "float64"})
        put(collection, id=["a"], price=[-0.0])
        assert str(collection.fetch(["a"]).to_pylist()[0]["price"]) == "0.0"

    def test_vectors_come_back_bit_by_bit_where_that_is_declared(self, store: Store, make: Maker) -> None:
        vectors = points(200, 7, seed=3) * np.float32(1e3)
        vectors[0] = [0.0, -0.0, 1e-38, 1e-45, 3e38, -1e-40, 1.0]
        collection = make(dim=7, metric="l2")
        keys = [str(row) for row in range(200)]
        put(collection, id=keys, vector=vectors)
        stored = records.vectors(collection.fetch(keys))
        if store.capabilities.lossless_vectors:
            assert stored.tobytes() == vectors.tobytes()
        else:
            np.testing.assert_allclose(stored, vectors, rtol=1e-5)

    def test_integers_at_the_ends_are_kept_or_refused_row_by_row(self, store: Store, make: Maker) -> None:
        collection = make(fields={"year": "int64"})
        numbers = [2**63 - 1, -(2**63), 2**53 + 1, 7]
        rows = records.batch(collection.spec, id=list("abcd"), vector=points(4), year=numbers)
        if store.capabilities.int_bits >= 64:
            collection.upsert(rows)
            collection.flush()
            assert collection.fetch(list("abcd")).to_pydict()["year"] == numbers
        else:
            with pytest.raises(InvalidRecordError) as caught:
                collection.upsert(rows)
            assert [each.row for each in caught.value.rows] == [0, 1, 2]
            assert collection.count() == 0

    def test_integer_ids_at_the_ends_are_kept(self, make: Maker) -> None:
        collection = make(id_type="int64")
        keys = [2**63 - 1, -(2**63), 0, -1, 2**53 + 1, 2**53]
        put(collection, id=keys)
        assert ids_of(collection) == set(keys)
        assert collection.fetch(keys[:2]).column("id").to_pylist() == keys[:2]

    def test_text_ids_are_code_points_never_normalised(self, make: Maker) -> None:
        keys = [each for each in strategies.ODD_TEXTS if each] + ["i" * 512, "I", "i", "i "]
        collection = make()
        put(collection, id=keys)
        assert ids_of(collection) == set(keys)
        assert collection.fetch(keys).column("id").to_pylist() == keys
        assert_deleted(collection, collection.delete(["caf\u00e9"]), 1)
        collection.flush()
        assert ids_of(collection) == set(keys) - {"caf\u00e9"}

    def test_a_long_id_outside_of_ascii_is_kept_or_refused_as_declared(
        self, store: Store, make: Maker
    ) -> None:
        collection = make()
        longest = "é" * 256  # 512 bytes of UTF-8, the contract's limit; a store may encode it in more
        rows = records.batch(collection.spec, id=["a", longest], vector=points(2))
        if store.capabilities.id_bytes is None:
            assert collection.upsert(rows).written == 2
            collection.flush()
            assert ids_of(collection) == {"a", longest}
            assert collection.fetch([longest]).num_rows == 1
        else:
            with pytest.raises(InvalidRecordError) as caught:
                collection.upsert(rows)
            assert [(each.row, each.id) for each in caught.value.rows] == [(1, longest)]
            collection.flush()
            assert collection.count() == 0
            assert [gap.kind for gap in store.check(collection.spec) if gap.subject == "id"] == ["id"]

    def test_a_batch_larger_than_one_request_is_written_whole(self, store: Store, make: Maker) -> None:
        rows = min(store.capabilities.request_rows, 2500) + 17
        collection = make(fields={"title": "string"})
        put(collection, id=[str(row) for row in range(rows)], title=["t" * 50] * rows)
        assert collection.count() == rows

        keys = [str(row) for row in range(rows)]
        assert collection.fetch(keys, include=["title"]).num_rows == rows
        assert_deleted(collection, collection.delete(keys[:-1]), rows - 1)
        collection.flush()
        assert ids_of(collection) == {keys[-1]}

    def test_a_batch_of_many_bytes_is_written_whole(self, store: Store, make: Maker) -> None:
        collection = make(fields={"title": "string"})
        size = min(store.capabilities.text_bytes or 100_000, 100_000)
        texts = [str(row % 10) * size for row in range(100)]
        put(collection, id=[str(row) for row in range(100)], title=texts)
        assert collection.fetch(["0", "99"]).to_pydict()["title"] == [texts[0], texts[99]]
        assert collection.count(field("title") == texts[3]) == 10

    def test_text_is_kept_to_the_declared_limit_and_refused_row_by_row_beyond_it(
        self, store: Store, make: Maker
    ) -> None:
        collection = make(fields={"title": "string"})
        limit = store.capabilities.text_bytes
        if limit is None:
            long = "x" * 1_000_000
            put(collection, id=["a"], title=[long])
            assert collection.fetch(["a"], include=["title"]).to_pydict()["title"] == [long]
        else:
            self.refuses_longer_text(collection, limit)

    def refuses_longer_text(self, collection: Collection, limit: int) -> None:
        """Text of the limit is written, a longer one is refused."""
        texts = ["x" * limit, "é" * (limit // 2 + 1), None]
        with pytest.raises(InvalidRecordError) as caught:
            put(collection, id=["a", "b", "c"], title=texts)
        assert [each.row for each in caught.value.rows] == [1]
        put(collection, id=["a"], title=texts[:1])
        assert collection.count() == 1

    def test_a_write_is_visible_at_once_where_that_is_declared_and_elsewhere_once_it_is_flushed(
        self, store: Store, make: Maker
    ) -> None:
        collection = make(fields={"year": "int64"})
        strong = store.capabilities.consistency == "strong"
        other = store.open(collection.spec.name)
        for year in range(5):
            collection.upsert(records.batch(collection.spec, id=["a"], vector=points(1), year=[year]))
            if not strong:
                collection.flush()
            [hits] = other.search(query(points(1), filter=field("year") == year, include=["year"]))
            assert [hit.record for hit in hits] == [{"id": "a", "year": year}]
            assert other.fetch(["a"], include=["year"]).to_pydict() == {"id": ["a"], "year": [year]}
        collection.delete(["a"])
        if not strong:
            collection.flush()
        assert (other.count(), len(other.search(query(points(1)))[0])) == (0, 0)

    def test_an_empty_batch_writes_nothing(self, make: Maker) -> None:
        collection = make()
        put(collection, id=[])
        assert (collection.count(), ids_of(collection)) == (0, set())

    def test_a_sliced_batch_writes_the_rows_of_the_slice(self, make: Maker) -> None:
        collection = make(fields={"tags": "list<string>", "year": "int64"})
        columns: dict[str, Any] = {
            "id": list("abcdef"),
            "vector": points(6),
            "year": [1, None, 3, 4, None, 6],
            "tags": [["x"], None, [], ["y", "z"], ["w"], None],
        }
        collection.upsert(records.batch(collection.spec, **columns).slice(2, 3))
        collection.flush()
        model = Model(collection.spec)
        model.upsert({name: values[2:5] for name, values in columns.items()})
        assert_same_batch(collection.fetch(list("abcdef")), model.fetch("cde"), collection)

    def test_fetch_keeps_the_order_collapses_repeats_and_leaves_out_the_missing(self, make: Maker) -> None:
        collection = make(fields={"year": "int64"})
        put(collection, id=["a", "b", "c"], year=[1, 2, 3])
        found = collection.fetch(["c", "zzz", "a", "c"], include=["year"])
        assert found.to_pydict() == {"id": ["c", "a"], "year": [3, 1]}
        assert collection.fetch(["zzz"]).num_rows == 0
        assert collection.fetch([]).schema.names == ["id", "vector", "year"]

    def test_fetch_refuses_ids_of_another_type_and_unknown_columns(self, make: Maker) -> None:
        texts, numbers = make(), make(id_type="int64")
        for collection, wrong in ((texts, 1), (numbers, "1"), (numbers, True), (numbers, 2**63)):
            with pytest.raises(SchemaError):
                collection.fetch([wrong])
        with pytest.raises(SchemaError):
            texts.fetch(["a"], include=["no_such_column"])

    def test_delete_by_ids_says_how_many_there_were_where_that_is_declared(self, make: Maker) -> None:
        collection = make()
        put(collection, id=["a", "b", "c"])
        assert_deleted(collection, collection.delete(["a", "zzz", "a"]), 1)
        collection.flush()
        assert ids_of(collection) == {"b", "c"}
        assert collection.count() == 2
        assert collection.delete([]) == 0
        assert_deleted(collection, collection.delete(["zzz"]), 0)
        assert_deleted(collection, collection.delete(["b", "c"]), 2)

    def test_a_deleted_row_can_be_written_again(self, make: Maker) -> None:
        collection = make(fields={"year": "int64"})
        put(collection, id=["a"], year=[1])
        collection.delete(["a"])
        put(collection, id=["a"], year=[2])
        assert {key: row["year"] for key, row in read(collection).items()} == {"a": 2}

    def test_delete_by_filter_removes_the_matches(self, make: Maker) -> None:
        collection = make(fields={"year": "int64"})
        put(collection, id=["a", "b", "c"], year=[1, 2, None])
        assert_deleted(collection, collection.delete(filter=~field("year").isin([2])), 1)
        collection.flush()
        assert ids_of(collection) == {"b", "c"}
        assert_deleted(collection, collection.delete(filter=field("year") == 1), 0)
        assert_deleted(collection, collection.delete(filter=field("year").differs(1)), 2)
        collection.flush()
        assert ids_of(collection) == set()

    def test_delete_takes_exactly_one_of_ids_and_filter(self, make: Maker) -> None:
        collection = make(fields={"year": "int64"})
        put(collection, id=["a"], year=[1])
        with pytest.raises(ConfigError):
            collection.delete()
        with pytest.raises(ConfigError):
            collection.delete(["a"], filter=field("year") == 1)
        assert collection.count() == 1

    def test_status_counts_the_live_rows(self, make: Maker) -> None:
        collection = make()
        put(collection, id=["a", "b", "c"])
        collection.delete(["a"])
        collection.flush()
        collection.wait_ready()
        status = collection.status()
        assert (status.rows, list(status.indexes), status.index) == (2, ["vector"], "ready")
