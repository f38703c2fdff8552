"""Reading milvus-lite: requests of many pages, looking ids up, counting; and answers that are too large."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest

from tests.stores.milvus.helpers import fresh, made, rows, scanned, small
from vecbridge.driver import Deadline
from vecbridge.errors import DeadlineError, TooLargeError
from vecbridge.filters import field
from vecbridge.query import Unfit
from vecbridge.store import Collection, Store
from vecbridge.stores.milvus import embedded
from vecbridge.stores.milvus.embedded import Changes
from vecbridge.stores.milvus.paging import RequestSize, cut
from vecbridge.stores.milvus.table import Table
from vecbridge.testing import driver_of

COUNT = 57
IDS = [f"k{number:03d}" for number in range(COUNT)]


@pytest.fixture
def filled(store: Store) -> Any:
    """57 rows, of which every third has no year."""
    spec = small(fresh("pages"), fields={"year": "int64"})
    with made(store, spec) as collection:
        years = [number if number % 3 else None for number in range(COUNT)]
        collection.upsert(rows(spec, IDS, year=years))
        yield collection


def requests_of(collection: Collection) -> Any:
    """Spies on the requests of a collection."""
    table: Table = driver_of(collection)._table
    return mock.patch.object(table, "call", side_effect=table.call)


def queries(spy: Any) -> list[dict[str, Any]]:
    """The queries among the requests that a spy has seen."""
    return [call.kwargs for call in spy.call_args_list if call.args[0] == "Query"]


def test_each_cursor_goes_on_behind_its_page_although_requests_are_larger(filled: Collection) -> None:
    pages = list(filled.scan(batch_rows=10))
    assert [page.batch.num_rows for page in pages] == [10, 10, 10, 10, 10, 7]
    for number, page in enumerate(pages):
        assert scanned(filled, cursor=page.cursor, batch_rows=10) == IDS[10 * (number + 1) :]


def test_one_request_of_milvus_lite_has_the_rows_of_many_pages(lite: Store) -> None:
    spec = small(fresh("pages"))
    with made(lite, spec) as collection:
        collection.upsert(rows(spec, IDS))
        with requests_of(collection) as spy:
            assert scanned(collection, batch_rows=5) == IDS
        assert len(queries(spy)) == 1


def test_a_limit_is_not_read_beyond(lite: Store) -> None:
    spec = small(fresh("pages"))
    with made(lite, spec) as collection:
        collection.upsert(rows(spec, IDS))
        with requests_of(collection) as spy:
            assert scanned(collection, batch_rows=5, limit=12) == IDS[:12]
        assert queries(spy)[0]["query_params"]["limit"] == "12"


def test_an_answer_that_is_too_large_is_asked_for_in_halves(filled: Collection) -> None:
    table: Table = driver_of(filled)._table
    asked = []

    def refuse_large(*args: Any, rows: int, **options: Any) -> Any:
        asked.append(rows)
        if rows > 8:
            raise TooLargeError("the answer is too large")
        return Table.query(table, *args, rows=rows, **options)

    with mock.patch.object(table, "query", refuse_large):
        assert scanned(filled, batch_rows=30) == IDS
    assert max(asked[asked.index(min(asked)) :]) <= 8


def test_a_single_row_that_is_too_large_is_an_error(filled: Collection) -> None:
    refuse = mock.Mock(side_effect=TooLargeError("the answer is too large"))
    with mock.patch.object(driver_of(filled)._table, "query", refuse), pytest.raises(TooLargeError):
        scanned(filled)


def test_ids_are_found_in_memory_and_in_files_and_not_after_their_deletion(lite: Store) -> None:
    spec = small(fresh("ids"), fields={"year": "int64"})
    with made(lite, spec) as collection:
        collection.upsert(rows(spec, IDS, year=[1] * COUNT))
        driver_of(collection)._table.call("Flush", Deadline.after(10))
        collection.upsert(rows(spec, IDS[:10], year=[2] * 10))
        assert collection.delete(IDS[5:15]) == 10
        with requests_of(collection) as spy:
            found = collection.fetch([*IDS, "absent"])
        assert [("limit" in query["query_params"]) for query in queries(spy)] == [False]
    assert found["id"].to_pylist() == [*IDS[:5], *IDS[15:]]
    assert found["year"].to_pylist() == [2] * 5 + [1] * (COUNT - 15)


def test_rows_are_read_by_a_pass_while_a_write_is_under_way(lite: Store) -> None:
    spec = small(fresh("ids"))
    with made(lite, spec) as collection:
        collection.upsert(rows(spec, IDS))
        changes: Changes = driver_of(collection)._table._connection._changes
        with changes.under_way(), requests_of(collection) as spy:
            assert collection.fetch(IDS).num_rows == COUNT
        assert all("limit" in query["query_params"] for query in queries(spy))


def test_a_write_that_begins_during_a_read_disturbs_it() -> None:
    changes = Changes()

    def write() -> None:
        with changes.under_way():
            pass

    def read_beside_a_write() -> str:
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        return "read"

    assert changes.undisturbed(read_beside_a_write) is None
    assert changes.undisturbed(lambda: "read") == "read"


@pytest.mark.parametrize(("error", "answer"), [(ValueError, "read"), (DeadlineError, None)])
def test_a_write_may_go_on_after_its_deadline_only(error: type[Exception], answer: str | None) -> None:
    changes = Changes()
    with pytest.raises(error), changes.under_way():
        raise error("failed")
    assert changes.undisturbed(lambda: "read") == answer


def test_milvus_lite_counts_without_a_request(lite: Store) -> None:
    spec = small(fresh("count"), fields={"year": "int64", "title": "string"})
    with made(lite, spec) as collection:
        assert collection.count(field("year") > 5) == 0
        collection.upsert(rows(spec, IDS, year=range(COUNT), title=["a"] * COUNT))
        driver_of(collection)._table.call("Flush", Deadline.after(10))
        collection.upsert(rows(spec, IDS[:20], year=[None] * 20, title=["b"] * 20))
        collection.delete(IDS[:3])
        with requests_of(collection) as spy:
            assert collection.count() == COUNT - 3
            assert collection.count(field("year") > 29) == COUNT - 30
            assert collection.count(field("year").is_null()) == 17
            assert collection.count(field("title") == "b") == 17
        assert not queries(spy)


@pytest.fixture
def next_engine() -> Iterator[None]:
    """A later milvus-lite, whose modules may be others."""
    embedded.known_engine.cache_clear()
    with mock.patch.object(embedded, "version", return_value="3.3.0"):
        yield
    embedded.known_engine.cache_clear()


@pytest.mark.usefixtures("next_engine")
def test_the_protocol_counts_where_the_engine_may_have_changed(lite: Store) -> None:
    spec = small(fresh("count"), fields={"year": "int64"})
    with made(lite, spec) as collection:
        collection.upsert(rows(spec, IDS, year=range(COUNT)))
        connection = driver_of(collection)._table._connection
        with mock.patch.object(connection, "_database", object()), requests_of(collection) as spy:
            assert collection.count(field("year") > 29) == COUNT - 30
        assert len(queries(spy)) == 1


def test_a_request_grows_to_the_bytes_of_an_answer_and_no_further() -> None:
    size = RequestSize(700, 1_000_000, ahead=True)
    assert size.rows == 8_192
    size.learn(8_192, 8_192 * 1_024)
    assert size.rows == 32_768
    size.learn(32_768, 32_768 * 65_536)
    assert size.rows == 512
    size.learn(512, 512)
    assert size.rows == 4_096, "eight times as many at most"


def test_a_request_of_wide_vectors_is_bounded_by_their_bytes() -> None:
    assert RequestSize(10_000, 1_000, ahead=True).rows == 1_000
    fixed = RequestSize(700, 16_384, ahead=False)
    fixed.learn(700, 700)
    assert fixed.rows == 700


@pytest.mark.parametrize("bad", [(), (0,), (2, 3), (4, 5, 6), (6,)])
def test_rows_that_a_batch_cannot_hold_come_with_the_page_of_their_key(bad: Sequence[int]) -> None:
    names = [f"k{number}" for number in range(7)]
    unfit = {names[number]: Unfit.of_vector("vector", 0, 8) for number in bad}
    kept = [name for name in names if name not in unfit]
    batch = pa.RecordBatch.from_pydict({"id": kept})
    pages = list(cut(batch, names, pa.array(names), unfit, 2))
    assert [page.after for page in pages] == ["k1", "k3", "k5", "k6"]
    for start, page in zip(range(0, 7, 2), pages, strict=True):
        its = names[start : start + 2]
        assert page.batch["id"].to_pylist() == [name for name in its if name not in unfit]
        assert list(page.unfit) == [name for name in its if name in unfit]
