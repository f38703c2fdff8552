"""Writing and reading a snapshot, beside plain pyarrow with the same columns and compression."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import vecbridge as vb
from support.harness import Line, Samples, Target, in_turns, paired, seconds
from support.moving import NAME, WAIT_SECONDS, MovingBench
from support.servers import require
from vecbridge.stores.snapshot import layout

TIMES_LARGER = 5  # 20,000 rows take a twentieth of a second
PAGE = 10_000


def snapshots(bench: MovingBench) -> list[Line]:
    """Upserts and flush beside ParquetWriter, a scan beside iter_batches."""
    rows = TIMES_LARGER * bench.rows
    spec = bench.spec(vb.Flat())
    batches = list(bench.batches(rows))
    schema = layout.stored_schema(spec, len(spec.fields))
    stored = [layout.to_stored(batch, schema) for batch in batches]  # not in the baseline's time
    what = f"{rows:,} x {bench.dim}"
    writes: dict[str, Callable[[], float]] = {
        "upsert": partial(_written, bench, batches, one_call=False),
        "vb.write": partial(_written, bench, batches, one_call=True),
        "raw": partial(_plain, bench, spec, stored, each=False),
        "each": partial(_plain, bench, spec, stored, each=True),
    }
    in_turns(writes, 1)
    rates = _rates(in_turns(writes, bench.rounds), rows)
    good = Target("ratio", ">=", 0.8)
    plain, synced = "ParquetWriter, one fsync", "ParquetWriter, a file and fsync a batch"
    lines = [
        paired(
            "snapshot", f"upserts and flush, {what}", "rows/s", rates["upsert"], rates["raw"], plain, good
        ),
        paired("snapshot", f"vb.write and flush, {what}", "rows/s", rates["vb.write"], rates["raw"], plain),
        paired("snapshot", f"upserts and flush, {what}", "rows/s", rates["upsert"], rates["each"], synced),
    ]
    return lines + _reads(bench, spec, batches, rows, what)


def _reads(
    bench: MovingBench, spec: vb.CollectionSpec, batches: list[pa.RecordBatch], rows: int, what: str
) -> list[Line]:
    with bench.directory() as path:
        url = f"snapshot://{path}"
        with vb.connect(url) as store:
            collection = store.create(spec)
            for batch in batches:
                collection.upsert(batch)
            collection.flush(WAIT_SECONDS)
            collection.compact()
            files = sorted(path.rglob("*.parquet"))
            reads: dict[str, Callable[[], float]] = {
                "first": lambda: _opened(f"{url}#{NAME}", rows),
                "again": lambda: _scanned(collection, rows),
                "raw": lambda: _iterated(files, rows),
            }
            in_turns(reads, 1)  # so that every file is in the page cache
            times = in_turns(reads, bench.rounds)
    rates = _rates(times, rows)
    bench.details["snapshot_read_s"] = {name: Samples(tuple(each)).to_dict() for name, each in times.items()}
    plain = "ParquetFile.iter_batches"
    good = Target("ratio", ">=", 0.8)
    return [
        paired("snapshot", f"scan, {what}", "rows/s", rates["again"], rates["raw"], plain, good),
        paired("snapshot", f"open, hash and scan, {what}", "rows/s", rates["first"], rates["raw"], plain),
    ]


def _rates(times: dict[str, list[float]], rows: int) -> dict[str, Samples]:
    return {name: Samples(tuple(rows / taken for taken in each)) for name, each in times.items()}


def _written(bench: MovingBench, batches: list[pa.RecordBatch], *, one_call: bool) -> float:
    """Seconds until all rows are acknowledged and merged."""
    with bench.directory() as path, vb.connect(f"snapshot://{path}") as store:
        collection = store.create(bench.spec(vb.Flat()))

        def write() -> None:
            if one_call:
                vb.write(collection, batches)
            else:
                for batch in batches:
                    collection.upsert(batch)
            collection.flush(WAIT_SECONDS)

        os.sync()
        taken = seconds(write)
        require(collection.count(), sum(batch.num_rows for batch in batches), "written")
        return taken


def _plain(bench: MovingBench, spec: vb.CollectionSpec, stored: list[pa.RecordBatch], *, each: bool) -> float:
    """Seconds of plain pyarrow: one file of all batches, or a file of each."""
    with bench.directory() as path:

        def write() -> None:
            for number, batches in enumerate([[batch] for batch in stored] if each else [stored]):
                file = path / f"{number}.parquet"
                with pq.ParquetWriter(file, stored[0].schema, **layout.writer_options(spec)) as writer:
                    for batch in batches:
                        writer.write_batch(batch)
                _sync(file)
                _sync(path)

        os.sync()
        return seconds(write)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _opened(url: str, rows: int) -> float:
    """By a store of its own, which trusts no file before it has its hash."""
    read: list[int] = []

    def scan() -> None:
        with vb.open(url) as collection:
            read.extend(_touched(page.batch) for page in collection.scan(batch_rows=PAGE))

    taken = seconds(scan)
    require(sum(read), rows, "scanned")
    return taken


def _scanned(collection: vb.Collection, rows: int) -> float:
    read: list[int] = []
    taken = seconds(lambda: read.extend(_touched(page.batch) for page in collection.scan(batch_rows=PAGE)))
    require(sum(read), rows, "scanned")
    return taken


def _iterated(files: list[Path], rows: int) -> float:
    read: list[int] = []

    def iterate() -> None:
        for file in files:
            with pq.ParquetFile(file) as opened:
                read.extend(batch.num_rows for batch in opened.iter_batches(PAGE))

    taken = seconds(iterate)
    require(sum(read), rows, "read")
    return taken


def _touched(batch: pa.RecordBatch) -> int:
    vb.vectors(batch)[:, 0].sum()
    return int(batch.num_rows)
