"""What the benchmarks of servers share: a store with the records, a query at a time, recall over a knob."""

from __future__ import annotations

import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

import vecbridge as vb
from support import data
from support.bench import exact_top
from support.harness import Line, Samples, Target, in_turns, seconds
from vecbridge.indexes import IndexParams
from vecbridge.query import FloatArray
from vecbridge.store import Collection

K = 10
QUERIES = 200
EFS = (10, 16, 32, 64, 128, 256, 512)
READY_SECONDS = 600
RECALL = Target("figure", ">=", 0.95)


class ServerBench:
    """A server, and the records.

    Args:
        url: The server.
        rows: Records.
        dim: Their vectors' dimension.
        rounds: Repetitions.

    Attributes:
        details: What goes into the JSON beside the lines.
        version: The server's; set by who connects to it.
    """

    version: str

    def __init__(self, url: str, rows: int, dim: int, rounds: int) -> None:
        self.rows, self.dim, self.rounds = rows, dim, rounds
        self.details: dict[str, Any] = {}
        self.mixture = data.Mixture(dim)
        self.store = vb.connect(url, timeout=120)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the store."""
        self.store.close()

    @property
    def parameters(self) -> dict[str, Any]:
        """What a reader needs to repeat the run."""
        return {
            "rows": self.rows, "dim": self.dim, "rounds": self.rounds, "k": K, "queries": QUERIES,
            "data": self.mixture.parameters,
        }  # fmt: skip

    @cached_property
    def batches(self) -> list[pa.RecordBatch]:
        return list(data.chunks(data.spec("bench", self.dim, vb.HNSW(16, 200)), self.mixture, self.rows))

    @cached_property
    def vectors(self) -> FloatArray:
        return np.concatenate([vb.vectors(batch) for batch in self.batches])

    @cached_property
    def queries(self) -> FloatArray:
        return self.mixture.queries(QUERIES)

    @cached_property
    def best(self) -> list[list[int]]:
        """For each query the rows of the nearest, by brute force."""
        rows: list[list[int]] = exact_top(self.vectors, self.queries, K).tolist()
        return rows

    @contextmanager
    def collection(self, index: IndexParams) -> Iterator[Collection]:
        """A collection of its own, dropped afterwards."""
        spec = data.spec(f"bench_{uuid.uuid4().hex[:12]}", self.dim, index)
        collection = self.store.create(spec)
        try:
            yield collection
        finally:
            self.store.drop(spec.name)

    @contextmanager
    def filled(self, index: IndexParams) -> Iterator[Collection]:
        """A collection with all records, its index ready."""
        with self.collection(index) as collection:
            self.write(collection)
            collection.wait_ready(READY_SECONDS)
            yield collection

    def write(self, collection: Collection) -> None:
        """All records, as vecbridge writes them."""
        report = vb.write(collection, self.batches)
        if report.failed:
            raise RuntimeError(f"{report.failed} rows failed")

    def seconds_of(self, index: IndexParams, write: Callable[[Collection], object]) -> float:
        """How long all records take to a fresh collection."""
        with self.collection(index) as collection:
            taken = seconds(partial(write, collection))
            collection.flush()
            require(collection.count(), self.rows, "written")
        return taken

    def rates(self, times: Sequence[float]) -> Samples:
        """Records a second, of the seconds that all of them took."""
        return Samples(tuple(self.rows / each for each in times))

    def scanned(self, collection: Collection) -> float:
        """How long a scan of every column takes."""
        rows: list[int] = []
        taken = seconds(lambda: rows.extend(page.batch.num_rows for page in collection.scan()))
        require(sum(rows), self.rows, "scanned")
        return taken


def tests_of(store: str) -> Any:
    """How the tests of a store start its server."""
    root = str(Path(__file__).parents[2])
    if root not in sys.path:
        sys.path.insert(0, root)
    return import_module(f"tests.stores.{store}.server")


def require(found: int, rows: int, what: str) -> None:
    """Refuses to time what is not the whole of it."""
    if found != rows:
        raise RuntimeError(f"{found} rows of {rows} were {what}")


def in_pairs(own: Sequence[Callable[[], object]], raw: Sequence[Callable[[], object]]) -> dict[str, Samples]:
    """Microseconds of one query at a time, each asked twice by both, in turns."""
    times = [
        in_turns({"own": partial(seconds, mine), "raw": partial(seconds, theirs)}, 2)
        for mine, theirs in zip(own, raw, strict=True)
    ]
    return {key: Samples(tuple(1e6 * statistics.mean(each[key]) for each in times)) for key in ("own", "raw")}


def allowed_overhead(raw: Samples) -> Target:
    """A tenth of what the raw client takes, or 100 µs where that is more."""
    return Target("difference", "<=", round(max(100.0, 0.1 * raw.median)))


@dataclass(frozen=True, slots=True)
class Point:
    """Recall at 10, and the median milliseconds of a query."""

    recall: float
    p50_ms: float


def recalled(bench: ServerBench, collection: Collection, **knobs: Any) -> Point:
    """Every query once, beside exact search.

    Args:
        bench: The records and the queries.
        collection: Filled.
        **knobs: Of the query, such as ``ef``.
    """
    times, shared = [], 0
    for query, true in zip(bench.queries, bench.best, strict=True):
        asked = vb.Query(query, k=K, **knobs)
        start = time.perf_counter()
        [hits] = collection.search(asked)
        times.append(time.perf_counter() - start)
        shared += len({int(str(key)[4:]) for key in hits.ids} & set(true))
    return Point(shared / sum(map(len, bench.best)), 1000 * statistics.median(times))


def recall_lines(curves: dict[str, Any]) -> list[Line]:
    """A line for each curve: recall at default knobs, beside what the widest setting finds.

    A quantizer is chosen to trade recall for memory, so that its line has no target.
    """
    lines = []
    for name, curve in curves.items():
        last = curve["points"][-1]
        against = f"the same at {curve['knob']} {last[curve['knob']]}"
        target = None if curve["quantized"] else RECALL
        found, widest = curve["default"]["recall"], last["recall"]
        lines.append(Line("recall", f"{name}, default knobs", "", found, widest, against, target))
    return lines
