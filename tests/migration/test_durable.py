"""What a copy has noted is on the disk: its journal, its state and the names of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from tests.disk import Disk
from tests.migration.copies import fill, journal_lines, memory, pages_noted, small_pages
from vecbridge.collection import Collection
from vecbridge.migration.ledger import ENTRY
from vecbridge.migration.statefile import State, StateWriter, partial_path


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_the_journal_of_a_copy_is_on_the_disk_before_a_page_is_reported(tmp_path: Path, disk: Disk) -> None:
    source, target, journal = memory(), memory(), tmp_path / "move.journal"
    fill(source, 50)
    told: list[int] = []

    def progress(copied: Any) -> None:
        assert disk.keeps(journal)
        assert pages_noted(journal) == copied.rows
        told.append(copied.rows)

    with small_pages(10):
        vb.migrate(source, target, journal=journal, progress=progress)
    assert told == [10, 20, 30, 40, 50]
    assert "finished" in journal_lines(journal)[-1]
    assert disk.keeps(journal)
    assert disk.hasty == []


def test_a_row_is_in_the_state_and_on_the_disk_before_it_can_be_at_the_target(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = memory(), memory()
    journal, state = tmp_path / "move.journal", tmp_path / "move.sync"
    fill(source, 50)
    partial, upsert, sent = partial_path(state), Collection.upsert, 0

    def upserts(self: Collection, data: Any, **options: Any) -> vb.WriteReport:
        nonlocal sent
        sent += len(data.batch)
        header = len(partial.read_bytes().splitlines()[0])
        assert disk.kept_bytes(partial) > header + sent * ENTRY.itemsize
        assert disk.kept_bytes(journal) >= len(journal.read_bytes().splitlines()[0])
        return upsert(self, data, **options)

    monkeypatch.setattr(Collection, "upsert", upserts)
    with small_pages(10):
        vb.migrate(source, target, journal=journal, state=state)
    assert sent == 50
    assert len(State.read(state).entries) == 50
    assert disk.keeps(state)
    assert not partial.exists()
    assert disk.hasty == []


def test_a_state_is_replaced_by_a_synced_one_after_each_sync(tmp_path: Path, disk: Disk) -> None:
    source, target = memory(), memory()
    journal, state = tmp_path / "move.journal", tmp_path / "move.sync"
    fill(source, 20)
    vb.migrate(source, target, journal=journal, state=state)
    fill(source, 30, first=10)
    vb.sync(source, target, state=state)
    assert len(State.read(state).entries) == 40
    assert disk.keeps(state)
    assert disk.hasty == []


def test_rows_that_are_marked_again_are_synced(tmp_path: Path, disk: Disk) -> None:
    from tests.migration.test_statefile import HEADER

    state = tmp_path / "state"
    with StateWriter(state, HEADER) as writer:
        writer.add(np.array([(1, 1), (2, 2)], ENTRY))
        writer.resume(1)
        assert disk.keeps(partial_path(state))
