"""A journal continues its own run, exactly, wherever that was cut off, and no other run."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vecbridge as vb
from tests.bulk.faults import SPEC, Faulty, ids, rows, sources
from vecbridge.bulk import NewCollection
from vecbridge.bulk.journal import Header, Journal, digest
from vecbridge.errors import BackendError
from vecbridge.urls import parse


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def stops_after(count: int) -> Iterator[pa.RecordBatch]:
    yield from sources(count)
    raise OSError("the source went away")


def interrupted(photos: Faulty, path: Path, batches: int = 3, **options: Any) -> None:
    """A run that ends after some batches."""
    with pytest.raises(OSError, match="went away"):
        vb.write(photos, stops_after(batches), journal=path, **options)


def test_a_journal_says_what_became_of_each_batch(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"

    def fault(call: int, batch: pa.RecordBatch) -> None:
        if "r3" in ids(batch):
            raise BackendError("400")

    bad = rows(10, 5).set_column(0, "id", pa.array(["a", "", "b", "b", "c"]))
    vb.write(Faulty(before=fault), [rows(0, 4), bad], journal=path, source="somewhere")
    header, first, second, end = lines(path)
    assert header["vecbridge_journal"] == 1
    assert header["source"] == "somewhere"
    assert header["target"] == {
        "backend": "memory",
        "url": "memory://",
        "collection": "photos",
        "namespace": "",
    }
    assert header["spec"] == SPEC.to_dict()
    assert header["options"] == {"dead_letters": False}
    counts = {"rows": 4, "written": 3, "failed": 1, "retried": 4, "duplicates": 0, "skipped": 0}
    assert first == {"batch": 0, "digest": digest(rows(0, 4)), **counts}
    counts = {"rows": 5, "written": 3, "failed": 1, "retried": 0, "duplicates": 1, "skipped": 0}
    assert second == {"batch": 1, "digest": digest(bad), **counts}
    assert end == {"finished": True}


def test_the_same_call_continues_and_sends_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    photos = Faulty()
    interrupted(photos, path)
    assert len(photos.stored()) == 30
    report = vb.write(photos, sources(7), journal=path)
    assert report.written == 70
    assert sorted(key for sent in photos.sent for key in sent) == sorted(f"r{n}" for n in range(70))


def test_a_continued_run_reports_the_whole_of_it(tmp_path: Path) -> None:
    seen: list[Any] = []
    photos = Faulty()
    interrupted(photos, tmp_path / "run.journal")
    report = vb.write(photos, sources(5), journal=tmp_path / "run.journal", progress=seen.append)
    assert (report.written, report.failed) == (50, 0)
    assert (seen[-1].rows, seen[-1].recalled, seen[-1].done) == (50, 30, 50)


def test_a_run_that_the_backend_ended_continues(tmp_path: Path) -> None:
    def full(call: int, batch: pa.RecordBatch) -> None:
        if call >= 4:
            raise vb.StorageFullError("full")

    photos = Faulty(before=full)
    with pytest.raises(vb.StorageFullError):
        vb.write(photos, sources(9), journal=tmp_path / "run.journal")
    photos.heal()
    assert vb.write(photos, sources(9), journal=tmp_path / "run.journal").written == 90
    assert photos.stored() == {f"r{n}" for n in range(90)}


def test_after_too_many_failures_a_higher_limit_continues(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    bad = [rows(10 * n, 10).set_column(0, "id", pa.array(["", *map(str, range(9))])) for n in range(8)]
    with pytest.raises(vb.PartialWriteError):
        vb.write(photos := Faulty(), bad, journal=path, max_failures=2)
    with pytest.raises(vb.PartialWriteError):
        vb.write(photos, bad, journal=path, max_failures=2)
    assert vb.write(photos, bad, journal=path).failed == 8


def test_a_finished_run_sends_nothing_when_it_is_run_again_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    first = vb.write(photos := Faulty(), sources(2), journal=path)
    before = path.read_bytes()
    for _ in range(2):
        again = vb.write(photos, sources(2), journal=path)
        assert (first.written, first.recalled) == (20, 0)
        assert (again.written, again.recalled) == (20, 20)
        assert path.read_bytes() == before
        assert len(photos.sent) == 2


def test_a_run_killed_before_it_could_say_that_it_is_finished_sends_nothing_again(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    vb.write(photos := Faulty(), sources(3), journal=path)
    finished = path.read_bytes()
    path.write_bytes(b"".join(finished.splitlines(keepends=True)[:-1]))
    assert vb.write(photos, sources(3), journal=path).recalled == 30
    assert (path.read_bytes(), len(photos.sent)) == (finished, 3)


def as_dicts(first: int, count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "vector": [n, 1, 2, 3], "year": 2020} for n in range(first, first + count)]


@pytest.mark.parametrize("make", [rows, as_dicts], ids=["batches", "dicts"])
@pytest.mark.parametrize("cut", [False, True], ids=["finished", "killed at the end"])
def test_a_source_that_is_only_longer_goes_on_with_what_is_new(
    tmp_path: Path, make: Callable[[int, int], Any], cut: bool
) -> None:
    path = tmp_path / "run.journal"
    photos = Faulty()
    lengths = [[10, 4], [10, 4, 10, 1], [10, 4, 10, 5], [10, 4, 10, 5], [10, 4, 10, 9, 10]]
    seen = 0
    for sizes in lengths:
        starts = [sum(sizes[:place]) for place in range(len(sizes))]
        source = [make(start, size) for start, size in zip(starts, sizes, strict=True)]
        report = vb.write(photos, source, journal=path)
        total = sum(sizes)
        assert (report.written, report.recalled) == (total, seen)
        assert sorted(key for sent in photos.sent for key in sent) == sorted(f"r{n}" for n in range(total))
        assert lines(path)[-1] == {"finished": True}
        seen = total
        if cut:
            path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def test_failures_of_a_batch_that_has_become_longer_name_their_place_in_the_source(tmp_path: Path) -> None:
    path, dead = tmp_path / "run.journal", tmp_path / "bad.jsonl"
    photos = Faulty()
    vb.write(photos, [as_dicts(0, 3)], journal=path, dead_letters=dead, source="s")
    grown = [[*as_dicts(0, 4), {"id": "bad", "vector": [1, 2, 3, 4], "year": "x"}]]
    report = vb.write(photos, grown, journal=path, dead_letters=dead, source="s")
    assert (report.written, report.failed, report.failures[0].row) == (4, 1, 4)
    assert lines(dead)[0]["source"] == "row 4 of s"


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ([(0, 10), (10, 10), (20, 3)], "ends before batch 3|batch 2 of the source has changed"),
        ([(0, 10), (10, 10)], "ends before batch 2"),
        ([(0, 10), (11, 9), (20, 5), (25, 10)], "batch 1 of the source has changed"),
        ([(0, 10), (10, 11), (20, 5), (25, 10)], "batch 1 of the source has changed"),
        ([(0, 10), (10, 10), (20, 5), (25, 9), (34, 10)], "batch 3 of the source has changed"),
        ([(1, 10), (11, 10), (21, 5), (26, 10)], "batch 0 of the source has changed"),
        ([], "ends before batch 0"),
    ],
)
def test_a_changed_or_shorter_source_of_a_finished_run_is_refused_by_the_name_of_the_batch(
    tmp_path: Path, second: list[tuple[int, int]], says: str
) -> None:
    path = tmp_path / "run.journal"
    photos = Faulty()
    vb.write(photos, [rows(0, 10), rows(10, 10), rows(20, 5), rows(25, 10)], journal=path)
    before = path.read_bytes()
    with pytest.raises(vb.JournalError, match=says):
        vb.write(photos, [rows(*each) for each in second], journal=path)
    assert len(photos.sent) == 4
    assert path.read_bytes() == before


def test_a_collection_made_anew_is_not_taken_for_the_one_that_was_written(tmp_path: Path) -> None:
    """Where writes become visible late, that it is empty proves nothing; that this run made it does."""
    path = tmp_path / "run.journal"
    vb.write(Faulty(consistency="eventual"), sources(2), journal=path)
    empty = Faulty(consistency="eventual")
    assert vb.write(empty, sources(2), journal=path).recalled == 20

    class New(NewCollection):
        def open(self) -> Any:
            self.collection = empty
            return empty

    with vb.connect("memory://") as store, pytest.raises(vb.JournalError, match="20 rows were acknowledged"):
        vb.write(New(store, SPEC), sources(2), journal=path)


# ------------------------------------------------------------------------------------- other runs


def other_spec(photos: Faulty) -> None:
    photos.spec = replace(SPEC, fields=(vb.Field("year", "float64"), *SPEC.fields[1:]))


def other_namespace(photos: Faulty) -> None:
    photos.namespace = "eu"


def other_backend(photos: Faulty) -> None:
    photos.capabilities = replace(photos.capabilities, backend="faiss")


def other_place(photos: Faulty) -> None:
    photos.url = parse("faiss:///elsewhere#photos")


@pytest.mark.parametrize(
    ("change", "named"),
    [(other_spec, "spec"), (other_namespace, "eu"), (other_backend, "faiss"), (other_place, "elsewhere")],
)
def test_a_journal_of_another_target_is_refused(
    tmp_path: Path, change: Callable[[Faulty], None], named: str
) -> None:
    path = tmp_path / "run.journal"
    photos = Faulty()
    interrupted(photos, path)
    change(photos)
    before, sent = path.read_bytes(), len(photos.sent)
    with pytest.raises(vb.JournalError, match=f"another run.*{named}"):
        vb.write(photos, sources(7), journal=path)
    assert (path.read_bytes(), len(photos.sent)) == (before, sent)


@pytest.mark.parametrize("options", [{"source": "b"}, {"dead_letters": "bad.jsonl"}])
def test_a_journal_of_another_source_or_other_options_is_refused(
    tmp_path: Path, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = Faulty()
    interrupted(photos, Path("run.journal"), source="a")
    with pytest.raises(vb.JournalError, match="another run"):
        vb.write(photos, sources(7), journal="run.journal", **{"source": "a"} | options)


def test_workers_and_limits_may_change_between_the_parts_of_a_run(tmp_path: Path) -> None:
    photos = Faulty(parallel_requests=8)
    interrupted(photos, tmp_path / "run.journal", workers=2, max_failures=5)
    assert vb.write(photos, sources(7), journal=tmp_path / "run.journal", workers=5).written == 70


def test_a_changed_source_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    photos = Faulty()
    interrupted(photos, path)
    changed = [rows(0, 10), rows(10, 10, year=1999), *[rows(n, 10) for n in range(20, 70, 10)]]
    with pytest.raises(vb.JournalError, match="batch 1 of the source has changed"):
        vb.write(photos, changed, journal=path)
    with pytest.raises(vb.JournalError, match="ends before batch 1"):
        vb.write(photos, sources(1), journal=path)
    assert vb.write(photos, sources(7), journal=path).written == 70


def test_rows_of_a_dropped_collection_are_not_taken_for_written(tmp_path: Path) -> None:
    interrupted(Faulty(), tmp_path / "run.journal")
    with pytest.raises(vb.JournalError, match="is empty"):
        vb.write(Faulty(), sources(7), journal=tmp_path / "run.journal")


def test_rows_of_a_collection_that_was_made_anew_are_not_taken_for_written(tmp_path: Path) -> None:
    """Though it is not empty: somebody has written other rows to it."""
    path = tmp_path / "run.journal"
    with vb.connect("memory://") as store:
        vb.write(store.create(SPEC), sources(2), journal=path)
        store.drop("photos")
        photos = store.create(SPEC)
        photos.upsert(rows(100, 5))
        with pytest.raises(vb.JournalError, match="'photos' was dropped and made anew"):
            vb.write(photos, sources(2), journal=path)
        whole = path.read_bytes()
        end = whole.index(b',"identity"')
        path.write_bytes(whole[:end] + whole[whole.index(b"\n") - 1 :])  # of an earlier version
        assert vb.write(photos, sources(2), journal=path).recalled == 20


def test_two_runs_do_not_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    with (
        Journal(path, Header.of(Faulty(), "", {})),
        pytest.raises(vb.JournalError, match="another run is writing"),
    ):
        vb.write(Faulty(), sources(1), journal=path)


def test_no_login_and_no_option_of_the_target_is_noted(tmp_path: Path) -> None:
    photos = Faulty()
    photos.url = parse("milvus://root:secret1@db:19530/x?api_key=secret2#photos")
    vb.write(photos, sources(1), journal=tmp_path / "run.journal")
    text = (tmp_path / "run.journal").read_text()
    assert "secret" not in text
    assert lines(tmp_path / "run.journal")[0]["target"]["url"] == "milvus://db:19530/x"


# --------------------------------------------------------------------------------- damaged journals


@pytest.mark.parametrize("content", [b"PAR1\0\0\0", b'{"id": "a"}\n', b"[]\n", b"{}\n", b"hello", b"\xff\n"])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.journal"
    path.write_bytes(content)
    with pytest.raises(vb.JournalError):
        vb.write(Faulty(), sources(1), journal=path)
    assert path.read_bytes() == content


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    photos = Faulty()
    interrupted(photos, path)
    whole = path.read_bytes().splitlines(keepends=True)
    for damage in (b"\0" * 40 + b"\n", b'{"batch": 1}\n', b"7\n"):
        path.write_bytes(b"".join([*whole[:2], damage, *whole[3:]]))
        with pytest.raises(vb.JournalError, match="line 3 is damaged"):
            vb.write(photos, sources(7), journal=path)


def test_a_journal_of_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    interrupted(photos := Faulty(), path)
    path.write_bytes(path.read_bytes().replace(b'"vecbridge_journal":1', b'"vecbridge_journal":2'))
    with pytest.raises(vb.JournalError, match="vecbridge_journal 2, not 1"):
        vb.write(photos, sources(7), journal=path)


def test_a_journal_that_is_cut_anywhere_continues(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    photos = Faulty()
    interrupted(photos, path)
    whole = path.read_bytes()
    for end in {*range(0, len(whole), 23), len(whole) - 1}:
        path.write_bytes(whole[:end])
        assert vb.write(photos, sources(5), journal=path).written == 50
        assert lines(path)[-1] == {"finished": True}


def test_a_journal_that_cannot_be_written_ends_the_write_before_anything_is_sent(tmp_path: Path) -> None:
    photos = Faulty()
    with pytest.raises(vb.JournalError, match="No such file"):
        vb.write(photos, sources(1), journal=tmp_path / "nowhere" / "run.journal")
    assert photos.sent == []


@pytest.mark.parametrize(("number", "error"), [(28, vb.StorageFullError), (5, vb.JournalError)])
def test_a_disk_that_fails_under_the_journal_ends_the_write_and_it_continues_later(
    tmp_path: Path, number: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.journal"
    photos = Faulty()
    sync, calls = os.fsync, []

    def failing(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 5:
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(error):
        vb.write(photos, sources(9), journal=path)
    monkeypatch.undo()
    assert vb.write(photos, sources(9), journal=path).written == 90
    assert photos.stored() == {f"r{n}" for n in range(90)}


# ------------------------------------------------------------------------------------------- crashes


@pytest.mark.parametrize("seed", range(24))
def test_after_a_crash_at_any_moment_no_row_is_lost_and_none_comes_twice(tmp_path: Path, seed: int) -> None:
    """The files and the store as they are at one moment are what a crash at that moment leaves."""
    chance = random.Random(seed)
    journal, dead = tmp_path / "run.journal", tmp_path / "bad.jsonl"
    bad = {f"r{n}" for n in chance.sample(range(200), 12)}
    moment = chance.randrange(20)
    state: dict[str, Any] = {}

    def refuse(call: int, batch: pa.RecordBatch) -> None:
        if bad & set(ids(batch)):
            raise BackendError("400")

    def look(call: int, batch: pa.RecordBatch) -> None:
        if len(photos.sent) > moment and not state:
            # the journal first: it must never be ahead of the others
            state.update(journal=journal.read_bytes(), dead=dead.read_bytes(), rows=photos.stored())

    def look_and_refuse(call: int, batch: pa.RecordBatch) -> None:
        look(call, batch)
        refuse(call, batch)

    options = {"journal": journal, "dead_letters": dead, "workers": 3}
    photos = Faulty(before=look_and_refuse, after=look, parallel_requests=8)
    vb.write(photos, sources(20), **options)

    torn = chance.randrange(30)  # the last line may be half on the disk
    journal.write_bytes(state["journal"] + b'{"batch":19,"rows":10,"digest":"ab"'[:torn])
    dead.write_bytes(state["dead"] + b'{"id": "r7", "source": "row 7'[:torn])
    settled = {each["batch"] for each in lines_whole(journal)[1:]}
    survivor = Faulty(before=refuse, parallel_requests=8)
    if state["rows"]:
        numbers = [int(key[1:]) for key in state["rows"]]
        survivor.inner.upsert(
            pa.Table.from_batches([rows(n, 1) for n in numbers]).combine_chunks().to_batches()[0]
        )
    report = vb.write(survivor, sources(20), **options)

    assert survivor.stored() == {f"r{n}" for n in range(200)} - bad
    assert (report.written, report.failed) == (188, 12)
    assert not {int(key[1:]) // 10 for sent in survivor.sent for key in sent} & settled
    assert sorted(each["id"] for each in lines(dead)) == sorted(bad)


def lines_whole(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


# -------------------------------------------------------------------------------------------- digest

VALUES = st.fixed_dictionaries(
    {
        "id": st.text(max_size=3),
        "flag": st.none() | st.booleans(),
        "year": st.none() | st.integers(-(2**63), 2**63 - 1),
        "tags": st.none() | st.lists(st.text(max_size=2), max_size=2),
        "score": st.none() | st.floats(allow_nan=False),
    }
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("flag", pa.bool_()),
        ("year", pa.int64()),
        ("tags", pa.list_(pa.string())),
        ("score", pa.float64()),
    ]
)


def records(values: list[Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(values, schema=SCHEMA)


@given(st.lists(VALUES, max_size=6), st.lists(VALUES, min_size=1, max_size=3))
def test_a_digest_does_not_depend_on_the_layout(values: list[Any], others: list[Any]) -> None:
    whole = records([*others, *values, *others])
    assert digest(whole.slice(len(others), len(values))) == digest(records(values))


@given(st.lists(VALUES, min_size=1, max_size=4), st.lists(VALUES, min_size=1, max_size=4))
def test_different_records_have_different_digests(one: list[Any], other: list[Any]) -> None:
    same = repr(records(one).to_pylist()) == repr(records(other).to_pylist())
    assert (digest(records(one)) == digest(records(other))) == same


def test_a_digest_sees_every_bit_of_a_vector() -> None:
    vectors = np.ones((3, 4), np.float32)
    first = vb.batch(SPEC, id=["a", "b", "c"], vector=vectors)
    vectors = vectors.copy()
    vectors[2, 3] = np.nextafter(np.float32(1), np.float32(2))
    assert digest(first) != digest(vb.batch(SPEC, id=["a", "b", "c"], vector=vectors))


def test_a_digest_sees_what_lies_beside_a_null_and_not_below_it() -> None:
    values = np.array([1, 7, 3])
    masked = [pa.array(values, mask=np.array([False, True, False]))]
    values = np.array([1, 8, 3])
    masked.append(pa.array(values, mask=np.array([False, True, False])))
    one, other = (digest(pa.RecordBatch.from_arrays([each], ["year"])) for each in masked)
    assert one == other
    assert one != digest(pa.RecordBatch.from_arrays([pa.array([1, 3, None])], ["year"]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": ["ab", "c"]}, {"a": ["a", "bc"]}),
        ({"a": [[1], [2, 3]]}, {"a": [[1, 2], [3]]}),
        ({"a": [None, 1]}, {"a": [1, None]}),
        ({"a": [None]}, {"a": [None, None]}),
        ({"a": [1], "b": [2]}, {"a": [2], "b": [1]}),
        ({"a": [1]}, {"b": [1]}),
        ({"a": [0]}, {"a": pa.array([0], pa.timestamp("us", "UTC"))}),
        ({"a": ["1"]}, {"a": pa.array(["1"], pa.large_string())}),
        ({"a": [b"ab"]}, {"a": [b"ac"]}),
    ],
    ids=["text", "list", "null", "length", "columns", "name", "type", "width", "bytes"],
)
def test_a_digest_sees_where_values_end_and_what_columns_are_called(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert digest(pa.RecordBatch.from_pydict(one)) != digest(pa.RecordBatch.from_pydict(other))
