"""Reading without a query vector, and searching by a stored record."""

# ruff: noqa: D102 - the name of a test says what it proves
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from vecbridge.errors import ConfigError, NotFoundError, SchemaError, UnsupportedError
from vecbridge.filters import field
from vecbridge.store import Collection
from vecbridge.testing.checks import assert_same_scores, points, put, query
from vecbridge.testing.maker import Maker

DAY = datetime(2020, 1, 1, tzinfo=UTC)
KEYS = [f"k{number:02d}" for number in range(30)]


class TestReading:
    """find(), distinct(), minmax(), scan(limit=), Query(id=) and thresholds."""

    @pytest.fixture
    def photos(self, make: Maker) -> Collection:
        """Thirty rows; every tenth has no year, and years come thrice."""
        collection = make(metric="l2", fields={"year": "int64", "taken": "timestamp", "tags": "list<string>"})
        put(
            collection,
            id=KEYS,
            vector=[[float(number), 1.0, 0.0, 0.0] for number in range(30)],
            year=[None if number % 10 == 9 else 2000 + number % 10 for number in range(30)],
            taken=[DAY - timedelta(microseconds=number) for number in range(30)],
            tags=[["sea", f"t{number % 3}"] if number % 2 else [] for number in range(30)],
        )
        return collection

    def test_find_gives_matches_and_no_more_than_asked(self, photos: Collection) -> None:
        found = photos.find(field("year") == 2003, limit=10)
        assert sorted(found.column("id").to_pylist()) == ["k03", "k13", "k23"]
        assert found.schema.names == list(photos.spec.column_names)
        assert photos.find(field("year") == 2003, limit=2, include=()).num_rows == 2
        assert photos.find(vb.everything, limit=100, include=["year"]).num_rows == 30
        assert photos.find(field("year") == 1, limit=5).num_rows == 0
        assert photos.find({"field": "id", "op": "==", "value": "k07"}, limit=5).num_rows == 1

    def test_find_orders_all_matches_with_null_last(self, photos: Collection) -> None:
        def ids(condition: Any, limit: int, order: str) -> list[str]:
            found = photos.find(condition, limit=limit, include=(), order=order)
            return [str(key) for key in found.column("id").to_pylist()]

        assert ids(None, 4, "year") == ["k00", "k10", "k20", "k01"]
        assert ids(None, 4, "-year") == ["k08", "k18", "k28", "k07"]
        assert ids(None, 30, "-year")[-3:] == ["k09", "k19", "k29"]
        assert ids(field("year") > 2006, 2, "taken") == ["k28", "k27"]
        assert ids(None, 3, "-id") == ["k29", "k28", "k27"]
        with pytest.raises(SchemaError, match="no order"):
            photos.find(None, limit=1, order="tags")
        with pytest.raises(SchemaError, match="did you mean 'year'"):
            photos.find(None, limit=1, order="yaer")
        with pytest.raises(UnsupportedError, match="30 rows would be read"):
            photos.find(None, limit=1, order="year", max_rows=29)

    def test_distinct_values_and_extremes(self, photos: Collection) -> None:
        assert photos.distinct("year") == list(range(2000, 2009))
        assert photos.distinct("tags") == ["sea", "t0", "t1", "t2"]
        assert photos.distinct("tags", filter=field("year") == 2003) == ["sea", "t0", "t1", "t2"]
        assert photos.minmax("year", filter=field("year") > 2002) == (2003, 2008)
        assert photos.minmax("id") == ("k00", "k29")
        assert photos.minmax("taken") == (DAY - timedelta(microseconds=29), DAY)
        assert photos.minmax("year", filter=field("year").is_null()) is None
        with pytest.raises(UnsupportedError, match="more than 8 values"):
            photos.distinct("year", limit=8)
        with pytest.raises(UnsupportedError, match="max_rows"):
            photos.minmax("year", max_rows=5)
        with pytest.raises(SchemaError):
            photos.minmax("tags")

    @pytest.mark.parametrize("limit", [1, 7, 29, 30, 31])
    def test_a_scan_stops_at_its_limit_and_its_cursor_goes_on_behind_it(
        self, photos: Collection, limit: int
    ) -> None:
        first = list(photos.scan(include=(), batch_rows=4, limit=limit))
        seen = [key for page in first for key in page.batch.column("id").to_pylist()]
        assert len(seen) == min(limit, 30)
        rest = photos.scan(include=(), cursor=first[-1].cursor)
        seen += [key for page in rest for key in page.batch.column("id").to_pylist()]
        assert sorted(seen) == KEYS
        with pytest.raises(ConfigError, match="limit"):
            photos.scan(limit=0)

    def test_a_stored_record_is_searched_by_and_not_among_its_hits(self, photos: Collection) -> None:
        [hits] = photos.search(vb.Query(id="k10", k=3, include=["year"]))
        assert set(hits.ids[:2]) == {"k09", "k11"}
        assert len(hits) == 3
        assert_same_scores(hits.scores[:2], [1, 1])
        assert hits.records is not None
        assert hits.records.column("id").to_pylist() == list(hits.ids)
        [odd] = photos.search(vb.Query(id="k10", k=2, filter=field("tags").contains("sea")))
        assert set(odd.ids) == {"k09", "k11"}
        with pytest.raises(NotFoundError, match="'k99'"):
            photos.search(vb.Query(id="k99"))
        with pytest.raises(SchemaError):
            photos.search(vb.Query(id=3))
        with pytest.raises(SchemaError, match="exactly one"):
            vb.Query(points(1), id="a")
        with pytest.raises(SchemaError, match="exactly one"):
            vb.Query()

    def test_a_threshold_cuts_the_hits_that_are_worse(self, make: Maker, photos: Collection) -> None:
        [near] = photos.search(query([10.2, 1, 0, 0], k=10, max_distance=1.0))
        assert list(near.ids) == ["k10", "k11"]
        with pytest.raises(SchemaError, match="max_distance"):
            photos.search(query(points(1), min_score=0.5))
        stored = points(20)
        cosine = make(metric="cosine")
        put(cosine, id=KEYS[:20], vector=stored)
        [alike] = cosine.search(query(stored[3], k=20, min_score=0.5, include=["vector"]))
        [all_of_them] = cosine.search(query(stored[3], k=20))
        assert len(alike) == int((all_of_them.scores >= 0.5).sum())
        assert alike.records is not None
        assert alike.records.num_rows == len(alike)
        [none] = cosine.search(query(stored[3], k=20, min_score=1.5))
        assert len(none) == 0
        with pytest.raises(SchemaError, match="min_score"):
            cosine.search(query(stored[3], max_distance=1.0))

    def test_a_hit_gives_json_as_python_values(self, make: Maker) -> None:
        collection = make(fields={"extra": "json"})
        facts = {"b": [1, None, 2.5], "a": {"é": True}}
        collection.upsert([{"id": "a", "vector": np.ones(4), "extra": facts}])
        collection.flush()
        [hits] = collection.search(query(points(1), k=1, include=["extra"]))
        assert hits[0].record == {"id": "a", "extra": facts}
        assert collection.fetch(["a"]).column("extra").to_pylist() == ['{"a":{"é":true},"b":[1,null,2.5]}']
