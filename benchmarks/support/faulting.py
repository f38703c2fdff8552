"""Bulk writes through faults: requests that fail at random, and a backend that is slow for a while."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa

import vecbridge as vb
from support import data, pinecone
from support.bulk import BulkBench
from support.harness import Line, Samples, Target, in_turns, paired
from support.pinecone import Served
from support.servers import require
from vecbridge.bulk import Progress

REQUESTS = 2_000
ROWS, DIM = 10, 16  # of a request: the latency counts, not the emulator's reading
SHARE = 0.01
SLOWER = 9 * pinecone.LATENCY  # more, so that a request takes ten times as long
FAULT = {"status": 503, "operations": ["upsert"], "share": SHARE}
SLOW = {"delay": SLOWER, "operations": ["upsert"]}


def faults(bench: BulkBench) -> list[Line]:
    """On an emulator with 20 ms of latency, over REST."""
    batches = _batches(REQUESTS)
    with pinecone.emulated() as server:
        return [_failing(bench, server, batches), *_slow(bench, server, batches)]


def _batches(count: int) -> list[pa.RecordBatch]:
    drawn = data.chunks(data.spec("bench", DIM, vb.Auto()), data.Mixture(DIM), count * ROWS)
    return [chunk.slice(start, ROWS) for chunk in drawn for start in range(0, chunk.num_rows, ROWS)]


def _failing(bench: BulkBench, server: Served, batches: Sequence[pa.RecordBatch]) -> Line:
    """The same upserts with one in a hundred answered by 503, and without."""
    retried: list[int] = []

    def write(*, failing: bool) -> float:
        with server.collection("rest", DIM) as collection:
            collection.upsert(batches[0])  # opens the connections
            if failing:
                server.order(FAULT)
            begun = time.perf_counter()
            report = vb.write(collection, batches)
            taken = time.perf_counter() - begun
            server.heal()
            if failing:
                retried.append(report.retried)
            collection.flush()
            require(collection.count(), len(batches) * ROWS, "stored")
        return taken

    actions = {"faults": partial(write, failing=True), "none": partial(write, failing=False)}
    times = in_turns(actions, bench.rounds)
    bench.details["requests sent again"] = retried
    if not all(retried):
        raise RuntimeError("a run met no fault")
    failing, none = (Samples(tuple(times[each])) for each in ("faults", "none"))
    what = f"{len(batches):,} upserts, 1 % of them answered by 503, all rows stored"
    return paired("faults", what, "s", failing, none, "without faults", Target("ratio", "<=", 1.3))


def _slow(bench: BulkBench, server: Served, batches: Sequence[pa.RecordBatch]) -> list[Line]:
    """In the middle third each request takes ten times as long; the rate before, meanwhile and afterwards."""
    rates = [_rates_of_thirds(server, batches) for _ in range(bench.rounds)]
    before, during, after = (Samples(tuple(each)) for each in zip(*rates, strict=True))
    bench.details["requests_per_s: before, while slow, afterwards"] = rates
    what = f"requests of {10 * pinecone.LATENCY:g} s instead of {pinecone.LATENCY:g} s for a while"
    target = Target("ratio", ">=", 0.9)
    return [
        paired("faults", f"{what}: afterwards", "requests/s", after, before, "before", target),
        paired("faults", f"{what}: meanwhile", "requests/s", during, before, "before"),
    ]


def _rates_of_thirds(server: Served, batches: Sequence[pa.RecordBatch]) -> tuple[float, float, float]:
    third = len(batches) // 3
    settled: list[tuple[float, int]] = []

    def source() -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(batches):
            if number == third:
                server.order(SLOW)
            if number == 2 * third:
                server.heal()
            yield batch

    def note(progress: Progress) -> None:
        settled.append((time.perf_counter(), progress.written // ROWS))

    with server.collection("rest", DIM) as collection:
        collection.upsert(batches[0])
        vb.write(collection, source(), progress=note)
        collection.flush()
        require(collection.count(), len(batches) * ROWS, "stored")
    # the first half of each third is left to finding the number of requests in flight
    return (
        _rate(settled, third // 2, third - 50),
        _rate(settled, third + third // 2, 2 * third - 50),
        _rate(settled, 2 * third + third // 2, len(batches)),
    )


def _rate(settled: Sequence[tuple[float, int]], first: int, last: int) -> float:
    """Requests a second between two numbers of requests settled."""
    begun = next(at for at, count in settled if count >= first)
    ended = next(at for at, count in settled if count >= last)
    return (last - first) / (ended - begun)
