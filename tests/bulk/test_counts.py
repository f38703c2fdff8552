"""read = written + failed + duplicates + skipped: in the report, in the journal, on every backend."""

from __future__ import annotations

import errno
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vecbridge as vb
from tests.bulk.faults import Faulty, ids, rows
from vecbridge.bulk import Progress, repeats
from vecbridge.bulk.repeats import WrittenIds
from vecbridge.errors import BackendError
from vecbridge.sources.deadletters import DeadLetter, OnDeadLetter
from vecbridge.testing.cases import CASES, StoreCase

BACKENDS = [case for case in CASES if case.id in ("memory", "faiss", "snapshot", "milvus-lite", "pinecone")]


def keyed(keys: list[str]) -> pa.RecordBatch:
    """A batch of rows with these ids; "" is a bad one."""
    return rows(0, len(keys)).set_column(0, "id", pa.array(keys, pa.string()))


def refuse_r(call: int, batch: pa.RecordBatch) -> None:
    """A store that does not like the id "r"."""
    if "r" in ids(batch):
        raise BackendError("400")


def expected(batches: list[list[str]]) -> tuple[int, int, int]:
    """Written, failed and duplicates: one row of each id is written, the others are repeats of it."""
    every = [key for batch in batches for key in batch]
    good = [key for key in every if key not in ("", "r")]
    # of "r" in one batch, the last alone is sent and refused: those before were replaced by it
    refused = sum("r" in batch for batch in batches)
    replaced = every.count("r") - refused
    written = len(set(good))
    return written, every.count("") + refused, len(good) - written + replaced


@given(
    batches=st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "", "r"]), max_size=6), max_size=6),
    workers=st.sampled_from([1, 4]),
    split=st.sampled_from([2, 1000]),
)
def test_every_row_counts_once(batches: list[list[str]], workers: int, split: int) -> None:
    seen: list[Progress] = []
    photos = Faulty(before=refuse_r, parallel_requests=workers, request_rows=split)
    report = vb.write(photos, map(keyed, batches), workers=workers, progress=seen.append)
    assert (report.written, report.failed, report.duplicates) == expected(batches)
    assert report.written + report.failed + report.duplicates == sum(map(len, batches))
    assert seen[-1].rows == seen[-1].done == sum(map(len, batches))
    assert report.written == photos.inner.count()


@given(
    batches=st.lists(
        st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=4), min_size=1, max_size=5
    ),
    cut=st.integers(0, 5),
)
def test_a_continued_run_counts_the_same(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[str]], cut: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "run.journal"
    photos = Faulty()

    def cut_off() -> Iterator[pa.RecordBatch]:
        yield from map(keyed, batches[:cut])
        raise OSError("the source went away")

    with pytest.raises(OSError, match="went away"):
        vb.write(photos, cut_off(), journal=path)
    report = vb.write(photos, map(keyed, batches), journal=path)
    assert (report.written, report.failed, report.duplicates) == expected(batches)
    entries = [line for line in map(json.loads, path.read_text().splitlines()) if "batch" in line]
    assert len(entries) == len(batches)
    for entry in entries:
        parts = ("written", "failed", "duplicates", "skipped")
        assert entry["rows"] == sum(entry[part] for part in parts)


@pytest.mark.parametrize("policy", ["skip", "error"])
def test_rows_that_are_there_are_not_duplicates_too(policy: Any) -> None:
    batches = [["a", "b", "a"], ["b", "c"], ["", "c", "d"]]
    seen: list[Progress] = []
    report = vb.write(Faulty(), map(keyed, batches), on_conflict=policy, progress=seen.append)
    there = {"skip": report.skipped, "error": report.failed - 1}
    assert (report.written, report.duplicates, there[policy]) == (4, 1, 2)
    assert seen[-1].rows == seen[-1].done == 8


@pytest.mark.parametrize("case", BACKENDS, ids=lambda case: case.label)
@pytest.mark.parametrize("id_type", ["string", "int64"])
def test_the_equation_holds_on_each_backend(case: StoreCase, id_type: Any, tmp_path: Path) -> None:
    if (absent := case.missing()) is not None:
        pytest.skip(absent)
    # within a batch, in the next one, and in a later one with a bad row before it
    keys = [["1", "1", "2"], ["2", "3"], ["4", "1", "5", "5"]]
    spec = vb.CollectionSpec.single("counted", dim=2, id_type=id_type)

    def batch(of: list[str]) -> list[dict[str, Any]]:
        typed = of if id_type == "string" else list(map(int, of))
        return [{"id": key, "vector": [1, place]} for place, key in enumerate(typed)]

    batches = [*map(batch, keys), [{"id": batch(["6"])[0]["id"], "vector": [0, 0]}]]
    with vb.connect(case.url(tmp_path), **case.options) as store:
        if "counted" in store.collections():
            store.drop("counted")
        with store.create(spec) as photos:
            report = vb.write(photos, batches, workers=4)
            photos.flush()
            assert (report.written, report.failed, report.duplicates) == (5, 1, 4)
            assert photos.count() == report.written
        store.drop("counted")


def test_what_the_source_could_not_read_counts_as_failed_and_once(tmp_path: Path) -> None:
    def read(on_dead_letter: OnDeadLetter) -> Iterator[pa.RecordBatch]:
        for number in range(3):
            on_dead_letter(DeadLetter(None, f"rows.jsonl:{number}", "no JSON"))
            yield keyed(["a", "b", ""])
        on_dead_letter(DeadLetter(None, "rows.jsonl:9", "no JSON"))

    seen: list[Progress] = []
    path = tmp_path / "bad.jsonl"
    report = vb.write(Faulty(), read, dead_letters=path, progress=seen.append)
    assert (report.written, report.failed, report.duplicates) == (2, 7, 4)
    assert seen[-1].rows == seen[-1].done == 13
    assert len(path.read_text().splitlines()) == 7


@pytest.mark.parametrize("limit", [0, 1, 2, 5, 8])
def test_the_limit_is_one_for_the_source_and_the_store(limit: int) -> None:
    def read(on_dead_letter: OnDeadLetter) -> Iterator[pa.RecordBatch]:
        for key in "rst":
            on_dead_letter(DeadLetter(None, "rows.jsonl", "no JSON"))
            yield keyed(["r", key.upper(), ""])

    photos = Faulty(before=refuse_r)
    with pytest.raises(vb.PartialWriteError) as raised:
        vb.write(photos, read, max_failures=limit)
    assert raised.value.report.failed > limit
    assert vb.write(Faulty(before=refuse_r), read, max_failures=9).failed == 9  # as many as there are


_PARTS = st.lists(st.lists(st.integers(0, 40), unique=True, max_size=20), max_size=12)


@given(_PARTS, st.booleans())
def test_ids_are_remembered_exactly(parts: list[list[int]], numbers: bool) -> None:
    written, model = WrittenIds(), set[int]()
    for part in parts:
        array = pa.array(part, pa.int64()) if numbers else pa.array(map(str, part), pa.string())
        assert written.add(array) == len(model & set(part))
        model |= set(part)


@pytest.mark.parametrize("disk", ["room", "full"])
@given(parts=_PARTS)
def test_many_ids_are_remembered_in_files(disk: str, parts: list[list[int]]) -> None:
    written, model = WrittenIds(), set[int]()
    full = mock.patch.object(repeats.tempfile, "TemporaryFile", side_effect=OSError(errno.ENOSPC, "full"))
    with (
        mock.patch.object(repeats, "_IN_MEMORY", 8),
        mock.patch.object(repeats, "_PART", 3),
        full if disk == "full" else nullcontext(),
    ):
        for part in parts:
            assert written.add(pa.array(part, pa.int64())) == len(model & set(part))
            model |= set(part)


def test_memory_does_not_grow_with_the_ids() -> None:
    written = WrittenIds()
    random = np.random.default_rng(0)
    numbers, again = random.permutation(1_000_000), random.permutation(1_000_000)[:5_000]
    tracemalloc.start()
    try:
        for part in np.split(numbers, 1_000):
            assert written.add(pa.array(part)) == 0
        assert written.add(pa.array(again)) == 5_000
        _, highest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert highest < 4 * 2**20  # of 8 million bytes of hashes
