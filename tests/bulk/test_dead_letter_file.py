"""Dead letters: complete, durable, readable again, and never written over what is not theirs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vecbridge as vb
from tests.bulk.faults import SPEC, Faulty, ids, rows, sources
from vecbridge.bulk import batches
from vecbridge.bulk.appendfile import AppendFile
from vecbridge.bulk.deadletters import DeadLetterFile, json_values, row_values
from vecbridge.bulk.journal import Journal
from vecbridge.errors import BackendError
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.jsonl import JsonlSource


def letters(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def refuse_odd(call: int, batch: pa.RecordBatch) -> None:
    if any(int(key[1:]) % 2 for key in ids(batch)):
        raise BackendError("odd")


def test_each_row_set_aside_has_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    vb.write(Faulty(before=refuse_odd), sources(2), dead_letters=path, source="rows.parquet")
    found = letters(path)
    assert [each["id"] for each in found] == [f"r{n}" for n in range(1, 20, 2)]
    assert found[1] == {
        "id": "r3",
        "source": "row 3 of rows.parquet",
        "error": "odd",
        "record": {key: value for key, value in rows(3, 1).to_pylist()[0].items() if key != "meta"},
    }


def test_the_dead_letters_of_a_batch_are_on_the_disk_before_it_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, order = AppendFile.append, []

    def noted(file: AppendFile, data: bytes) -> None:
        append(file, data)
        order.append(file.path.name)

    monkeypatch.setattr(AppendFile, "append", noted)
    bad, journal = tmp_path / "bad.jsonl", tmp_path / "run.journal"
    vb.write(Faulty(before=refuse_odd), sources(2), dead_letters=bad, journal=journal)
    assert order[0] == order[-1] == "run.journal"  # the header, and the end
    before = [order[:place].count("bad.jsonl") for place in range(1, 5) if order[place] == "run.journal"]
    assert len(before) == 2
    assert [count >= batches for batches, count in enumerate(before, start=1)] == [True, True]


def test_a_run_cut_off_between_its_dead_letters_and_its_journal_appends_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, journal = tmp_path / "bad.jsonl", tmp_path / "run.journal"
    photos = Faulty(before=refuse_odd)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "settle", lambda *_: _raise(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            vb.write(photos, sources(2), dead_letters=bad, journal=journal)
    assert len(letters(bad)) >= 5
    vb.write(photos, sources(2), dead_letters=bad, journal=journal)
    assert sorted(each["id"] for each in letters(bad)) == sorted(f"r{n}" for n in range(1, 20, 2))


def test_mended_dead_letters_can_be_loaded_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    rng = np.random.default_rng(1)
    batch = vb.batch(
        SPEC,
        id=["a", "\u2028é", "c"],
        vector=rng.standard_normal((3, 4)).astype(np.float32) * np.float32(1e-30),
        year=[2**63 - 1, None, -(2**63)],
        title=["", None, 'quo"te\\ \n'],
        meta=['{"b":[1,2.5,null],"a":9007199254740993}', None, '"text"'],
    )
    vb.write(Faulty(before=lambda call, batch: _raise(BackendError("no"))), [batch], dead_letters=path)
    lost: list[DeadLetter] = []
    [back] = JsonlSource(path).batches(SPEC, on_dead_letter=lost.append)
    assert lost == []
    assert back.equals(batch)


def _raise(error: Exception) -> None:
    raise error


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4))
def test_float32_vectors_survive_the_way_through_json(values: list[float]) -> None:
    vector = np.array([values], np.float32)
    batch = vb.batch(SPEC, id=["a"], vector=vector)
    line = DeadLetter("a", None, "no", row_values(batch, 0, SPEC)).to_json()
    assert np.array([json.loads(line)["record"]["vector"]], np.float32).tobytes() == vector.tobytes()


def test_times_are_text_in_utc_and_one_without_a_zone_stays_without() -> None:
    east = timezone(timedelta(hours=2))
    record = {"east": datetime(2020, 1, 1, 2, tzinfo=east), "nowhere": datetime(2020, 1, 1, 2)}
    assert json_values(record) == {"east": "2020-01-01T00:00:00.000000Z", "nowhere": "2020-01-01T02:00:00"}


def test_null_json_and_the_json_null_stay_apart() -> None:
    batch = vb.batch(SPEC, id=["a", "b"], vector=np.ones((2, 4)), meta=[None, "null"])
    assert "meta" not in row_values(batch, 0, SPEC)
    assert row_values(batch, 1, SPEC)["meta"] is None


def test_what_is_no_json_keeps_its_text() -> None:
    batch = rows(0, 1).set_column(4, "meta", pa.array(['{"a":1,"a":2}']))
    assert row_values(batch, 0, SPEC)["meta"] == '{"a":1,"a":2}'


def test_rows_that_no_backend_may_take_are_kept_as_they_came(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    batch = rows(0, 2).append_column("colour", pa.array(["red", "blue"]))
    vb.write(Faulty(), [batch], dead_letters=path)
    assert [each["record"]["colour"] for each in letters(path)] == ["red", "blue"]
    assert [each["id"] for each in letters(path)] == ["r0", "r1"]


def test_letters_go_to_the_end_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    for _ in range(2):
        vb.write(Faulty(before=refuse_odd), [rows(0, 2)], dead_letters=path)
    assert [each["id"] for each in letters(path)] == ["r1", "r1"]


def test_a_line_that_a_crash_cut_short_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    vb.write(Faulty(before=refuse_odd), [rows(0, 10)], dead_letters=path)
    whole = path.read_bytes()
    for end in {*range(0, len(whole), 11), len(whole) - 1}:
        path.write_bytes(whole[:end])
        kept = letters_whole(whole[:end])
        with DeadLetterFile(path) as file:
            file.append([DeadLetter("new", None, "no")])
        assert [each["id"] for each in letters(path)] == [*kept, "new"]


def letters_whole(data: bytes) -> list[str]:
    """Ids of the lines that are complete, with or without the line's end."""
    found = []
    for line in data.splitlines():
        with suppress(ValueError):
            found.append(json.loads(line)["id"])
    return found


@pytest.mark.parametrize(
    "content", [b"PAR1\0\0", b'{"id": "a", "vector": [1]}\n', b"id,year\n", b"[1]\n", b"\n"]
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photos.parquet"
    path.write_bytes(content)
    photos = Faulty()
    with pytest.raises(vb.ConfigError, match="other than dead letters"):
        vb.write(photos, sources(1), dead_letters=path)
    assert path.read_bytes() == content
    assert photos.sent == []


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    photos = Faulty()
    with pytest.raises(vb.ConfigError, match="No such file"):
        vb.write(photos, sources(1), dead_letters=tmp_path / "nowhere" / "bad.jsonl")
    assert photos.sent == []


def test_two_runs_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    with DeadLetterFile(path), pytest.raises(vb.ConfigError, match="another run"):
        vb.write(Faulty(), sources(1), dead_letters=path)
    vb.write(Faulty(), sources(1), dead_letters=path)


def test_a_full_disk_ends_the_write_and_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bad.jsonl"
    vb.write(Faulty(before=refuse_odd), [rows(0, 2)], dead_letters=path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "write", _full_after_ten_bytes(os.write))
    with pytest.raises(vb.StorageFullError):
        vb.write(Faulty(before=refuse_odd), [rows(0, 2)], dead_letters=path)
    assert path.read_bytes() == before


def _full_after_ten_bytes(write: Any) -> Any:
    def limited(descriptor: int, data: Any) -> int:
        if len(data) <= 10:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[: max(len(data) - 10, 0)])

    return limited


# ------------------------------------------------------------------------------ what a source cannot read


def unread(number: int) -> DeadLetter:
    return DeadLetter(None, f"rows.jsonl:{number}", "no JSON")


def test_what_a_source_cannot_read_is_on_the_disk_while_it_is_still_reading(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    photos = Faulty()

    def read(on_dead_letter: Callable[[DeadLetter], None]) -> Iterator[pa.RecordBatch]:
        on_dead_letter(unread(1))
        assert [each["source"] for each in letters(path)] == ["rows.jsonl:1"]
        for number in range(2, 40):
            on_dead_letter(unread(number))
        yield rows(0, 5)
        assert len(letters(path)) == 39

    assert vb.write(photos, read, dead_letters=path).failed == 39


def test_many_in_a_short_time_share_a_write_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sync, calls = tmp_path / "bad.jsonl", os.fsync, 0

    def counted(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        sync(descriptor)

    def read(on_dead_letter: Callable[[DeadLetter], None]) -> Iterator[pa.RecordBatch]:
        for number in range(5_000):
            on_dead_letter(unread(number))
        yield rows(0, 5)

    monkeypatch.setattr(batches, "LETTERS_SECONDS", 60)
    monkeypatch.setattr(os, "fsync", counted)
    assert vb.write(Faulty(), read, dead_letters=path).failed == 5_000
    assert len(letters(path)) == 5_000
    assert calls <= 60


@pytest.mark.parametrize("end", [OSError("gone"), KeyboardInterrupt(), vb.SchemaError("odd")])
def test_a_source_that_fails_leaves_the_letters_before_it(tmp_path: Path, end: BaseException) -> None:
    path = tmp_path / "bad.jsonl"

    def read(on_dead_letter: Callable[[DeadLetter], None]) -> Iterator[pa.RecordBatch]:
        yield rows(0, 5)
        for number in range(5):
            on_dead_letter(unread(number))
        raise end

    with pytest.raises(type(end)):
        vb.write(Faulty(), read, dead_letters=path)
    assert len(letters(path)) == 5


def test_a_continued_run_knows_a_row_by_its_place_whatever_the_reason_says(tmp_path: Path) -> None:
    path, journal = tmp_path / "bad.jsonl", tmp_path / "run.journal"
    reasons = iter(f"400: request {number}" for number in range(1_000))

    def refuse(call: int, batch: pa.RecordBatch) -> None:
        if any(int(key[1:]) % 2 for key in ids(batch)):
            raise BackendError(next(reasons))

    photos = Faulty(before=refuse)
    vb.write(photos, sources(3), dead_letters=path, journal=journal)
    first = path.read_bytes()
    entries = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(entries[:2]))  # cut off when the first batch was settled
    vb.write(photos, sources(3), dead_letters=path, journal=journal)
    assert path.read_bytes() == first


def test_a_file_without_letters_is_not_left_behind_and_an_empty_one_stays(tmp_path: Path) -> None:
    new, old = tmp_path / "new.jsonl", tmp_path / "old.jsonl"
    old.touch()
    for path in (new, old):
        vb.write(Faulty(), sources(1), dead_letters=path)
    assert not new.exists()
    assert old.exists()
