"""Scans whose consumer looks at every value, beside LanceDB's and read(); and the memory that they take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import vecbridge as vb
from support import data
from support.bench import NAME, Bench
from support.harness import Line, Samples, Target, child, compared, in_turns
from vecbridge.store import Collection

PAGE = 10_000
TIMES_LARGER = 4
MEMORY_ROUNDS = 3


def scans(bench: Bench) -> list[Line]:
    """Every value of every column of every row is read, by the same function on both sides."""
    with bench.directory() as path, vb.connect(f"faiss://{path}") as store:
        collection = store.create(_spec(bench))
        table = lancedb.connect(path / "lance").create_table("bench", schema=bench.chunks[0].schema)
        for chunk in bench.chunks:
            collection.upsert(chunk)
            table.add(chunk)
        raw = path / "raw"
        _write_raw(raw, bench.chunks)
        expected = sum_of_batches(bench.chunks)
        tried = {name: _timed(read, table, expected) for name, read in LANCE.items()}
        best = min(tried, key=lambda name: tried[name])
        bench.details["lancedb_scan_rows_per_s"] = {k: round(bench.rows / v) for k, v in tried.items()}
        actions = {
            "own": partial(_timed, _own, collection, expected),
            "lance": partial(_timed, LANCE[best], table, expected),
            "raw": partial(_timed, _raw, raw, expected),
        }
        in_turns(actions, 1)  # so that every file is in the page cache
        times = in_turns(actions, 2 * bench.rounds)
    rates = {name: Samples(tuple(bench.rows / each for each in some)) for name, some in times.items()}
    what = "all columns, every value summed"
    return [
        compared("scan", what, "rows/s", rates["own"], rates["lance"],
                 f"LanceDB {best}, the same sum", Target("ratio", ">=", 1)),
        compared("scan", what, "rows/s", rates["own"], rates["raw"],
                 "read() of the same bytes, the same sum", Target("ratio", ">=", 0.8)),
        _memory(bench),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sums:
    """What a consumer gets that looks at every value: equal for equal records in any order.

    Attributes:
        rows: How many records.
        numbers: Sum of the vectors.
        content: Sum of the bytes of all texts, and of the integers.
    """

    rows: int = 0
    numbers: float = 0.0
    content: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.rows + other.rows, self.numbers + other.numbers, self.content + other.content)


def sum_of_batches(batches: Iterable[pa.RecordBatch]) -> Sums:
    """The consumer: every value of every column is added up."""
    total = Sums()
    for batch in batches:
        numbers = float(vb.vectors(batch).sum(dtype=np.float32))
        content = sum(_content(batch.column(name)) for name in batch.schema.names if name != "vector")
        total += Sums(batch.num_rows, numbers, content)
    return total


def _content(values: pa.Array) -> int:
    """The sum of integers, or of the bytes of texts."""
    if pa.types.is_list(values.type):
        return _content(values.flatten())
    return int(_bytes(values).sum(dtype=np.uint64)) if pa.types.is_string(values.type) else _sum(values)


def _sum(integers: pa.Array) -> int:
    return int(pc.sum(integers).as_py() or 0)


def _bytes(texts: pa.Array) -> np.ndarray:
    """The bytes of texts, uint8, without a copy."""
    _, offsets, content = texts.buffers()
    if content is None:
        return np.empty(0, np.uint8)
    first, last = np.frombuffer(offsets, np.int32)[[texts.offset, texts.offset + len(texts)]]
    return np.frombuffer(content, np.uint8)[first:last]


def _own(collection: Collection) -> Sums:
    return sum_of_batches(page.batch for page in collection.scan(batch_rows=PAGE))


LANCE: dict[str, Callable[[Any], Sums]] = {
    "to_batches": lambda table: sum_of_batches(table.search().to_batches(batch_size=PAGE)),
    "to_batches, its own size": lambda table: sum_of_batches(table.search().to_batches()),
    "to_arrow": lambda table: sum_of_batches(table.to_arrow().to_batches()),
}


def _write_raw(path: Path, chunks: list[pa.RecordBatch]) -> None:
    """The same bytes in two files: float32, and what the other columns hold."""
    path.mkdir()
    with (path / "numbers").open("wb") as numbers, (path / "content").open("wb") as content:
        for chunk in chunks:
            vb.vectors(chunk).tofile(numbers)
            content.write(_bytes(chunk.column("id")))
            content.write(_bytes(chunk.column("title")))
            content.write(_bytes(chunk.column("tags").flatten()))
    years = [chunk.column("year") for chunk in chunks]
    np.save(path / "years.npy", pa.chunked_array(years).drop_null().to_numpy())
    (path / "rows").write_text(str(sum(chunk.num_rows for chunk in chunks)))


def _raw(path: Path) -> Sums:
    """The floor: reads of 20 MB into one buffer, and the same sums."""
    numbers, content = 0.0, int(np.load(path / "years.npy").sum())
    buffer = np.empty(5_000_000, np.float32)
    with (path / "numbers").open("rb", buffering=0) as file:
        while read := file.readinto(buffer):  # type: ignore[attr-defined]
            numbers += float(buffer[: read // 4].sum(dtype=np.float32))
    with (path / "content").open("rb", buffering=0) as file:
        octets = buffer.view(np.uint8)
        while read := file.readinto(octets):  # type: ignore[attr-defined]
            content += int(octets[:read].sum(dtype=np.uint64))
    return Sums(int((path / "rows").read_text()), numbers, content)


def _timed(read: Callable[[Any], Sums], source: Any, expected: Sums) -> float:
    """Seconds of one scan that saw every value."""
    start = time.perf_counter()
    found = read(source)
    taken = time.perf_counter() - start
    same = (found.rows, found.content) == (expected.rows, expected.content)
    if not same or abs(found.numbers - expected.numbers) > 1e-2 * expected.rows**0.5:
        raise RuntimeError(f"{found} was read, not {expected}")
    return taken


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
