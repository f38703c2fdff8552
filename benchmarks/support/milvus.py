"""Writing to, searching and scanning a Milvus server, beside the ways that pymilvus offers."""

from __future__ import annotations

import statistics
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from importlib.metadata import version
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_milvus import Milvus
from pymilvus import MilvusClient

import vecbridge as vb
from support import data
from support.bench import exact_top
from support.harness import Line, Samples, Target, compared, in_turns, seconds
from vecbridge.indexes import IndexParams
from vecbridge.query import FloatArray
from vecbridge.store import Collection
from vecbridge.urls import parse

K = 10
QUERIES = 200
FORMS = [(rows, workers) for rows in (1_000, 5_000, 10_000) for workers in (1, 2, 4)]
PAGES = (1_000, 5_000, 10_000, 16_000)
EFS = (10, 16, 32, 64, 128, 256, 512)
NPROBES = (1, 2, 4, 8, 16, 32, 64, 128)
CURVES: dict[str, tuple[IndexParams, str, tuple[int, ...]]] = {
    "HNSW(m=16, ef_construction=200)": (vb.HNSW(16, 200), "ef", EFS),
    "IVFFlat(nlist=128)": (vb.IVFFlat(128), "nprobe", NPROBES),
    "IVFSQ8(nlist=128)": (vb.IVFSQ8(128), "nprobe", NPROBES),
}


class MilvusBench:
    """A server, its two clients, and the records.

    Args:
        url: The server.
        rows: Records.
        dim: Their vectors' dimension.
        rounds: Repetitions.
    """

    def __init__(self, url: str, rows: int, dim: int, rounds: int) -> None:
        self.rows, self.dim, self.rounds = rows, dim, rounds
        self.details: dict[str, Any] = {}
        self.mixture = data.Mixture(dim)
        self.store = vb.connect(url, timeout=120)
        parsed = parse(url)
        self.lite = parsed.scheme == "milvus+lite"
        self.store.collections()  # on lite this starts the server that the other client shares
        self.uri = parsed.path if self.lite else f"http://{parsed.host}:{parsed.port or 19530}"
        self.client = MilvusClient(self.uri)
        self.version = version("milvus-lite") if self.lite else self.client.get_server_version()

    def __enter__(self) -> MilvusBench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.store.close()

    @cached_property
    def batches(self) -> list[pa.RecordBatch]:
        return list(data.chunks(data.spec("bench", self.dim, vb.HNSW(16, 200)), self.mixture, self.rows))

    @cached_property
    def vectors(self) -> FloatArray:
        return np.concatenate([vb.vectors(batch) for batch in self.batches])

    @cached_property
    def entities(self) -> list[dict[str, Any]]:
        """The records as a hand-written loop has them: dicts, with NumPy rows."""
        found = []
        for batch, values in ((batch, vb.vectors(batch)) for batch in self.batches):
            for row, vector in zip(batch.drop_columns(["vector"]).to_pylist(), values, strict=True):
                found.append(
                    {key: value for key, value in row.items() if value is not None} | {"vector": vector}
                )
        return found

    @contextmanager
    def collection(self, index: IndexParams, dim: int | None = None) -> Iterator[Collection]:
        """A collection of its own, dropped afterwards."""
        spec = data.spec(f"bench_{uuid.uuid4().hex[:12]}", dim or self.dim, index)
        collection = self.store.create(spec)
        try:
            yield collection
        finally:
            self.store.drop(spec.name)


def writes(bench: MilvusBench) -> list[Line]:
    """Upserts of all records, in collections of the same layout; pymilvus in the best of nine forms."""
    forms = FORMS if not bench.lite else [form for form in FORMS if form[1] == 1]
    tried = {form: seconds_of(bench, partial(_loop, bench, *form)) for form in forms}
    best = min(tried, key=lambda form: tried[form])
    bench.details["pymilvus_rows_per_s"] = {
        f"{rows} rows x {workers}": round(bench.rows / taken) for (rows, workers), taken in tried.items()
    }
    actions: dict[str, Callable[[], float]] = {
        "own": partial(seconds_of, bench, partial(_own, bench)),
        "raw": partial(seconds_of, bench, partial(_loop, bench, *best)),
    }
    times = in_turns(actions, bench.rounds)
    chain = [_langchain(bench) for _ in range(bench.rounds)]
    own, raw, other = (
        Samples(tuple(bench.rows / each for each in some)) for some in (times["own"], times["raw"], chain)
    )
    what = f"upsert of {bench.rows:,} x {bench.dim}"
    form = f"MilvusClient.upsert, {best[0]:,} rows x {best[1]} workers"
    return [
        compared("write", what, "rows/s", own, raw, form, Target("ratio", ">=", 0.9)),
        compared(
            "write", what, "rows/s", own, other, "langchain-milvus add_embeddings", Target("ratio", ">=", 2)
        ),
    ]


def seconds_of(bench: MilvusBench, write: Callable[[Collection], None]) -> float:
    """Writes everything to a fresh collection."""
    with bench.collection(vb.HNSW(16, 200)) as collection:
        taken = seconds(partial(write, collection))
        collection.flush()
        if (count := collection.count()) != bench.rows:
            raise RuntimeError(f"{count} rows of {bench.rows} arrived")
    return taken


def _own(bench: MilvusBench, collection: Collection) -> None:
    report = vb.write(collection, bench.batches)
    if report.failed:
        raise RuntimeError(f"{report.failed} rows failed")


def _loop(bench: MilvusBench, rows: int, workers: int, collection: Collection) -> None:
    """What somebody writes by hand: batches of dicts, from some threads."""
    name, entities = collection.spec.name, bench.entities

    def send(start: int) -> None:
        bench.client.upsert(name, entities[start : start + rows])

    starts = range(0, len(entities), rows)
    if workers == 1:
        for start in starts:
            send(start)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(send, starts))


def _langchain(bench: MilvusBench) -> float:
    name = f"bench_{uuid.uuid4().hex[:12]}"
    store = Milvus(
        DeterministicFakeEmbedding(size=bench.dim),
        collection_name=name,
        connection_args={"uri": bench.uri},
        index_params={
            "index_type": "HNSW",
            "metric_type": "COSINE",
            "params": {"M": 16, "efConstruction": 200},
        },
        auto_id=False,
        enable_dynamic_field=True,
    )
    texts = [each.get("title", "") for each in bench.entities]
    metadatas = [{key: each[key] for key in ("year", "tags") if key in each} for each in bench.entities]
    ids = [each["id"] for each in bench.entities]
    vectors = bench.vectors.tolist()
    try:
        store.add_embeddings(texts[:1], vectors[:1], metadatas[:1], ids=ids[:1])  # makes the collection
        return seconds(partial(store.add_embeddings, texts[1:], vectors[1:], metadatas[1:], ids=ids[1:]))
    finally:
        bench.client.drop_collection(name)


def searches(bench: MilvusBench) -> list[Line]:
    """One query at a time on a collection whose index is ready, in turns with MilvusClient.search."""
    with bench.collection(vb.HNSW(16, 200)) as collection:
        _own(bench, collection)
        collection.wait_ready(300)
        name = collection.spec.name
        queries = bench.mixture.queries(QUERIES)
        params = {"metric_type": "COSINE", "params": {"ef": 64}}
        _wait_for_bounded_reads(collection)

        def raw(query: FloatArray) -> Any:
            return bench.client.search(
                name, [query], anns_field="vector", limit=K, search_params=params, consistency_level="Bounded"
            )

        def own(query: FloatArray) -> Any:
            return collection.search(vb.Query(query, k=K, ef=64))

        for query in queries[:10]:
            own(query), raw(query)
        times = [
            in_turns(
                {"own": partial(seconds, partial(own, query)), "raw": partial(seconds, partial(raw, query))},
                2,
            )
            for query in queries
        ]
        figures = {
            key: Samples(tuple(1e6 * statistics.mean(each[key]) for each in times)) for key in ("own", "raw")
        }
        best = exact_top(bench.vectors, queries, K)
        found = [[int(key[4:]) for key in own(query)[0].ids] for query in queries]
        share = sum(len(set(a) & set(b)) for a, b in zip(found, best.tolist(), strict=True)) / best.size
        allowed = max(100.0, 0.1 * figures["raw"].median)
        return [
            compared("search", "one query, p50", "µs", figures["own"], figures["raw"], "MilvusClient.search",
                     Target("difference", "<=", round(allowed))),
            Line("search", f"recall@{K}, ef=64", "", share, 1.0, "brute force"),
        ]  # fmt: skip


def _wait_for_bounded_reads(collection: Collection) -> None:
    """Searches are strong for half a minute after a flush; the raw ones here are not."""
    from vecbridge.stores.milvus import table

    if collection.capabilities.consistency != "strong":
        threading.Event().wait(table._RECENT_SECONDS + 1)


def scans(bench: MilvusBench) -> list[Line]:
    """Every column of every record, in turns with query_iterator at its best page size."""
    with bench.collection(vb.HNSW(16, 200)) as collection:
        _own(bench, collection)
        collection.flush()
        name = collection.spec.name
        tried = {size: _iterated(bench, name, size) for size in PAGES}
        best = min(tried, key=lambda size: tried[size])
        bench.details["query_iterator_rows_per_s"] = {str(k): round(bench.rows / v) for k, v in tried.items()}
        times = in_turns(
            {"own": partial(_scanned, bench, collection), "raw": partial(_iterated, bench, name, best)},
            bench.rounds,
        )
        own, raw = (Samples(tuple(bench.rows / each for each in times[key])) for key in ("own", "raw"))
        against = f"query_iterator, pages of {best:,}"
        return [compared("scan", "all columns", "rows/s", own, raw, against, Target("ratio", ">=", 0.9))]


def _scanned(bench: MilvusBench, collection: Collection) -> float:
    rows = []
    taken = seconds(lambda: rows.extend(page.batch.num_rows for page in collection.scan()))
    if sum(rows) != bench.rows:
        raise RuntimeError(f"scan: {sum(rows)} rows of {bench.rows}")
    return taken


def _iterated(bench: MilvusBench, name: str, size: int) -> float:
    found = []

    def read() -> None:
        iterator = bench.client.query_iterator(name, batch_size=size, output_fields=["*"])
        while page := iterator.next():
            found.append(len(page))
        iterator.close()

    taken = seconds(read)
    if sum(found) != bench.rows:
        raise RuntimeError(f"query_iterator: {sum(found)} rows of {bench.rows}")
    return taken


def recall(bench: MilvusBench) -> list[Line]:
    """Recall at 10 against exact search, as ef and nprobe grow, and what a query costs then."""
    queries = bench.mixture.queries(QUERIES)
    best = exact_top(bench.vectors, queries, K)
    curves = {}
    for name, (index, knob, values) in CURVES.items():
        with bench.collection(index) as collection:
            _own(bench, collection)
            collection.wait_ready(300)
            points = []
            for value in values:
                times, shared = [], 0
                for query, true in zip(queries, best.tolist(), strict=True):
                    found: list[vb.Hits] = []
                    asked = vb.Query(query, k=K, **{knob: value})
                    times.append(
                        seconds(lambda asked=asked, found=found: found.extend(collection.search(asked)))
                    )
                    shared += len({int(key[4:]) for key in found[0].ids} & set(true))
                points.append(
                    {knob: value, "recall": shared / best.size, "p50_ms": 1000 * statistics.median(times)}
                )
            curves[name] = {"knob": knob, "points": points}
    bench.details["recall"] = curves
    lines = []
    for name, curve in curves.items():
        first, last = curve["points"][0], curve["points"][-1]
        what = f"{name}, {curve['knob']} {first[curve['knob']]} to {last[curve['knob']]}"
        target = Target("figure", ">=", 0.95)
        lines.append(
            Line("recall", what, "", last["recall"], first["recall"], "recall at the narrowest", target)
        )
    return lines
