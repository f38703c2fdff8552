"""The state file of a sync: written whole or not at all, checked when it is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vecbridge as vb
from vecbridge.errors import JournalError
from vecbridge.migration.ledger import ENTRY, Ledger
from vecbridge.migration.plans import Column, Plan
from vecbridge.migration.statefile import State, StateHeader, StateWriter, unsettled, write_state

SPEC = vb.CollectionSpec.single("photos", dim=2, fields={"year": "int64"})
PLAN = Plan(
    "memory:///a#photos", "memory:///b#photos", SPEC, "1", SPEC,
    (Column("vector", "vector"), Column("year", "year")),
)  # fmt: skip
HEADER = StateHeader(PLAN, "1", "2")


def rows(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(list(pairs), ENTRY)


def write(path: Path, entries: np.ndarray, header: StateHeader = HEADER) -> Path:
    ledger = Ledger(path.with_name("ledger"))
    ledger.add(entries)
    write_state(path, header, ledger)
    return path


def test_a_state_is_read_as_it_was_written_sorted_and_with_each_key_once(tmp_path: Path) -> None:
    path = write(tmp_path / "state", rows((2**63, 5), (1, 1), (7, 2), (1, 3)))
    state = State.read(path)
    assert state.header == HEADER
    assert state.header.key == HEADER.key
    assert state.entries.tolist() == [(1, 3), (7, 2), (2**63, 5)]
    assert not path.with_name("state.new").exists()
    assert len(State.read(write(tmp_path / "empty" / "state", rows())).entries) == 0


def test_a_state_that_is_damaged_at_any_place_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "state", rows(*((number, 1) for number in range(50))))
    whole = path.read_bytes()
    places = [0, 30, 900, len(whole) - 60, len(whole) - 48, len(whole) - 40, len(whole) - 1]
    damaged = [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in places]
    for data in [*damaged, b"", whole[:-1], whole[:-16], whole[: len(whole) // 2], whole + b"x", whole * 2]:
        path.write_bytes(data)
        with pytest.raises(JournalError, match="state"):
            State.read(path)
    path.write_bytes(whole.replace(b'"vecbridge_state":1', b'"vecbridge_state":2'))
    with pytest.raises(JournalError, match="format 2"):
        State.read(path)


def test_a_state_of_another_migration_is_refused_by_what_differs(tmp_path: Path) -> None:
    others = {
        "source 'memory:///x#photos'": replace(HEADER, plan=replace(PLAN, source="memory:///x#photos")),
        "target 'memory:///x#photos'": replace(HEADER, plan=replace(PLAN, target="memory:///x#photos")),
        "source identity '9'": replace(HEADER, source_identity="9"),
        "target identity '9'": replace(HEADER, target_identity="9"),
        "plan '": replace(HEADER, plan=replace(PLAN, id_template="{id}")),
    }
    for difference, other in others.items():
        with pytest.raises(JournalError, match=f"it has .*{difference}"):
            other.require_same(HEADER, tmp_path)
    replace(HEADER, key=bytes(16), created="").require_same(HEADER, tmp_path)


def test_a_copy_that_was_cut_off_goes_on_with_its_hash_key_and_the_last_entry_of_a_key_counts(
    tmp_path: Path,
) -> None:
    path = tmp_path / "new" / "state"
    with StateWriter(path, HEADER) as writer:
        assert writer.add(rows((1, 1), (2, 2))) == 2
        with pytest.raises(JournalError, match="another run"):
            StateWriter(path, HEADER)
    with path.with_name("state.partial").open("ab") as file:
        file.write(b"torn")
    with StateWriter(path, StateHeader(PLAN, "1", "2")) as writer:
        assert (writer.key, writer.position) == (HEADER.key, 2)
        writer.add(rows((1, 9)))
        assert writer.finish() == 2
    assert [each.name for each in path.parent.iterdir()] == ["state"]
    state = State.read(path)
    assert state.header.key == HEADER.key
    assert state.entries.tolist() == [(1, 9), (2, 2)]


def test_rows_behind_the_position_of_the_copys_journal_are_kept_and_will_be_sent_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state"
    with StateWriter(path, HEADER) as writer:
        position = writer.add(rows((1, 1)))
        writer.add(rows((2, 2), (3, 3)))
    for _ in range(2):
        with StateWriter(path, HEADER) as writer:
            writer.resume(position)
            with pytest.raises(JournalError, match="has 3 rows; the journal of the copy counts 4"):
                writer.resume(4)
    with StateWriter(path, HEADER) as writer:
        writer.add(rows((3, 4)))
        writer.finish()
    assert State.read(path).entries.tolist() == [(1, 1), (2, 0), (3, 4)]
    assert unsettled(rows((2, 7))).tolist() == [(2, 0)]


def test_a_partial_state_of_another_copy_is_refused(tmp_path: Path) -> None:
    StateWriter(tmp_path / "state", HEADER).close()
    with pytest.raises(JournalError, match="target identity '2', not '3'"):
        StateWriter(tmp_path / "state", replace(HEADER, target_identity="3"))
