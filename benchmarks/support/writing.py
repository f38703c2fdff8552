"""Durable writes beside a raw write and LanceDB, and loading an HNSW index beside raw FAISS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

import vecbridge as vb
from support.bench import Bench, raw_hnsw
from support.harness import Line, Samples, Target, compared, in_turns, seconds

Times = list[float]  # seconds of each batch
ROW_COUNTS = (1_000, 10_000)


def durable_writes(bench: Bench) -> list[Line]:
    """Upserts that are on the disk when they return, in batches of 1,000 and of 10,000."""
    lines = []
    for rows in ROW_COUNTS:
        batches = bench.batches(rows)
        for write in (_raw, _vecbridge, _lance_add, _lance_merge):
            write(bench, batches[:1])  # imports, thread pools
        actions: dict[str, Callable[[], Times]] = {
            "raw": partial(_raw, bench, batches),
            "vecbridge": partial(_vecbridge, bench, batches),
            "add": partial(_lance_add, bench, batches),
            "merge": partial(_lance_merge, bench, batches),
        }
        times = in_turns(actions, bench.rounds)
        lines += _judged(rows, times, bench.rows)
    return lines


def _judged(size: int, times: dict[str, list[Times]], total: int) -> list[Line]:
    whole = {name: Samples(tuple(sum(each) for each in runs)) for name, runs in times.items()}
    rates = {name: _rates(runs, total) for name, runs in times.items()}
    what = f"durable upsert, batches of {size:,}"
    return [
        compared(
            "write", what, "s", whole["vecbridge"], whole["raw"],
            "pwrite + fdatasync of the vectors", Target("ratio", "<=", 3),
        ),
        compared(
            "write", what, "rows/s", rates["vecbridge"], rates["add"],
            "LanceDB add, no fsync", Target("ratio", ">=", 1),
        ),
        compared(
            "write", what, "rows/s", rates["vecbridge"], rates["merge"],
            "LanceDB merge_insert, no fsync", Target("ratio", ">=", 3),
        ),
    ]  # fmt: skip


def _rates(runs: Iterable[Times], rows: int) -> Samples:
    return Samples(tuple(rows / sum(each) for each in runs))


def _timed(batches: list[pa.RecordBatch], write: Callable[[pa.RecordBatch], object]) -> Times:
    os.sync()  # what the one before left to be written is not this one's to wait for
    return [seconds(partial(write, batch)) for batch in batches]


def _raw(bench: Bench, batches: list[pa.RecordBatch]) -> Times:
    with bench.directory() as path:
        descriptor = os.open(path / "vectors.f32", os.O_WRONLY | os.O_CREAT, 0o644)
        offset = 0

        def write(batch: pa.RecordBatch) -> None:
            nonlocal offset
            left = vb.vectors(batch).data.cast("B")
            while left:
                written = os.pwrite(descriptor, left, offset)
                offset, left = offset + written, left[written:]
            os.fdatasync(descriptor)

        try:
            return _timed(batches, write)
        finally:
            os.close(descriptor)


def _vecbridge(bench: Bench, batches: list[pa.RecordBatch]) -> Times:
    with bench.directory() as path, vb.connect(f"faiss://{path}") as store:
        collection = store.create(bench.spec)
        times = _timed(batches, collection.upsert)
        _require(collection.count(), batches)
        return times


def _lance_add(bench: Bench, batches: list[pa.RecordBatch]) -> Times:
    with bench.directory() as path:
        table = _lance_table(path, batches[0].schema)
        times = _timed(batches, table.add)
        _require(table.count_rows(), batches)
        return times


def _lance_merge(bench: Bench, batches: list[pa.RecordBatch]) -> Times:
    with bench.directory() as path:
        table = _lance_table(path, batches[0].schema)

        def merge(batch: pa.RecordBatch) -> None:
            table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(batch)

        times = _timed(batches, merge)
        _require(table.count_rows(), batches)
        return times


def _lance_table(path: Path, schema: pa.Schema) -> Any:
    return lancedb.connect(path).create_table("bench", schema=schema)


def _require(count: int, batches: list[pa.RecordBatch]) -> None:
    expected = sum(batch.num_rows for batch in batches)
    if count != expected:
        raise RuntimeError(f"{count} rows were stored, not {expected}")


def index_load(bench: Bench) -> list[Line]:
    """Upsert and wait_ready() beside add() of the same matrix: vecbridge's is durable, FAISS's in memory."""

    def own() -> float:
        with bench.directory() as path, vb.connect(f"faiss://{path}") as store:
            collection = store.create(bench.spec)
            os.sync()
            start = time.perf_counter()
            for chunk in bench.chunks:
                collection.upsert(chunk)
            collection.wait_ready()
            taken = time.perf_counter() - start
            if collection.status().index != "ready":
                raise RuntimeError("the index is not ready")
            return bench.rows / taken

    def raw() -> float:
        index = raw_hnsw(bench.dim)
        return bench.rows / seconds(partial(index.add, bench.vectors))

    np.sum(bench.vectors)  # made, and in memory, before the first round
    rates = {
        name: Samples(tuple(each)) for name, each in in_turns({"raw": raw, "own": own}, bench.rounds).items()
    }
    target = Target("ratio", ">=", 0.9)
    return [
        compared("load", "HNSW load: upserts + wait_ready", "rows/s", rates["own"], rates["raw"],
                 "faiss add, in memory", target)
    ]  # fmt: skip
