"""What other tests reach by lowering a threshold, at the sizes that people meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from tests.migration.copies import journal_lines, memory, parallel
from tests.migration.test_statefile import HEADER
from vecbridge.migration import copyrun, ledger, reading, statefile
from vecbridge.migration.ledger import ENTRY, Ledger
from vecbridge.migration.statefile import UNSETTLED, State, StateWriter, write_state


def entries(count: int, *, seed: int = 0) -> np.ndarray[Any, Any]:
    """Entries with keys of their own."""
    rng = np.random.default_rng(seed)
    made = np.empty(count, ENTRY)
    made["key"] = rng.permutation(count).astype(np.uint64) * np.uint64(2**64 // count - 1)
    made["digest"] = rng.integers(1, 2**63, count)
    return made


@pytest.mark.parametrize(("rows", "parts"), [(49_999, 1), (50_000, copyrun.PARTS)])
def test_a_namespace_of_50_000_rows_is_copied_in_parts_of_pages_of_10_000(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, parts: int
) -> None:
    assert (copyrun.LARGE, reading.MAX_PAGE_ROWS) == (50_000, 10_000)
    source, target = f"faiss://{tmp_path}/a#photos", f"snapshot://{tmp_path}/b#photos"
    journal = tmp_path / "run.journal"
    spec = vb.CollectionSpec.single("photos", dim=2, metric="l2", fields={"n": "int64"}, id_type="int64")
    with vb.connect(source.partition("#")[0]) as store:
        numbers = np.arange(rows)
        vectors = np.stack([numbers, numbers * 0.5], axis=1)
        store.create(spec).upsert(vb.batch(spec, id=numbers, vector=vectors, n=numbers * 3))
    parallel(monkeypatch)
    report = vb.migrate(source, target, journal=journal, allow=["index"])
    assert (report.rows, report.written) == (rows, rows)
    lines = journal_lines(journal)
    [starts] = [line["starts"] for line in lines if "starts" in line]
    assert len(starts) == parts
    pages = [line["rows"] for line in lines if "cursor" in line]
    assert (max(pages), sum(pages)) == (10_000 // parts, rows)  # parts share the memory of one
    found = 0
    with vb.open(target) as photos:
        for page in photos.scan():
            ids = page.batch["id"].to_numpy()
            assert np.array_equal(page.batch["n"].to_numpy(), ids * 3)
            assert np.array_equal(vb.vectors(page.batch)[:, 0], ids.astype(np.float32))
            found += len(np.unique(ids))
    assert found == rows


def test_pages_of_wide_rows_are_cut_to_about_16_mb() -> None:
    assert reading.PAGE_BYTES == 16 << 20
    source, target = memory(), memory()
    store_url, _, name = source.partition("#")
    spec = vb.CollectionSpec.single(name, dim=4_096, metric="l2")
    values = np.random.default_rng(0).standard_normal((2_500, 4_096), dtype=np.float32)  # 41 MB
    with vb.connect(store_url) as store:
        store.create(spec).upsert(vb.batch(spec, id=[f"r{row}" for row in range(2_500)], vector=values))
    sizes: list[int] = []
    vb.migrate(source, target, progress=lambda copied: sizes.append(copied.rows))
    pages = np.diff([0, *sizes])
    assert pages.sum() == 2_500
    assert max(pages) * 4_096 * 4 <= 2 * reading.PAGE_BYTES
    with vb.open(target) as photos:
        assert np.array_equal(vb.vectors(photos.fetch(["r0", "r2499"])), values[[0, -1]])


def test_a_ledger_of_more_than_memory_keeps_is_spilled_and_whole(tmp_path: Path) -> None:
    assert ledger._BUFFERED == 262_144
    made, all_of_them = Ledger(tmp_path / "ledger"), entries(600_000)
    for part in np.array_split(all_of_them, 13):
        made.add(part)
    assert any((tmp_path / "ledger").iterdir()), "memory keeps 262,144 entries"
    buckets = np.concatenate([made.bucket(number) for number in range(256)])
    assert np.array_equal(buckets, np.sort(all_of_them, order=["key", "digest"]))
    state = tmp_path / "state"
    assert write_state(state, HEADER, made) == 600_000
    assert np.array_equal(State.read(state).entries, buckets)


def test_a_state_of_several_chunks_marks_all_rows_behind_a_position(tmp_path: Path) -> None:
    count, position = 200_000, 50_000
    assert count * ENTRY.itemsize > statefile._CHUNK * 2
    path, all_of_them = tmp_path / "state", entries(count)
    with StateWriter(path, HEADER) as writer:
        writer.add(all_of_them)
    with StateWriter(path, HEADER) as writer:
        writer.resume(position)
        assert writer.finish() == count
    expected = all_of_them.copy()
    expected["digest"][position:] = UNSETTLED
    assert np.array_equal(State.read(path).entries, np.sort(expected, order="key"))
