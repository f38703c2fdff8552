"""Scans beside LanceDB's to_batches(), and the memory that they take."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lancedb
import numpy as np

import vecbridge as vb
from support import data
from support.bench import NAME, Bench
from support.harness import Line, Samples, Target, child, compared, in_turns
from vecbridge.store import Collection

PAGE = 10_000
TIMES_LARGER = 4
MEMORY_ROUNDS = 3


def scans(bench: Bench) -> list[Line]:
    """Every column of every row, the vectors touched."""
    with bench.directory() as path, vb.connect(f"faiss://{path}") as store:
        collection = store.create(_spec(bench))
        table = lancedb.connect(path / "lance").create_table("bench", schema=bench.chunks[0].schema)
        for chunk in bench.chunks:
            collection.upsert(chunk)
            table.add(chunk)
        raw = path / "vectors.f32"
        bench.vectors.tofile(raw)
        actions = {
            "own": lambda: _own(collection, bench.rows),
            "lance": lambda: _lance(table, bench.rows),
            "raw": lambda: _raw(raw, bench),
        }
        in_turns(actions, 1)  # so that every file is in the page cache
        rates = {name: Samples(tuple(each)) for name, each in in_turns(actions, 2 * bench.rounds).items()}
    return [
        compared("scan", "all columns", "rows/s", rates["own"], rates["lance"],
                 "LanceDB to_batches", Target("ratio", ">=", 10)),
        compared("scan", "all columns", "rows/s", rates["own"], rates["raw"],
                 "read() of the vectors alone"),
        _memory(bench),
    ]  # fmt: skip


def _own(collection: Collection, expected: int) -> float:
    start = time.perf_counter()
    rows = 0
    for page in collection.scan(batch_rows=PAGE):
        vb.vectors(page.batch)[:, 0].sum()
        rows += page.batch.num_rows
    return _rate(rows, expected, start)


def _lance(table: Any, expected: int) -> float:
    start = time.perf_counter()
    rows = 0
    for batch in table.search().to_batches(batch_size=PAGE):
        vb.vectors(batch)[:, 0].sum()
        rows += batch.num_rows
    return _rate(rows, expected, start)


def _raw(path: Path, bench: Bench) -> float:
    start = time.perf_counter()
    rows = 0
    with path.open("rb", buffering=0) as file:
        while len(page := np.fromfile(file, np.float32, PAGE * bench.dim)):
            page.reshape(-1, bench.dim)[:, 0].sum()
            rows += len(page) // bench.dim
    return _rate(rows, bench.rows, start)


def _rate(rows: int, expected: int, start: float) -> float:
    taken = time.perf_counter() - start
    if rows != expected:
        raise RuntimeError(f"{rows} rows were read, not {expected}")
    return rows / taken


def _memory(bench: Bench) -> Line:
    """How far a scan raises the memory of a fresh process, at two sizes."""
    rises = {}
    small = max(bench.rows, 3 * PAGE)  # more than a scan holds at once
    for rows in (small, TIMES_LARGER * small):
        with bench.directory() as path:
            with vb.connect(f"faiss://{path}") as store:
                collection = store.create(_spec(bench))
                for chunk in data.chunks(bench.spec, bench.mixture, rows):
                    collection.upsert(chunk)
            url = f"faiss://{path}#{NAME}"
            runs = [child("scan", url)["rise_bytes"] / 2**20 for _ in range(MEMORY_ROUNDS)]
            rises[rows] = Samples(tuple(runs))
    bench.details["scan_peak_mib"] = {rows: rise.to_dict() for rows, rise in rises.items()}
    low, high = rises.values()
    return compared("scan", f"peak memory of {TIMES_LARGER * small:,} rows", "MiB", high, low,
                    f"of {small:,} rows", Target("ratio", "<=", 1.25))  # fmt: skip


def _spec(bench: Bench) -> vb.CollectionSpec:
    """Without an index: a scan uses none."""
    return data.spec(NAME, bench.dim, vb.Flat())
