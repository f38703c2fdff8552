"""What a write does with ids that are there: replace, skip, refuse, or change some columns."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import vecbridge as vb
from vecbridge.errors import ConfigError, InvalidRecordError
from vecbridge.store import Collection, Store
from vecbridge.testing.checks import ids_of, points, put
from vecbridge.testing.maker import Maker


def years(collection: Collection) -> dict[str, int | None]:
    """The year of every row."""
    pages = collection.scan(include=["year"])
    return {row["id"]: row["year"] for page in pages for row in page.batch.to_pylist()}


def rows(collection: Collection, keys: str, year: int | None) -> pa.RecordBatch:
    """A row of each letter, all of one year."""
    ids = list(keys)
    return vb.batch(collection.spec, id=ids, vector=points(len(ids)), year=[year] * len(ids))


class TestConflicts:
    """upsert(on_conflict=) and update()."""

    @pytest.fixture
    def photos(self, make: Maker) -> Collection:
        """Rows a, b, c of the year 1."""
        collection = make(fields={"year": "int64", "title": "string"})
        put(collection, id=list("abc"), vector=points(3), year=[1, 1, 1], title=["A", "B", "C"])
        return collection

    def test_skip_keeps_what_is_there(self, photos: Collection) -> None:
        report = photos.upsert(rows(photos, "cdae", 2), on_conflict="skip")
        photos.flush()
        assert (report.written, report.skipped, report.failed) == (2, 2, 0)
        assert years(photos) == {"a": 1, "b": 1, "c": 1, "d": 2, "e": 2}
        report = photos.upsert(rows(photos, "cdae", 3), on_conflict="skip")
        assert (report.written, report.skipped) == (0, 4)

    def test_error_writes_nothing_and_names_the_rows(self, photos: Collection) -> None:
        with pytest.raises(InvalidRecordError, match="there is a record of this id already") as caught:
            photos.upsert(rows(photos, "dcea", 2), on_conflict="error")
        assert [(failure.row, failure.id) for failure in caught.value.rows] == [(1, "c"), (3, "a")]
        photos.flush()
        assert ids_of(photos) == set("abc")
        assert photos.upsert(rows(photos, "de", 2), on_conflict="error").written == 2

    def test_a_misspelt_policy_replaces_nothing(self, photos: Collection) -> None:
        with pytest.raises(ConfigError, match="replace, skip, error"):
            photos.upsert(rows(photos, "a", 2), on_conflict="ignore")  # type: ignore[arg-type]
        assert years(photos)["a"] == 1

    def test_of_two_writers_in_one_process_that_both_refuse_what_is_there_one_wins(
        self, store: Store, photos: Collection
    ) -> None:
        handles = [photos, store.open(photos.spec.name)]

        def write(number: int) -> bool:
            collection = handles[number % 2]
            try:
                return collection.upsert(rows(collection, "xyz", number), on_conflict="error").written == 3
            except InvalidRecordError:
                return False

        with ThreadPoolExecutor(4) as pool:
            wins = [number for number, won in enumerate(pool.map(write, range(4))) if won]
        photos.flush()
        found = {year for key, year in years(photos).items() if key in "xyz"}
        if photos.capabilities.consistency == "strong":  # elsewhere a look-up may not see the write before
            assert len(wins) == 1
            assert found == set(wins)
        assert len(found) == 1

    def test_an_update_changes_the_columns_that_it_names(self, photos: Collection) -> None:
        before = photos.fetch(["a"]).to_pylist()[0]
        report = photos.update([{"id": "a", "year": None}, {"id": "b", "year": 5}])
        photos.flush()
        assert report.written == 2
        assert years(photos) == {"a": None, "b": 5, "c": 1}
        after = photos.fetch(["a"]).to_pylist()[0]
        assert after["title"] == "A"
        np.testing.assert_allclose(after["vector"], before["vector"], rtol=1e-6)
        photos.update(pa.table({"id": ["c"], "vector": [[1.0, 2.0, 3.0, 4.0]]}))
        photos.flush()
        [row] = photos.fetch(["c"]).to_pylist()
        assert (row["year"], row["title"]) == (1, "C")
        np.testing.assert_allclose(row["vector"], [1, 2, 3, 4], rtol=1e-6)

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ([{"id": "a", "year": 2}, {"id": "z", "year": 2}], "row 1 .*no record of this id"),
            ([{"id": "a", "yaer": 2}], "did you mean 'year'"),
            ([{"id": "a", "year": "x"}], "year"),
            ([{"id": "a", "year": 2}, {"id": "b", "title": "x"}], "row 1 .*same columns"),
            ([{"id": "a", "year": 2}, {"id": "a", "year": 3}], "row 0"),
            ([{"id": "a", "vector": [1.0, 2.0]}], "vector"),
        ],
    )
    def test_an_update_that_cannot_be_made_changes_nothing(
        self, photos: Collection, change: list[dict[str, Any]], match: str
    ) -> None:
        with pytest.raises(InvalidRecordError, match=match):
            photos.update(change)
        assert years(photos) == {"a": 1, "b": 1, "c": 1}

    def test_records_are_taken_in_the_forms_that_people_have(self, make: Maker) -> None:
        collection = make(fields={"year": "int64", "extra": "json"})
        vectors = points(2)
        table = pa.table({"id": ["a", "b"], "vector": vectors.tolist(), "year": [1, None]})
        reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=1))
        dicts = [
            {"id": "a", "vector": vectors[0], "extra": {"x": [1]}},
            {"id": "b", "vector": vectors[1].tolist(), "year": 3},
        ]
        for data, expected in ((table, [1, None]), (reader, [1, None]), (dicts, [None, 3])):
            assert collection.upsert(data).written == 2
            collection.flush()
            found = collection.fetch(["a", "b"])
            assert found.column("year").to_pylist() == expected
            np.testing.assert_allclose(vb.vectors(found), vectors, rtol=1e-6)
        assert collection.fetch(["a"]).column("extra").to_pylist() == ['{"x":[1]}']
        with pytest.raises(InvalidRecordError, match=r"row 1 .*placeholder"):
            collection.upsert([dicts[0], {"id": "c"}])
        assert collection.upsert([]).written == 0
