"""What the front does itself, seen over drivers that leave it to do."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import vecbridge as vb
from tests.front.drivers import SPEC, Blind, filled, store_of
from vecbridge.driver import KeyedPage, SearchResult
from vecbridge.errors import (
    BackendError,
    CollectionExistsError,
    ConfigError,
    InvalidRecordError,
    NotFoundError,
    UnsupportedError,
)
from vecbridge.filters import field
from vecbridge.query import Hits, Query, Unfit
from vecbridge.stores.memory import MemoryCollection
from vecbridge.testing import driver_of, forget_last_look

NEAREST = Query([[3.2, 0], [17.8, 0]], k=3)
TRUTH = [["r3", "r4", "r2"], ["r18", "r17", "r19"]]


def ids(found: list[Hits]) -> list[list[Any]]:
    return [list(hits.ids) for hits in found]


class Unsure(MemoryCollection):
    """Finds nothing, and says so of the second query vector and of those that are filtered."""

    def search(self, request: Any) -> SearchResult:
        right = super().search(request).hits
        nothing = Hits([], np.empty(0, np.float32))
        unsure = [1] if request.filter is None else range(len(right))
        return SearchResult(
            [nothing if row in unsure else hits for row, hits in enumerate(right)], list(unsure)
        )


class Bare(MemoryCollection):
    """Gives hits without their records, and rows in an order of its own."""

    def search(self, request: Any) -> SearchResult:
        return SearchResult([Hits(hits.ids, hits.scores) for hits in super().search(request).hits])

    def lookup(self, ids: pa.Array, columns: Any, deadline: Any) -> pa.RecordBatch:
        found = super().lookup(ids, columns, deadline)
        return found.take(pa.array(range(found.num_rows - 1, -1, -1)))


class Bereft(MemoryCollection):
    """Rows below r5 have no vector; searches leave the matches to be compared."""

    def search(self, request: Any) -> SearchResult:
        nothing = Hits([], np.empty(0, np.float32))
        return SearchResult([nothing for _ in request.vectors], range(len(request.vectors)))

    def pages(self, request: Any) -> Any:
        for page in super().pages(request):
            lost = pc.is_in(page.batch["id"], pa.array([f"r{number}" for number in range(5)]))
            if "vector" not in request.columns:
                lost = pc.and_(lost, False)
            reasons = {
                key: Unfit.of_vector("vector", 0, 2) for key in page.batch["id"].filter(lost).to_pylist()
            }
            yield KeyedPage(page.batch.filter(pc.invert(lost)), page.after, reasons)


def test_rows_that_a_batch_cannot_hold_are_handed_over_before_their_page() -> None:
    events: list[Any] = []
    pages = filled(Bereft, rows=8).scan(batch_rows=3, unfit=lambda *row: events.append(row))
    while (page := next(pages, None)) is not None:
        events.append(page.batch["id"].to_pylist())
    reason = Unfit("row:no_vector", "it has no vector 'vector'")
    named = [(f"r{number}", reason) for number in range(5)]
    assert events == [*named[:3], [], *named[3:], ["r5"], ["r6", "r7"]]


def test_rows_that_a_batch_cannot_hold_end_a_scan_that_does_not_take_them() -> None:
    photos = filled(Bereft, rows=8)
    with pytest.raises(InvalidRecordError, match=r"'r0': row:no_vector: .*; and 2 more: include=") as caught:
        list(photos.scan(batch_rows=5))
    assert [failure.id for failure in caught.value.rows] == [f"r{number}" for number in range(5)]
    assert sum(page.batch.num_rows for page in photos.scan(include=["year"])) == 8


def test_rows_that_a_batch_cannot_hold_count_for_the_limit_and_their_cursor_goes_on_behind_them() -> None:
    photos = filled(Bereft, rows=8)
    named: dict[Any, Any] = {}
    pages = list(photos.scan(batch_rows=2, limit=3, unfit=named.__setitem__))
    assert [page.batch.num_rows for page in pages] == [0, 0]
    assert list(named) == ["r0", "r1", "r2"]
    rest = photos.scan(cursor=pages[-1].cursor, unfit=named.__setitem__)
    assert [page.batch["id"].to_pylist() for page in rest] == [["r5", "r6", "r7"]]
    assert list(named) == [f"r{number}" for number in range(5)]


def test_rows_without_a_vector_are_found_counted_and_deleted_and_left_out_of_rankings() -> None:
    photos = filled(Bereft, rows=8)
    assert ids(photos.search(Query([0, 0], k=2))) == [["r5", "r6"]]
    assert photos.find(None, limit=8, include=["year"]).num_rows == photos.count() == 8
    with pytest.raises(InvalidRecordError, match="r0"):
        photos.find(None, limit=8)
    assert photos.minmax("year") == (0, 7)
    photos.delete(filter=field("year") < 6)
    assert photos.count() == 2


@pytest.mark.parametrize("include", ["all", [], ["title"], ["vector", "year"]])
def test_queries_that_the_driver_is_unsure_of_are_answered_by_comparing_every_match(include: Any) -> None:
    photos, right = filled(Unsure), filled()
    for filter in (None, field("year") > 10, field("year").isin([2, 19]), field("year") > 100):
        query = Query(NEAREST.vectors, k=3, filter=filter, include=include)
        for mine, theirs in zip(photos.search(query), right.search(query), strict=True):
            assert list(mine.ids) == list(theirs.ids)
            np.testing.assert_allclose(mine.scores, theirs.scores, rtol=1e-6)
            assert mine.records == theirs.records


def test_hits_without_records_are_looked_up_in_the_order_of_their_hits() -> None:
    photos = filled(Bare)
    found = photos.search(Query(NEAREST.vectors, k=3, include=["title", "year"]))
    assert ids(found) == TRUTH
    for hits in found:
        assert hits.records.schema.names == ["id", "year", "title"]
        assert hits.records.column("id").to_pylist() == list(hits.ids)
        assert [f"t{row['year']}" for row in hits.records.to_pylist()] == [
            row.record["title"] for row in hits
        ]


def test_a_hit_whose_row_went_before_it_was_looked_up_is_left_out() -> None:
    class Vanishing(Bare):
        def lookup(self, ids: pa.Array, columns: Any, deadline: Any) -> pa.RecordBatch:
            return super().lookup(ids.filter(pc.not_equal(ids, "r3")), columns, deadline)

    [first, _] = filled(Vanishing).search(Query(NEAREST.vectors, k=3, include=["year"]))
    assert list(first.ids) == ["r4", "r2"]
    np.testing.assert_allclose(first.scores, [0.64, 1.44], rtol=1e-5)


def test_many_query_vectors_are_asked_in_calls_that_each_have_a_deadline_of_their_own() -> None:
    calls: list[tuple[int, float]] = []

    class Counting(MemoryCollection):
        def search(self, request: Any) -> SearchResult:
            calls.append((len(request.vectors), request.deadline.at))
            return super().search(request)

    asked = np.stack([np.arange(2_500) % 20, np.zeros(2_500)], axis=1)
    hits = filled(Counting).search(Query(asked, k=1))
    assert [line.ids[0] for line in hits] == [f"r{number % 20}" for number in range(2_500)]
    assert [count for count, _ in calls] == [1_000, 1_000, 500]
    assert len({at for _, at in calls}) == 3


def test_fetch_gives_the_order_asked_whatever_the_order_of_the_driver() -> None:
    found = filled(Bare).fetch(["r7", "absent", "r1", "r7", "r12"], include=["year"])
    assert found.to_pylist() == [{"id": f"r{year}", "year": year} for year in (7, 1, 12)]


def test_many_ids_are_looked_up_and_deleted_in_several_calls_where_a_batch_is_not_atomic() -> None:
    calls: list[int] = []

    class Counting(MemoryCollection):
        def delete_keys(self, ids: pa.Array, deadline: Any) -> int:
            calls.append(len(ids))
            return super().delete_keys(ids, deadline)

        def lookup(self, ids: pa.Array, columns: Any, deadline: Any) -> pa.RecordBatch:
            calls.append(len(ids))
            return super().lookup(ids, columns, deadline)

    many = [f"r{number}" for number in range(25_000)]
    photos = filled(Counting, atomic_batch=False)
    assert photos.fetch(many, include=[]).num_rows == 20
    assert photos.delete(many) == 20
    assert calls == [10_000, 10_000, 5_000] * 2
    calls.clear()
    photos = filled(Counting)
    assert photos.delete(many) == 20
    assert calls == [25_000]


@pytest.mark.parametrize("counts_where", [False, True])
def test_counting_and_deleting_by_filter_read_the_matches_where_the_driver_cannot(counts_where: bool) -> None:
    photos = filled(counts_where=counts_where)
    assert photos.count(field("year") >= 15) == 5
    assert photos.delete(filter=field("year") >= 15) == 5
    assert photos.count() == 15
    assert photos.delete(filter=vb.field("year") >= 15) == 0
    assert photos.delete(filter=~field("year").isin([])) == 15  # every row that has a year


def test_a_driver_that_does_not_count_what_it_deletes_answers_none() -> None:
    class Silent(MemoryCollection):
        def delete_keys(self, ids: pa.Array, deadline: Any) -> None:
            super().delete_keys(ids, deadline)

    photos = filled(Silent, counts_deletes=False)
    assert photos.delete(["r1"]) is None
    assert photos.delete(filter=field("year") < 5) is None
    assert photos.delete([]) == 0
    assert photos.count() == 15


def test_the_figures_refuse_rows_before_the_driver_sees_them() -> None:
    spec = vb.CollectionSpec.single(
        "photos", dim=2, fields={"year": "int64", "title": "string", "tags": "list<string>"}
    )
    store = store_of(int_bits=53, text_bytes=4, vector_lengths=(1e-3, 1e3), zero_vectors=False)
    photos = store.create(spec)
    good = {"year": 2**53, "title": "é" * 2, "tags": ["abcd", ""], "vector": [1000, 0]}
    for name, value in (
        ("year", 2**53 + 1), ("year", -(2**53) - 1), ("title", "é" * 2 + "x"), ("tags", ["", "abcde"]),
        ("vector", [1001, 0]), ("vector", [0, 1e-4]),
    ):  # fmt: skip
        rows = {"id": ["good", "bad"]} | {key: [kept, kept] for key, kept in good.items()}
        rows[name] = [good[name], value]
        with pytest.raises(InvalidRecordError, match="'bad'") as caught:
            photos.upsert(vb.batch(spec, **rows))
        assert [failure.row for failure in caught.value.rows] == [1], name
    assert photos.count() == 0
    assert photos.upsert(vb.batch(spec, id=["a"], **{key: [kept] for key, kept in good.items()})).written == 1
    dots = store.create(vb.CollectionSpec.single("dots", dim=2, metric="dot"))
    with pytest.raises(InvalidRecordError, match="is zero"):
        dots.upsert(vb.batch(dots.spec, id=["a"], vector=[[0, 0]]))


def test_query_vectors_of_any_length_are_scaled_to_what_the_backend_compares() -> None:
    asked: list[float] = []

    class Noting(MemoryCollection):
        def search(self, request: Any) -> SearchResult:
            asked.extend(np.linalg.norm(request.vectors.astype(np.float64), axis=1).tolist())
            return super().search(request)

    spec = vb.CollectionSpec.single("photos", dim=2)
    photos = store_of(Noting, vector_lengths=(1e-3, 1e3)).create(spec)
    photos.upsert(vb.batch(spec, id=["a"], vector=[[1, 0]]))
    for length in (1e-30, 1, 1e30):
        [hits] = photos.search(Query([[length, 0]]))
        np.testing.assert_allclose(hits.scores, [1])
    np.testing.assert_allclose(asked, [1, 1, 1])


def test_a_replacement_that_the_backend_does_not_show_is_noticed_by_looking() -> None:
    photos = filled(Blind, trust_reads=1.0, trust_writes=0.0)
    database = driver_of(photos)._database
    Blind.looks = 0
    for _ in range(5):
        assert photos.count() == 20
    assert Blind.looks == 0  # the last look was less than a second ago
    standing = database.tables["photos"]
    database.tables["photos"] = type(standing)(SPEC, "another token")
    with pytest.raises(NotFoundError, match="replaced"):
        photos.upsert(vb.batch(SPEC, id=["x"], vector=[[0, 0]]))
    with pytest.raises(NotFoundError, match="replaced"):
        photos.delete(["r1"])
    with pytest.raises(NotFoundError, match="replaced"):
        photos.delete(filter=field("year") > 3)
    forget_last_look(photos)
    with pytest.raises(NotFoundError, match="replaced"):
        photos.count()
    assert photos._attached.driver.count(None) == 20  # the rows of the old one are as they were


def test_a_drop_in_this_process_is_known_at_once() -> None:
    store = store_of(Blind, trust_reads=1e9, trust_writes=1e9)
    first = store.create(SPEC)
    store.drop("photos")
    for again in (store.create(SPEC), store.create(SPEC, if_exists="replace")):
        with pytest.raises(NotFoundError, match="dropped"):
            first.count()
        first = again
    assert first.count() == 0


def test_a_failed_call_is_explained_by_a_replacement_if_there_was_one() -> None:
    class Failing(Blind):
        def count(self, deadline: Any) -> int:
            raise KeyError("no such column")

    photos = filled(Failing, trust_reads=1e9, trust_writes=1e9)
    with pytest.raises(BackendError, match="KeyError") as caught:
        photos.count()
    assert isinstance(caught.value.__cause__, KeyError)
    del driver_of(photos)._database.tables["photos"]
    with pytest.raises(NotFoundError, match="replaced"):
        photos.count()


def test_what_fails_because_the_store_was_closed_meanwhile_says_so() -> None:
    class Closing(MemoryCollection):
        def count(self, deadline: Any) -> int:
            photos.close()
            raise ConnectionResetError("socket closed")

    photos = filled(Closing)
    with pytest.raises(ConfigError, match="closed during the call"):
        photos.count()


def test_rows_that_a_batch_cannot_hold_stop_a_scan_by_name() -> None:
    class Foreign(MemoryCollection):
        def pages(self, request: Any) -> Any:
            for page in super().pages(request):
                yield KeyedPage(page.batch, page.after, {"r3": "it has no vector"})

    with pytest.raises(InvalidRecordError, match=r"r3.*it has no vector"):
        list(filled(Foreign).scan())


def test_pages_without_rows_are_passed_over_and_their_keys_are_not_lost() -> None:
    class Sparse(MemoryCollection):
        def pages(self, request: Any) -> Any:
            for page in super().pages(request):
                yield KeyedPage(page.batch.slice(0, 0), page.after)
                yield page

    photos = filled(Sparse)
    pages = list(photos.scan(batch_rows=6))
    assert [page.batch.num_rows for page in pages] == [6, 6, 6, 2]
    rest = [page.batch.num_rows for page in photos.scan(batch_rows=6, cursor=pages[1].cursor)]
    assert rest == [6, 2]


def test_a_k_that_is_too_large_is_refused_after_one_that_is_not() -> None:
    photos = filled(max_top_k=5)
    assert len(photos.search(Query([0, 0], k=5))[0]) == 5
    with pytest.raises(UnsupportedError, match="at most 5"):
        photos.search(Query([0, 0], k=6))
    with pytest.raises(UnsupportedError, match="ef="):
        photos.search(Query([0, 0], k=5, ef=10))


def test_each_request_gets_the_time_that_the_options_say() -> None:
    left: list[float] = []

    class Timed(MemoryCollection):
        def count(self, deadline: Any) -> int:
            left.append(deadline.at - time.monotonic())
            return 0

    photos = filled(Timed)
    photos._connection.timeout = 7.0
    photos.count()
    assert 5 < left[0] <= 7


def test_opening_what_exists_needs_the_same_spec() -> None:
    store = store_of()
    store.create(SPEC)
    assert store.create(SPEC, if_exists="open").spec == SPEC
    other = vb.CollectionSpec.single("photos", dim=3)
    with pytest.raises(CollectionExistsError, match="is 2 dimensions, l2, auto, not 3 dimensions, cosine"):
        store.create(other, if_exists="open")
    with pytest.raises(CollectionExistsError, match="exists"):
        store.create(SPEC)
    assert store.create(other, if_exists="replace").spec == other


def test_a_collection_made_meanwhile_is_opened_where_that_was_asked() -> None:
    store = store_of()
    driver = driver_of(store)
    describe, told = driver.describe, []

    def blind_once(name: str, deadline: Any) -> Any:
        told.append(name)
        return None if len(told) == 1 else describe(name, deadline)

    other = store.create(SPEC)
    driver.describe = blind_once
    assert store.create(SPEC, if_exists="open").spec == SPEC
    assert other.count() == 0  # it is the same collection


class Untouched(MemoryCollection):
    """Fails where it is asked for rows that no filter can match."""

    def _refuse(self, *_: Any) -> Any:
        raise AssertionError("the driver was asked for nothing")

    search = count_where = delete_where = pages = _refuse


def test_a_driver_is_not_asked_about_a_filter_that_no_row_can_match() -> None:
    photos = filled(Untouched)
    for nothing in (field("year").isin([]), field("title").isin([]) & (field("year") > 3)):
        assert photos.delete(filter=nothing) == 0
        assert photos.count(nothing) == 0
        assert list(photos.scan(filter=nothing)) == []
        assert [len(hits) for hits in photos.search(Query(NEAREST.vectors, k=3, filter=nothing))] == [0, 0]
    assert photos.count() == 20
