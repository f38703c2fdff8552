"""The journal of a copy: whatever cuts it off, the same call goes on, reads nothing twice, loses nothing."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import vecbridge as vb
from tests.children import CHILDREN
from tests.migration.copies import (
    Reads,
    contents,
    exists,
    fill,
    journal_lines,
    memory,
    pages_noted,
    parallel,
    small_pages,
)
from vecbridge.migration import copyrun, ledger, reading
from vecbridge.migration.statefile import State, StateHeader, partial_path
from vecbridge.stores.memory import MemoryCollection
from vecbridge.testing.cases import CASES


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small_pages():
        yield


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "run.journal"


def interrupted(source: str, target: str, rows: int, **arguments: Any) -> list[Any]:
    """A copy whose source fails for good after some rows; the ids that it read."""
    with pytest.MonkeyPatch.context() as patch:
        reads = Reads(patch, source)
        plan = arguments.pop("plan", None) or vb.plan(source, target)
        reads.ids.clear()
        reads.fail_after, reads.error = rows, vb.AuthError("the key was withdrawn")
        with pytest.raises(vb.AuthError):
            vb.migrate(source, target, plan=plan, **arguments)
        return reads.ids


def resumed(source: str, target: str, **arguments: Any) -> tuple[vb.MigrationReport, list[Any]]:
    """The same copy again, to its end; the ids that it read."""
    with pytest.MonkeyPatch.context() as patch:
        reads = Reads(patch, source)
        return vb.migrate(source, target, **arguments), reads.ids


def drop(url: str) -> None:
    store_url, _, name = url.partition("#")
    with vb.connect(store_url) as store:
        store.drop(name)


def test_the_same_call_goes_on_where_the_last_one_ended_and_reads_nothing_before(journal: Path) -> None:
    source, target = memory(), memory()
    before = fill(source, 100, namespaces=("", "eu"))
    first = interrupted(source, target, 70, journal=journal)
    noted = pages_noted(journal)
    assert 0 < noted <= len(first)
    report, second = resumed(source, target, journal=journal)
    assert (report.rows, report.written, report.resumed) == (200, 200, noted)
    assert len(second) == 200 - noted
    assert contents(target) == before


def test_rows_that_are_inserted_meanwhile_do_not_shift_what_was_copied(journal: Path) -> None:
    source, target = memory(), memory()
    before = fill(source, 60)
    interrupted(source, target, 30, journal=journal)
    fill(source, 5, first=-5)
    report, read = resumed(source, target, journal=journal)
    assert report.written >= 60
    assert not {f"r{number:04}" for number in range(pages_noted(journal) - len(read))} & set(read)
    assert before[""].items() <= contents(target)[""].items()


def test_a_finished_copy_is_done_at_once_and_says_when(journal: Path) -> None:
    source, target = memory(), memory()
    fill(source, 20)
    done = vb.migrate(source, target, journal=journal)
    fill(source, 20, first=500)
    before = journal.read_bytes()
    report, read = resumed(source, target, journal=journal)
    assert report.already_done
    assert (report.finished, report.rows) == (done.finished, 20)
    assert report.notes[0].startswith(f"done on {done.finished:%Y-%m-%d}")
    assert read == []
    assert journal.read_bytes() == before


def test_a_finished_copy_whose_target_is_gone_is_not_called_done(journal: Path) -> None:
    source, target = memory(), memory()
    fill(source, 20)
    vb.migrate(source, target, journal=journal)
    drop(target)
    with pytest.raises(vb.JournalError, match="was dropped since it was begun: name another journal"):
        vb.migrate(source, target, journal=journal)
    fill(target, 0)
    with pytest.raises(vb.JournalError, match="was made anew since it was begun"):
        vb.migrate(source, target, journal=journal)


def test_a_journal_of_a_source_or_target_made_anew_is_refused(journal: Path) -> None:
    source, target = memory(), memory()
    fill(source, 40)
    interrupted(source, target, 20, journal=journal)
    drop(target)
    fill(target, 0)
    with pytest.raises(vb.JournalError, match=rf"run.journal: {target} was made anew"):
        vb.migrate(source, target, journal=journal)
    journal.unlink()
    drop(target)
    interrupted(source, target, 20, journal=journal)
    drop(source)
    fill(source, 40)
    with pytest.raises(vb.JournalError, match=rf"{source} was made anew"):
        vb.migrate(source, target, journal=journal)


def test_a_journal_of_another_copy_is_refused_and_the_message_says_what_differs(journal: Path) -> None:
    source, target = memory(), memory()
    fill(source, 40)
    plan = vb.plan(source, target)
    interrupted(source, target, 20, journal=journal)
    other = memory()
    for arguments, what in (
        ((source, other), "it is of the target"),
        ((other, target), "it is of the source"),
    ):
        with pytest.raises(vb.JournalError, match=what):
            vb.migrate(*arguments, journal=journal)
    with pytest.raises(vb.JournalError, match=r"begun with drop None, not \['tags'\]"):
        vb.migrate(source, target, journal=journal, drop=["tags"], allow=["field:tags"])
    with pytest.raises(vb.JournalError, match="another plan"):
        vb.migrate(source, target, journal=journal, plan=vb.plan(source, target, id_template="x{id}"))
    assert vb.migrate(source, target, journal=journal, plan=plan).written == 40


def test_what_is_no_journal_is_left_as_it_is(journal: Path) -> None:
    source, target = memory(), memory()
    fill(source, 5)
    for content in (b"my notes\n", b"my notes", b'{"vecbridge": 1}\n', b"\n"):
        journal.write_bytes(content)
        with pytest.raises(vb.JournalError, match="no journal of a migration"):
            vb.migrate(source, target, journal=journal)
        assert journal.read_bytes() == content
    assert not exists(target)


def test_two_runs_of_one_journal_exclude_each_other(journal: Path) -> None:
    source, target = memory(), memory()
    before = fill(source, 30)
    errors = []

    def again(copied: Any) -> None:
        if not errors:
            with pytest.raises(vb.JournalError, match="another run is writing to it") as refused:
                vb.migrate(source, target, journal=journal)
            errors.append(refused.value)

    vb.migrate(source, target, journal=journal, progress=again)
    assert len(errors) == 1
    assert contents(target) == before


def test_a_journal_that_is_cut_anywhere_goes_on(tmp_path: Path) -> None:
    source = memory()
    before = fill(source, 40)
    whole = tmp_path / "whole.journal"
    interrupted(source, first := memory(), 30, journal=whole)
    data = whole.read_bytes()
    second_line = data.index(b"\n") + 1
    for end in {*range(second_line, len(data), 61), second_line - 20, 0, len(data) - 1}:
        # what a crash leaves: a target that exists, and rows in it only if the journal names it
        cut = tmp_path / f"{end}.journal"
        cut.write_bytes(data[:end])
        if b"target_identity" not in data[:end].rpartition(b"\n")[0]:
            drop(first)
            fill(first, 0)
        report = vb.migrate(source, first, journal=cut)
        assert report.written == 40
        assert contents(first) == before
        assert journal_lines(cut)[-1].keys() == {"finished"}
        drop(first)
        interrupted(source, first, 30, journal=tmp_path / f"{end}.again")
        data = (tmp_path / f"{end}.again").read_bytes()


def test_a_target_that_was_made_before_the_crash_and_is_empty_is_taken_as_its_own(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = memory(), memory()
    before = fill(source, 20)
    note = copyrun.CopyJournal.note_target

    def crash(journal: Any, identity: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(copyrun.CopyJournal, "note_target", crash)
    with pytest.raises(KeyboardInterrupt):
        vb.migrate(source, target, journal=journal)
    monkeypatch.setattr(copyrun.CopyJournal, "note_target", note)
    assert exists(target)
    assert len(journal_lines(journal)) == 1
    assert vb.migrate(source, target, journal=journal).written == 20
    assert contents(target) == before


def test_a_part_whose_cursor_expired_is_copied_from_its_start_and_the_report_says_so(
    journal: Path, tmp_path: Path
) -> None:
    source, target = f"faiss://{tmp_path}/a#photos", f"faiss://{tmp_path}/b#photos"
    fill(source, 60)
    interrupted(source, target, 30, journal=journal)
    with vb.open(source) as photos:
        photos.delete(["r0000", "r0050"])
        photos.compact()
    report, read = resumed(source, target, journal=journal)
    assert report.notes == ("the collection was copied from its start again: its cursor had expired",)
    assert (report.rows, report.written, len(read)) == (58, 58, 58)
    left = contents(source)[""]
    assert set(contents(target)[""]) == {*left, "r0000"}  # the first page had it; sync deletes it
    assert {key: row for key, row in contents(target)[""].items() if key in left} == left


def test_a_part_alone_is_copied_again_where_its_start_is_valid_still(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = f"faiss://{tmp_path}/a#photos", memory()
    before = fill(source, 203)
    parallel(monkeypatch)
    monkeypatch.setattr(copyrun, "LARGE", 100)
    expired: list[str | None] = []
    original = reading.pages

    def pages(collection: Any, include: Any, cursor: str | None, **arguments: Any) -> Any:
        for number, page in enumerate(original(collection, include, cursor, **arguments)):
            if number == 2 and not expired:
                expired.append(cursor)
                raise vb.CursorExpiredError("compacted")
            yield page

    monkeypatch.setattr(reading, "pages", pages)
    report = vb.migrate(source, target, journal=journal)
    [note] = report.notes
    assert re.fullmatch(r"part \d of 4 of the collection was copied from its start again: .* expired", note)
    assert contents(target) == before
    assert report.rows == report.written == 203
    lines = journal_lines(journal)
    assert [line["part"] for line in lines if line.get("restart")] == [int(note.split()[1]) - 1]
    with copyrun.CopyJournal(journal) as again:
        assert again.copied.rows == 203


def test_a_source_whose_cursors_expire_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = memory(), memory()
    fill(source, 60)
    reads = Reads(monkeypatch, source)
    plan = vb.plan(source, target)
    reads.ids.clear()
    reads.fail_after, reads.error, reads.forever = 20, vb.CursorExpiredError("compacted"), True
    with pytest.raises(vb.CursorExpiredError, match="faster than it can be read"):
        vb.migrate(source, target, plan=plan)


def test_dead_letters_stand_once_in_their_file_however_often_their_page_is_read(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, bad = memory(), memory(), tmp_path / "bad.jsonl"
    fill(source, 40)
    original = vb.Collection.upsert

    def upsert(collection: vb.Collection, data: Any, **arguments: Any) -> vb.WriteReport:
        ids = data.batch.column("id").to_pylist()
        if "r0003" in ids:
            raise vb.InvalidRecordError("bad", [vb.Failure(ids.index("r0003"), "r0003", "too long")])
        return original(collection, data, **arguments)

    monkeypatch.setattr(vb.Collection, "upsert", upsert)
    with monkeypatch.context() as patch:
        reads = Reads(patch, source)
        plan = vb.plan(source, target)
        reads.ids.clear()
        reads.fail_after, reads.error = 20, vb.CursorExpiredError("compacted")
        report = vb.migrate(source, target, plan=plan, journal=journal, dead_letters=bad)
    assert (report.written, report.failed) == (39, 1)
    assert len(bad.read_text("utf-8").splitlines()) == 1


@pytest.mark.parametrize(("number", "error"), [(28, vb.StorageFullError), (5, vb.JournalError)])
def test_a_disk_that_fails_under_the_journal_ends_the_copy_and_it_goes_on_later(
    journal: Path, number: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = memory(), memory()
    before = fill(source, 90)
    sync, calls = os.fsync, []

    def failing(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 6:
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(error):
        vb.migrate(source, target, journal=journal)
    monkeypatch.undo()
    with small_pages():
        report = vb.migrate(source, target, journal=journal)
    assert 0 < report.resumed < 90
    assert contents(target) == before


# ---------------------------------------------------------------------------------------------- state


def entries_of(url: str, key: bytes) -> dict[int, int]:
    store_url, _, name = url.partition("#")
    found: dict[int, int] = {}
    with vb.connect(store_url) as store:
        for namespace in store.namespaces(name):
            for page in store.open(name, namespace=namespace).scan():
                made = ledger.entries(page.batch, namespace, key=key)
                found |= dict(zip(made["key"].tolist(), made["digest"].tolist(), strict=True))
    return found


def test_the_state_holds_what_the_target_holds_also_of_a_copy_that_was_cut_off(
    journal: Path, tmp_path: Path
) -> None:
    source, target, state = memory(), memory(), tmp_path / "photos.sync"
    fill(source, 60, namespaces=("", "eu"))
    interrupted(source, target, 50, journal=journal, state=state)
    assert not state.exists()
    with pytest.raises(vb.JournalError, match="begun with state"):
        vb.migrate(source, target, journal=journal)
    report, _ = resumed(source, target, journal=journal, state=state)
    assert 0 < report.resumed < 120
    read = State.read(state)
    assert read.header.plan.digest() == report.plan.digest()
    entries = dict(zip(read.entries["key"].tolist(), read.entries["digest"].tolist(), strict=True))
    assert entries == entries_of(target, read.header.key)
    assert {path.name for path in tmp_path.iterdir()} == {"run.journal", "photos.sync"}


def test_a_row_is_in_the_state_before_it_can_be_at_the_target(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, state = memory(), memory(), tmp_path / "photos.sync"
    fill(source, 30)
    write, noted_before = MemoryCollection.write, []

    def checked(collection: Any, part: Any, deadline: Any) -> Any:
        line, _, data = partial_path(state).read_bytes().partition(b"\n")
        key = StateHeader.from_bytes(line, state).key
        sent = ledger.keys(pa.array([record["id"] for record in part.payload]), "", key=key)
        noted_before.append(np.isin(sent, np.frombuffer(data, ledger.ENTRY)["key"]).all())
        return write(collection, part, deadline)

    monkeypatch.setattr(MemoryCollection, "write", checked)
    vb.migrate(source, target, journal=journal, state=state)
    assert len(noted_before) > 1
    assert all(noted_before)


def test_a_copy_that_was_cut_off_between_its_state_and_its_journal_is_finished(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, state = memory(), memory(), tmp_path / "photos.sync"
    fill(source, 30)

    def crash(journal: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(copyrun.CopyJournal, "finish", crash)
        with pytest.raises(KeyboardInterrupt):
            vb.migrate(source, target, journal=journal, state=state)
    before = state.read_bytes()
    assert vb.migrate(source, target, journal=journal, state=state).written == 30
    assert state.read_bytes() == before


def test_a_state_file_that_is_there_is_not_replaced_and_nothing_is_made(tmp_path: Path) -> None:
    source, target, state = memory(), memory(), tmp_path / "photos.sync"
    fill(source, 5)
    state.write_bytes(b"mine")
    with pytest.raises(vb.ConfigError, match="exists: name another state file"):
        vb.migrate(source, target, state=state)
    assert not exists(target)
    assert state.read_bytes() == b"mine"


# ---------------------------------------------------------------------------------------------- kill


def copy(source: str, target: str, folder: Path) -> None:
    """What a child does that is killed."""
    with small_pages(40):
        vb.migrate(source, target, allow=["index"], journal=folder / "run.journal", state=folder / "state")


def kill_after(process: Any, journal: Path, pages: int, seconds: float) -> bool:
    """Kills it some moment after so many pages are noted; whether it had not ended."""
    while process.is_alive() and (not journal.exists() or journal.read_bytes().count(b'"cursor"') < pages):
        time.sleep(0.002)
    time.sleep(seconds)
    process.kill()
    process.join()
    return bool(process.exitcode == -signal.SIGKILL)


@pytest.mark.parametrize(("kind", "kills", "rows"), [("faiss", 4, 2_400), ("milvus-lite", 2, 1_600)])
def test_after_kill_9_at_any_moment_the_same_call_again_ends_with_identical_rows(
    kind: str, kills: int, rows: int, tmp_path: Path
) -> None:
    place = {case.id: case for case in CASES}[kind]
    if (missing := place.missing()) is not None:
        pytest.skip(missing)
    (tmp_path / "b").mkdir()
    source, target = f"faiss://{tmp_path}/a#photos", f"{place.url(tmp_path / 'b')}#photos"
    before = fill(source, rows // 2, namespaces=("", "eu"))
    journal, chance, killed = tmp_path / "run.journal", random.Random(kind), 0
    for number in range(kills):
        process = CHILDREN.Process(target=copy, args=(source, target, tmp_path))
        process.start()
        killed += kill_after(process, journal, number * rows // 40 // kills, chance.uniform(0, 0.05))
    assert killed == kills
    noted = pages_noted(journal)
    assert 0 < noted < rows
    with small_pages(40):
        report, again = resumed(source, target, allow=["index"], journal=journal, state=tmp_path / "state")
    assert (report.resumed, report.rows, report.written) == (noted, rows, rows)
    assert len(again) == rows - noted
    assert contents(target) == before
    read = State.read(tmp_path / "state")
    entries = dict(zip(read.entries["key"].tolist(), read.entries["digest"].tolist(), strict=True))
    assert entries == entries_of(target, read.header.key)
