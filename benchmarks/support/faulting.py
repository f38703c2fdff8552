"""Bulk writes through faults: requests that fail at random, and a backend that is slow for a while."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle

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
USUAL = 0.2  # seconds of a request, so that neither side's processor is the limit
PHASES = ((15.0, USUAL), (20.0, 10 * USUAL), (20.0, USUAL))  # how long, and seconds of a request
FAULT = {"status": 503, "operations": ["upsert"], "share": SHARE}


def faults(bench: BulkBench) -> list[Line]:
    """On an emulator with 20 ms of latency, over REST."""
    batches = _batches(REQUESTS)
    with pinecone.emulated() as server:
        return [_failing(bench, server, batches), *_slow(bench, server, batches[:1_000])]


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
    """For a time each request takes ten times as long; the rate before, meanwhile and afterwards."""
    rates = [_rates_of_phases(server, batches) for _ in range(bench.rounds)]
    before, during, after = (Samples(tuple(each)) for each in zip(*rates, strict=True))
    bench.details["requests_per_s: before, while slow, afterwards"] = rates
    what = f"requests of {10 * USUAL:g} s instead of {USUAL:g} s for {PHASES[1][0]:g} s"
    target = Target("ratio", ">=", 0.9)
    return [
        paired("faults", f"{what}: afterwards", "requests/s", after, before, "before", target),
        paired("faults", f"{what}: meanwhile", "requests/s", during, before, "before"),
    ]


def _rates_of_phases(server: Served, batches: Sequence[pa.RecordBatch]) -> list[float]:
    """Requests a second in the second half of each phase; the first half is left to finding their number."""
    settled: list[tuple[float, int]] = []
    begun = [0.0]

    def source() -> Iterator[pa.RecordBatch]:
        """The same records again and again, for as long as the phases take."""
        again = cycle(batches)
        for seconds, delay in PHASES:
            server.heal()
            server.order({"delay": delay - pinecone.LATENCY, "operations": ["upsert"]})
            begun.append(time.perf_counter())
            while time.perf_counter() < begun[-1] + seconds:
                yield next(again)

    def note(progress: Progress) -> None:
        settled.append((time.perf_counter(), progress.done // ROWS))

    with server.collection("rest", DIM) as collection:
        vb.write(collection, source(), progress=note)
        server.heal()
        collection.flush()
        require(collection.count(), len(batches) * ROWS, "stored")
    return [
        _rate(settled, start + seconds / 2, start + seconds)
        for start, (seconds, _) in zip(begun[1:], PHASES, strict=True)
    ]


def _rate(settled: Sequence[tuple[float, int]], first: float, last: float) -> float:
    """Requests a second that were settled between two moments."""
    some = [(at, count) for at, count in settled if first <= at <= last]
    return (some[-1][1] - some[0][1]) / (some[-1][0] - some[0][0])
