"""What a bulk write has told is on the disk: the journal, its name, and the dead letters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import vecbridge as vb
from tests.bulk.faults import Faulty, ids, sources
from tests.disk import Disk
from vecbridge.bulk.journal import Journal, Settled
from vecbridge.errors import BackendError


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_journal_is_on_the_disk_before_a_batch_is_reported_and_never_ahead_of_the_store(
    tmp_path: Path, disk: Disk
) -> None:
    journal = tmp_path / "run.journal"
    told: list[int] = []

    def send(call: int, batch: pa.RecordBatch) -> None:
        assert disk.kept_bytes(journal) >= len(journal.read_bytes().splitlines()[0]), "what run this is"
        assert sum(line.get("written", 0) for line in lines(journal)) <= len(photos.stored())

    def progress(state: Any) -> None:
        assert disk.keeps(journal)
        settled = [line for line in lines(journal) if "batch" in line]
        assert sum(line["written"] for line in settled) == state.written
        told.append(state.written)

    photos = Faulty(before=send)
    vb.write(photos, sources(5), journal=journal, progress=progress, workers=1)
    assert told[-1] == 50
    assert lines(journal)[-1] == {"finished": True}
    assert disk.keeps(journal)


def test_dead_letters_are_on_the_disk_before_the_journal_counts_them(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, letters = tmp_path / "run.journal", tmp_path / "new" / "bad.jsonl"
    letters.parent.mkdir()

    def send(call: int, batch: pa.RecordBatch) -> None:
        if bad := set(ids(batch)) & {"r3", "r14", "r15"}:
            raise BackendError(f"400: {sorted(bad)}")

    settle, counted = Journal.settle, 0
    of_batch: list[set[str]] = [{"r3"}, {"r14", "r15"}, set()]

    def settles(self: Journal, settled: Settled) -> None:
        nonlocal counted
        counted += settled.failed
        kept = letters.read_bytes()[: disk.kept_bytes(letters)]  # a worker may be writing those of the next
        assert {json.loads(line)["id"] for line in kept.splitlines()} >= of_batch[settled.batch]
        settle(self, settled)
        assert disk.keeps(journal)

    monkeypatch.setattr(Journal, "settle", settles)
    report = vb.write(Faulty(before=send), sources(3), journal=journal, dead_letters=letters)
    assert report.failed == counted == 3
