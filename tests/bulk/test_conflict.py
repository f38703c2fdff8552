"""Bulk writes of rows whose ids may be there: skipping, refusing, and what a retry does."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pytest

import vecbridge as vb
from tests.bulk.faults import Faulty, ids, partial, rows, sources


def years(photos: Faulty) -> dict[str, int]:
    return {row["id"]: row["year"] for page in photos.inner.scan() for row in page.batch.to_pylist()}


def test_rows_that_are_there_are_skipped_and_counted(tmp_path: Path) -> None:
    photos = Faulty()
    photos.inner.upsert(rows(0, 15, year=1999))
    report = vb.write(photos, sources(3), on_conflict="skip", journal=tmp_path / "run.journal")
    assert (report.written, report.skipped, report.failed, report.duplicates) == (15, 15, 0, 0)
    assert sorted(years(photos).values()) == [1999] * 15 + [2020] * 15


def test_a_continued_run_counts_what_was_skipped_before(tmp_path: Path) -> None:
    photos, path = Faulty(), tmp_path / "run.journal"
    photos.inner.upsert(rows(0, 15))

    def two_then_ctrl_c():
        yield from sources(2)
        while len(photos.sent) < 2:  # both are under way, and are finished
            time.sleep(0.001)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vb.write(photos, two_then_ctrl_c(), on_conflict="skip", journal=path)
    seen: list[vb.bulk.Progress] = []
    report = vb.write(photos, sources(3), on_conflict="skip", journal=path, progress=seen.append)
    assert (report.written, report.skipped) == (15, 15)
    assert (seen[-1].done, seen[-1].recalled) == (30, 20)


def test_rows_that_are_there_become_dead_letters_where_that_is_an_error(tmp_path: Path) -> None:
    photos, letters = Faulty(), tmp_path / "bad.jsonl"
    photos.inner.upsert(rows(5, 1, year=1999))
    report = vb.write(photos, sources(1), on_conflict="error", dead_letters=letters)
    assert (report.written, report.failed) == (9, 1)
    assert [(failure.row, failure.id) for failure in report.failures] == [(5, "r5")]
    assert "there is a record of this id already" in letters.read_text()
    assert years(photos)["r5"] == 1999


@pytest.mark.parametrize("policy", ["skip", "error"])
def test_rows_that_an_attempt_may_have_written_replace_what_it_wrote(policy: str) -> None:
    """The first attempt stores r0 to r4 and hears nothing of them; r9 was refused and was there before."""

    def lost(call: int, batch: pa.RecordBatch) -> None:
        if call == 0:
            unheard = dict.fromkeys(range(5), "no answer")
            partial(photos, batch.slice(0, 5), {}, "unknown", None)  # they are stored all the same
            raise partial(photos, batch, unheard, "unknown", vb.DeadlineError("no answer"))

    photos = Faulty(before=lost)
    report = vb.write(photos, sources(1), on_conflict=policy)
    assert (report.written, report.skipped, report.failed) == (10, 0, 0)
    assert len(photos.stored()) == 10


def test_a_run_with_another_policy_does_not_continue_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"

    def one_then_ctrl_c():
        yield from sources(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vb.write(Faulty(), one_then_ctrl_c(), journal=path)
    with pytest.raises(vb.JournalError, match="on_conflict"):
        vb.write(Faulty(), sources(2), journal=path, on_conflict="skip")
    with pytest.raises(vb.ConfigError, match="replace, skip, error"):
        vb.write(Faulty(), sources(2), on_conflict="ignore")


def test_dicts_are_written_and_those_at_fault_become_dead_letters(tmp_path: Path) -> None:
    photos, letters = Faulty(), tmp_path / "bad.jsonl"
    good = {"id": "a", "vector": [1.0, 2, 3, 4], "meta": {"x": [1, None]}}
    wrong = [
        {"id": "no vector"},
        {"id": "short", "vector": [1.0]},
        {"id": "typo", "vector": [1.0] * 4, "yaer": 1},
        {"id": "text", "vector": [1.0] * 4, "year": "x"},
        {"vector": [1.0] * 4},
        {"id": 7, "vector": [1.0] * 4},
        {"id": "", "vector": [1.0] * 4},
    ]
    last = {"id": "a", "vector": [4.0] * 4, "year": 5}
    report = vb.write(photos, [[good, *wrong], [], [last, {"id": "a", "vector": None}]], dead_letters=letters)
    assert (report.written, report.failed, report.duplicates) == (1, 8, 1)
    named = {failure.row: failure.error for failure in report.failures}
    words = ["placeholder", "4", "did you mean 'year'", "year", "missing", "string", "empty", "placeholder"]
    for row, word in zip([*range(1, 8), 9], words, strict=True):
        assert word in named[row], (row, named)
    assert years(photos) == {"a": 5}
    assert len(letters.read_text().splitlines()) == 8


def test_of_dicts_with_one_id_the_last_good_one_wins() -> None:
    photos = Faulty()
    vector = [1.0] * 4
    rows = [{"id": "a", "vector": vector, "year": 1}, {"id": "a", "vector": vector, "year": 2}]
    report = vb.write(photos, [*rows, {"id": "a", "vector": vector, "year": "x"}])
    assert (report.written, report.failed, report.duplicates) == (1, 1, 1)
    assert years(photos) == {"a": 2}


def test_a_journal_of_dicts_continues_and_sees_a_change(tmp_path: Path) -> None:
    photos, path = Faulty(), tmp_path / "run.journal"

    def source(year: int):
        for number in range(3):
            yield [{"id": f"d{number}", "vector": [1.0] * 4, "year": year}]

    def two_then_ctrl_c():
        two = source(1)
        yield from (next(two), next(two))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vb.write(photos, two_then_ctrl_c(), journal=path)
    with pytest.raises(vb.JournalError, match="has changed"):
        vb.write(photos, source(2), journal=path)
    assert vb.write(photos, source(1), journal=path).written == 3
    assert ids(photos.inner.fetch(["d0", "d1", "d2"])) == ["d0", "d1", "d2"]
