"""What goes in comes out: splitting, order, duplicates, bounds, progress."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import vecbridge as vb
from tests.bulk.faults import SPEC, Faulty, rows, sources
from vecbridge import records
from vecbridge.bulk import Progress, run, tally
from vecbridge.records import checking


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("workers", [1, 4])
def test_everything_is_written_once(workers: int, parallel: bool) -> None:
    photos = Faulty(parallel_requests=8 if parallel else 1)
    report = vb.write(photos, sources(20), workers=workers)
    assert (report.written, report.failed, report.retried, report.duplicates) == (200, 0, 0, 0)
    assert report.failures == ()
    assert sorted(key for sent in photos.sent for key in sent) == sorted(f"r{n}" for n in range(200))
    assert photos.stored() == {f"r{n}" for n in range(200)}


def test_records_arrive_as_they_were() -> None:
    photos = Faulty()
    vb.write(photos, sources(3))
    assert photos.fetch([f"r{n}" for n in range(10, 20)]).equals(rows(10, 10))


def test_no_batches_is_an_empty_report() -> None:
    assert vb.write(Faulty(), iter([])) == vb.WriteReport()


def test_tables_lone_batches_and_empty_batches_are_taken() -> None:
    photos = Faulty()
    table = pa.Table.from_batches([rows(0, 3), rows(3, 3)])
    assert vb.write(photos, [table, rows(6, 2), rows(0, 2).slice(0, 0)]).written == 8
    assert vb.write(photos, table).written == 6
    assert vb.write(photos, rows(0, 3)).written == 3
    assert len(photos.stored()) == 8


def test_something_else_than_a_batch_is_refused() -> None:
    for wrong in ([5], 5, {"id": "a"}, "rows", [["a"]]):
        with pytest.raises(vb.ConfigError, match="list of dicts"):
            vb.write(Faulty(), wrong)


@pytest.mark.parametrize("arguments", [{"workers": 0}, {"max_failures": -1}])
def test_impossible_arguments_are_refused_before_anything_is_read(arguments: dict[str, int]) -> None:
    with pytest.raises(vb.ConfigError):
        vb.write(Faulty(), _never(), **arguments)


def _never() -> Iterator[pa.RecordBatch]:
    raise AssertionError("the source was read")
    yield


def test_an_upsert_is_as_many_requests_as_the_store_has_in_flight() -> None:
    photos = Faulty(request_rows=7)
    vb.write(photos, sources(2, 20))
    assert [len(sent) for sent in photos.sent] == [7, 7, 6, 7, 7, 6]
    photos = Faulty(request_rows=3, parallel_requests=4)
    vb.write(photos, sources(2, 20), workers=1)
    assert [len(sent) for sent in photos.sent] == [12, 8, 12, 8]


@pytest.mark.parametrize("at_once", [1, 4])
def test_an_upsert_keeps_to_the_bytes_of_the_requests_in_flight(at_once: int) -> None:
    photos = Faulty(request_bytes=200, parallel_requests=at_once)
    vb.write(photos, sources(1, 40), workers=1)
    sizes = [int(records.row_bytes(rows(int(sent[0][1:]), len(sent))).sum()) for sent in photos.sent]
    assert sum(map(len, photos.sent)) == 40
    assert max(sizes) <= 200 * at_once
    assert len(sizes) <= 2 * sum(sizes) // (200 * at_once) + 1


def test_an_upsert_has_ten_thousand_rows_at_most() -> None:
    photos = Faulty()
    vb.write(photos, sources(1, 20_005))
    assert [len(sent) for sent in photos.sent] == [10_000, 10_000, 5]


def test_an_upsert_is_never_larger_than_what_a_retry_should_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MAX_PART_ROWS", 8)
    photos = Faulty()
    vb.write(photos, sources(1, 20))
    assert [len(sent) for sent in photos.sent] == [8, 8, 4]


def test_a_batch_of_25_000_rows_is_written_in_upserts_of_10_000() -> None:
    photos = Faulty()
    assert vb.write(photos, [rows(0, 25_000)]).written == 25_000
    assert [len(sent) for sent in photos.sent] == [10_000, 10_000, 5_000]


@pytest.mark.parametrize("store", ["memory", "faiss"])
def test_json_is_parsed_once_in_a_bulk_write(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []

    def spy(text: str) -> str:
        texts.append(text)
        return records.canonical_json(text)

    monkeypatch.setattr(checking, "canonical_json", spy)
    batch = pa.RecordBatch.from_pydict(  # as a source may make it: nobody has checked it
        {
            "id": ["a", "b"],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(np.ones(8, np.float32)), 4),
            "meta": ['{"b": 1, "a": 2}', "null"],
        }
    )
    url = "memory://" if store == "memory" else f"faiss://{tmp_path}/store"
    with vb.connect(url) as opened:
        photos = opened.create(SPEC)
        assert vb.write(photos, [batch]).written == 2
        assert len(texts) == 2
        assert photos.fetch(["a"]).column("meta").to_pylist() == ['{"a":2,"b":1}']


def test_vectors_spoiled_while_they_wait_are_set_aside_by_id() -> None:
    matrix = np.ones((4, 4), np.float32)
    first = rows(0, 4)
    second = vb.batch(SPEC, id=["a", "b", "c", "d"], vector=matrix)

    def spoil(call: int, batch: pa.RecordBatch) -> None:
        if call == 1:
            matrix[2] = np.nan

    report = vb.write(Faulty(before=spoil), [first, second])
    assert (report.written, [each.id for each in report.failures]) == (7, ["c"])


def test_requests_run_in_parallel_where_that_is_faster() -> None:
    together = threading.Barrier(3, timeout=60)  # each waits until three of them are under way
    photos = Faulty(before=lambda call, batch: together.wait() and None, parallel_requests=8)
    assert vb.write(photos, sources(6), workers=3).written == 60


def test_requests_run_one_at_a_time_where_nothing_is_gained() -> None:
    under_way = threading.Semaphore(1)

    def alone(call: int, batch: pa.RecordBatch) -> None:
        assert under_way.acquire(blocking=False)

    photos = Faulty(before=alone, after=lambda call, batch: under_way.release())
    assert vb.write(photos, sources(10), workers=4).written == 100


def test_no_more_batches_are_read_than_can_be_sent() -> None:
    workers, taken, sent = 3, 0, 0
    most = 0
    lock, far_ahead = threading.Lock(), threading.Event()

    def count(call: int, batch: pa.RecordBatch) -> None:
        nonlocal sent
        if call < workers:  # for a moment nothing is sent, and a reader that does not wait comes far ahead
            far_ahead.wait(0.5)
        with lock:
            sent += 1

    def source() -> Iterator[pa.RecordBatch]:
        nonlocal taken, most
        for batch in sources(50):
            with lock:
                taken += 1
                most = max(most, taken - sent)
            if most > workers + 1:
                far_ahead.set()
            yield batch

    vb.write(Faulty(after=count, parallel_requests=8), source(), workers=workers)
    assert most <= workers + 1


def test_the_source_is_read_in_the_callers_thread() -> None:
    threads = set()

    def source() -> Iterator[pa.RecordBatch]:
        for batch in sources(5):
            threads.add(threading.current_thread())
            yield batch

    vb.write(Faulty(), source())
    assert threads == {threading.current_thread()}


# ------------------------------------------------------------------------------------------ duplicates


def with_ids(keys: list[Any], years: list[int]) -> pa.RecordBatch:
    """A batch as a source may build it, with repeats."""
    batch = rows(0, len(keys), year=0)
    batch = batch.set_column(0, "id", pa.array(keys, pa.string()))
    return batch.set_column(2, "year", pa.array(years))


def years(photos: Faulty) -> dict[str, int]:
    pages = [page.batch.to_pylist() for page in photos.scan(include=["year"])]
    return {row["id"]: row["year"] for page in pages for row in page}


def test_of_repeats_in_a_batch_the_last_wins_and_they_are_counted() -> None:
    photos = Faulty()
    report = vb.write(photos, [with_ids(["a", "b", "a", "c", "a"], [1, 2, 3, 4, 5])])
    assert (report.written, report.duplicates, report.failed) == (3, 2, 0)
    assert photos.sent == [["b", "c", "a"]]
    assert years(photos) == {"a": 5, "b": 2, "c": 4}


@pytest.mark.parametrize("parallel", [False, True])
def test_of_repeats_in_several_batches_the_last_wins(parallel: bool) -> None:
    first_sent = threading.Event()

    def slow_first(call: int, batch: pa.RecordBatch) -> None:
        if batch.column("year")[0].as_py() == 1:
            first_sent.wait(0.2)  # time enough for a later batch to overtake, if it could

    photos = Faulty(before=slow_first, parallel_requests=8 if parallel else 1)
    report = vb.write(photos, [with_ids(["a", "b"], [1, 1]), with_ids(["c", "a"], [2, 2])], workers=4)
    assert (report.written, report.duplicates) == (3, 1)
    assert years(photos) == {"a": 2, "b": 1, "c": 2}


def test_a_bad_row_replaces_nothing() -> None:
    batch = with_ids(["a", "b", "a"], [1, 2, 3])
    vectors = vb.vectors(batch).copy()
    vectors[2] = np.nan
    batch = batch.set_column(1, "vector", pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4))
    photos = Faulty()
    report = vb.write(photos, [batch])
    assert (report.written, report.duplicates, report.failed) == (2, 0, 1)
    assert report.failures[0].row == 2
    assert "NaN" in report.failures[0].error
    assert years(photos) == {"a": 1, "b": 2}


def test_every_row_with_a_bad_id_is_set_aside_and_none_is_a_duplicate() -> None:
    report = vb.write(Faulty(), [with_ids(["", None, "x", "", None, "x\0", "x"], [0] * 7)])
    assert (report.written, report.duplicates, report.failed) == (1, 1, 5)
    assert [failure.row for failure in report.failures] == [0, 1, 3, 4, 5]
    assert [failure.error for failure in report.failures[:2]] == ["the id is empty", "the id is null"]


# ------------------------------------------------------------------------------------------- bad rows


def test_a_batch_of_another_shape_is_set_aside_whole() -> None:
    odd = rows(0, 3).append_column("colour", pa.array(["red"] * 3))
    no_ids = rows(3, 2).drop_columns(["id"])
    wrong_ids = rows(5, 2).set_column(0, "id", pa.array([[1], [2]]))
    photos = Faulty()
    report = vb.write(photos, [odd, no_ids, wrong_ids, rows(7, 3)])
    assert (report.written, report.failed) == (3, 7)
    assert "colour" in report.failures[0].error
    assert [failure.row for failure in report.failures] == list(range(7))


def test_failures_are_counted_over_the_whole_source_and_only_the_first_are_kept() -> None:
    broken = [with_ids([""] * 30, [0] * 30) for _ in range(5)]
    report = vb.write(Faulty(), broken)
    assert report.failed == 150
    assert [failure.row for failure in report.failures] == list(range(tally.KEPT_FAILURES))


def test_vectors_of_another_model_end_the_write() -> None:
    mine, other = (vb.EmbedderIdentity(name, "1", 4, "p") for name in ("mine", "other"))
    spec = vb.CollectionSpec.single("photos", dim=4, embedder=mine)
    with vb.connect("memory://") as store:
        photos = store.create(spec)
        batch = vb.batch(spec, id=["a"], vector=[[1, 2, 3, 4]])
        with pytest.raises(vb.EmbedderMismatchError):
            vb.write(photos, [vb.stamp(batch, other)])
        assert vb.write(photos, [vb.stamp(batch, mine)]).written == 1


def test_too_many_failures_end_the_write_with_the_report() -> None:
    batches = [with_ids(["a", ""], [1, 1]) for _ in range(9)]
    photos = Faulty()
    with pytest.raises(vb.PartialWriteError) as raised:
        vb.write(photos, batches, max_failures=3)
    assert raised.value.report.failed >= 4
    assert raised.value.report.failures[0].error == "the id is empty"
    assert len(photos.sent) < 9
    assert vb.write(Faulty(), batches[:3], max_failures=3).failed == 3


# ------------------------------------------------------------------------------------------- progress


def test_progress_grows_to_the_report() -> None:
    seen: list[Progress] = []
    report = vb.write(Faulty(), [*sources(3), with_ids(["a", "a", ""], [1, 2, 3])], progress=seen.append)
    last = seen[-1]
    assert (last.written, last.failed, last.duplicates) == (report.written, report.failed, report.duplicates)
    assert last.rows == last.done == 33
    assert [each.done for each in seen] == sorted(each.done for each in seen)
    assert all(each.done <= each.rows for each in seen)


def test_a_failing_progress_callback_ends_the_write() -> None:
    def broken(progress: Progress) -> None:
        raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError):
        vb.write(Faulty(), sources(50), progress=broken)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vecbridge-write")]


def test_an_error_of_the_source_comes_out_after_what_was_read_is_written() -> None:
    def source() -> Iterator[pa.RecordBatch]:
        yield from sources(3)
        raise ValueError("line 31 is broken")

    photos = Faulty()
    with pytest.raises(ValueError, match="line 31") as raised:
        vb.write(photos, source())
    assert raised.value.__notes__ == [f"{len(photos.stored())} rows were acknowledged until then"]


def test_int64_ids_and_several_vectors_work_alike() -> None:
    vectors = [vb.VectorField("image", 2, "l2"), vb.VectorField("text", 3, "dot")]
    spec = vb.CollectionSpec("mixed", vectors, id_type="int64")
    batch = pa.RecordBatch.from_pydict(
        {
            "id": pa.array([1, 2**62, 1]),
            "image": pa.FixedSizeListArray.from_arrays(pa.array(np.ones(6, np.float32)), 2),
            "text": pa.FixedSizeListArray.from_arrays(pa.array(np.ones(9, np.float32)), 3),
        }
    )
    with vb.connect("memory://") as store:
        photos = store.create(spec)
        report = vb.write(photos, [batch])
        assert (report.written, report.duplicates) == (2, 1)
        assert photos.fetch([2**62]).num_rows == 1
