"""Durable writes beside a raw write and LanceDB at its best; loading an HNSW index beside raw FAISS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import BTree

import vecbridge as vb
from support.bench import Bench, raw_hnsw
from support.harness import Line, Samples, Target, compared, in_turns, seconds

Times = list[float]  # seconds of each batch
ROW_COUNTS = (1_000, 10_000)
REPLACED = 1_000


@dataclass(frozen=True, slots=True)
class Form:
    """A way to use merge_insert: an index on the ids or none, brought up to date after so many batches."""

    index: bool = False
    optimize_every: int = 0


FORMS = {
    "no index": Form(),
    "an index on id": Form(index=True),
    "an index on id, optimize() after ten batches": Form(index=True, optimize_every=10),
}


def durable_writes(bench: Bench) -> list[Line]:
    """Upserts that are on the disk when they return, in batches of 1,000 and of 10,000."""
    lines = []
    for rows in ROW_COUNTS:
        batches = bench.batches(rows)
        ways: dict[str, Callable[[Bench, list[pa.RecordBatch]], Times]] = {
            "raw": _raw,
            "vecbridge": _vecbridge,
            "add": _lance_add,
        }
        ways |= {f"merge {name}": partial(_lance_merge, form=form) for name, form in FORMS.items()}
        for write in ways.values():
            write(bench, batches[:1])  # imports, thread pools
        actions = {name: partial(write, bench, batches) for name, write in ways.items()}
        lines += _judged(bench, rows, in_turns(actions, bench.rounds))
    return [*lines, _replaced(bench)]


def _judged(bench: Bench, size: int, times: dict[str, list[Times]]) -> list[Line]:
    whole = {name: Samples(tuple(sum(each) for each in runs)) for name, runs in times.items()}
    rates = {name: _rates(runs, bench.rows) for name, runs in times.items()}
    what = f"durable upsert, batches of {size:,}"
    best = max(FORMS, key=lambda name: rates[f"merge {name}"].median)
    bench.details[f"merge_insert_rows_per_s, batches of {size:,}"] = {
        name: round(rates[f"merge {name}"].median) for name in FORMS
    }
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
            "write", what, "rows/s", rates["vecbridge"], rates[f"merge {best}"],
            f"LanceDB merge_insert, {best}, no fsync", Target("ratio", ">=", 3),
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


def _lance_merge(bench: Bench, batches: list[pa.RecordBatch], form: Form) -> Times:
    with bench.directory() as path:
        table = _lance_table(path, batches[0].schema)
        if form.index:
            table.create_index("id", config=BTree())
        merged = 0

        def merge(batch: pa.RecordBatch) -> None:
            nonlocal merged
            _merge(table, batch)
            merged += 1
            if form.optimize_every and merged % form.optimize_every == 0:
                table.optimize()

        times = _timed(batches, merge)
        _require(table.count_rows(), batches)
        return times


def _merge(table: Any, batch: pa.RecordBatch) -> None:
    table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(batch)


def _replaced(bench: Bench) -> Line:
    """A tenth of the rows are written again, drawn at random; LanceDB has indexed all ids before."""
    rows = pa.Table.from_batches(bench.chunks)
    chosen = np.random.default_rng(0).permutation(bench.rows)[: bench.rows // 10]
    batches = [
        rows.take(pa.array(chosen[start : start + REPLACED])).combine_chunks().to_batches()[0]
        for start in range(0, len(chosen), REPLACED)
    ]
    with bench.directory() as path, vb.connect(f"faiss://{path}/own") as store:
        collection = store.create(bench.spec)
        table = _lance_table(path / "lance", rows.schema)
        for chunk in bench.chunks:
            collection.upsert(chunk)
            table.add(chunk)
        table.create_index("id", config=BTree())
        times = in_turns(
            {
                "own": partial(_timed, batches, collection.upsert),
                "lance": partial(_timed, batches, partial(_merge, table)),
            },
            bench.rounds,
        )
        _require(collection.count(), bench.chunks)
        _require(table.count_rows(), bench.chunks)
    own, lance = (_rates(times[name], len(chosen)) for name in ("own", "lance"))
    return compared(
        "write", f"replaced rows, durable, batches of {REPLACED:,}", "rows/s", own, lance,
        "LanceDB merge_insert, ids indexed, no fsync", Target("ratio", ">=", 1),
    )  # fmt: skip


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
