"""Writing to, searching and scanning a Milvus server, beside the ways that pymilvus offers."""

from __future__ import annotations

import statistics
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property, partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any
from unittest import mock

from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_milvus import Milvus
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2

import vecbridge as vb
from support.harness import Line, Samples, Target, compared, in_turns, seconds
from support.servers import (
    EFS,
    RECALL,
    K,
    ServerBench,
    allowed_overhead,
    in_pairs,
    recall_lines,
    recalled,
    require,
    tests_of,
)
from vecbridge.driver import Deadline
from vecbridge.indexes import IndexParams
from vecbridge.query import FloatArray
from vecbridge.store import Collection
from vecbridge.testing import driver_of
from vecbridge.urls import parse

INDEX = vb.HNSW(16, 200)
FORMS = [(rows, workers) for rows in (1_000, 5_000, 10_000) for workers in (1, 2, 4)]
_PAGE_ROWS = 700
PAGES = (1_000, 5_000, 10_000, 16_000)
NPROBES = (1, 2, 4, 8, 16, 32, 64)  # not nlist: that is exact search
CURVES: dict[str, tuple[IndexParams, str, tuple[int, ...]]] = {
    "HNSW(m=16, ef_construction=200)": (INDEX, "ef", EFS),
    "IVFFlat(nlist=128)": (vb.IVFFlat(128), "nprobe", NPROBES),
    "IVFSQ8(nlist=128)": (vb.IVFSQ8(128), "nprobe", NPROBES),
}


def missing() -> str | None:
    """What has to be there before a genuine server can be started; None if it is."""
    return None if find_spec("milvus") else "pip install milvus==2.3.5"


@contextmanager
def serving(url: str | None) -> Iterator[str]:
    """A genuine server's URL: the one given, or of one that is started and goes afterwards."""
    if url is not None:
        yield url
        return
    with tests_of("milvus").own() as server:
        yield server.url


class MilvusBench(ServerBench):
    """A server, its two clients, and the records; see :class:`support.servers.ServerBench`."""

    def __init__(self, url: str, rows: int, dim: int, rounds: int) -> None:
        super().__init__(url, rows, dim, rounds)
        parsed = parse(url)
        self.lite = parsed.scheme == "milvus+lite"
        self.store.collections()  # on lite this starts the server that the other client shares
        self.uri = parsed.path if self.lite else f"http://{parsed.host}:{parsed.port or 19530}"
        self.client = MilvusClient(self.uri)
        self.version = version("milvus-lite") if self.lite else self.client.get_server_version()

    def close(self) -> None:
        """Closes both clients."""
        self.client.close()
        super().close()

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


def writes(bench: MilvusBench) -> list[Line]:
    """Upserts of all records, in collections of the same layout; pymilvus in the best of nine forms."""
    forms = FORMS if not bench.lite else [form for form in FORMS if form[1] == 1]
    tried = {form: bench.seconds_of(INDEX, partial(loop, bench, *form)) for form in forms}
    best = min(tried, key=lambda form: tried[form])
    bench.details["pymilvus_rows_per_s"] = {
        f"{rows} rows x {workers}": round(bench.rows / taken) for (rows, workers), taken in tried.items()
    }
    actions: dict[str, Callable[[], float]] = {
        "own": partial(bench.seconds_of, INDEX, bench.write),
        "raw": partial(bench.seconds_of, INDEX, partial(loop, bench, *best)),
        "langchain": partial(_langchain, bench),
        "ready": partial(_ready_made, bench),
    }
    times = in_turns(actions, bench.rounds)
    own, raw, other, ready = (bench.rates(times[each]) for each in actions)
    what = f"upsert of {bench.rows:,} x {bench.dim}"
    form = f"MilvusClient.upsert, {best[0]:,} rows x {best[1]} workers"
    return [
        compared("write", what, "rows/s", own, raw, form, Target("ratio", ">=", 0.9)),
        compared(
            "write", what, "rows/s", own, other, "langchain-milvus add_embeddings", Target("ratio", ">=", 2)
        ),
        compared("write", f"{what}, requests made beforehand", "rows/s", ready, other, "langchain-milvus"),
    ]


def loop(bench: MilvusBench, rows: int, workers: int, collection: Collection) -> None:
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


def _ready_made(bench: MilvusBench) -> float:
    """How long the server takes with the requests of an upsert, one after the other, made beforehand.

    Where it takes one at a time, as milvus-lite does, no client is faster.
    """
    with bench.collection(INDEX) as collection:
        channel = driver_of(collection)._table._connection._channel
        call, kept = channel.call, []

        def keep(rpc: str, request: Any, deadline: Deadline, what: str) -> Any:
            if rpc != "Upsert":
                return call(rpc, request, deadline, what)
            kept.append(request)
            return milvus_pb2.MutationResult()

        with mock.patch.object(channel, "call", keep):
            bench.write(collection)
        deadline = Deadline.after(600)
        taken = seconds(lambda: [call("Upsert", request, deadline, "Upsert") for request in kept])
        collection.flush()
        require(collection.count(), bench.rows, "written")
        return taken


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
    with bench.filled(INDEX) as collection:
        name = collection.spec.name
        params = {"metric_type": "COSINE", "params": {"ef": 64}}
        _wait_for_bounded_reads(collection)

        def raw(query: FloatArray) -> Any:
            return bench.client.search(
                name, [query], anns_field="vector", limit=K, search_params=params, consistency_level="Bounded"
            )

        def own(query: FloatArray) -> Any:
            return collection.search(vb.Query(query, k=K, ef=64))

        for query in bench.queries[:10]:
            own(query), raw(query)
        figures = in_pairs(
            [partial(own, query) for query in bench.queries], [partial(raw, query) for query in bench.queries]
        )
        share = recalled(bench, collection, ef=64).recall
        return [
            compared("search", "one query, p50", "µs", figures["own"], figures["raw"], "MilvusClient.search",
                     allowed_overhead(figures["raw"])),
            Line("search", f"recall@{K}, ef=64", "", share, 1.0, "brute force", RECALL),
        ]  # fmt: skip


def _wait_for_bounded_reads(collection: Collection) -> None:
    """Searches are strong for half a minute after a flush; the raw ones here are not."""
    from vecbridge.stores.milvus import table

    if collection.capabilities.consistency != "strong":
        threading.Event().wait(table.RECENT_SECONDS + 1)


def scans(bench: MilvusBench) -> list[Line]:
    """Every column of every record, in turns with query_iterator at its best page size."""
    with bench.collection(INDEX) as collection:
        bench.write(collection)
        collection.flush()
        name = collection.spec.name
        tried = {size: iterated(bench, name, size) for size in PAGES}
        best = min(tried, key=lambda size: tried[size])
        bench.details["query_iterator_rows_per_s"] = {str(k): round(bench.rows / v) for k, v in tried.items()}
        times = in_turns(
            {"own": partial(bench.scanned, collection), "raw": partial(iterated, bench, name, best)},
            bench.rounds,
        )
        own, raw = bench.rates(times["own"]), bench.rates(times["raw"])
        against = f"query_iterator, pages of {best:,}"
        line = compared("scan", "all columns", "rows/s", own, raw, against, Target("ratio", ">=", 0.9))
        return [line, *(_small_reads(bench, collection) if bench.lite else [])]


def _small_reads(bench: MilvusBench, collection: Collection) -> list[Line]:
    """Reads of which each request costs milvus-lite a pass over all rows, beside its client's; one round."""
    name, client = collection.spec.name, bench.client
    ids = [each["id"] for each in bench.entities[: bench.rows // 2]]
    some = [ids[start : start + 1_000] for start in range(0, len(ids), 1_000)]
    middle = statistics.median(each["year"] for each in bench.entities if "year" in each)
    where = vb.field("year") >= int(middle)
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object], str, Target | None]] = {
        f"scan in pages of {_PAGE_ROWS}": (
            lambda: require(
                sum(page.batch.num_rows for page in collection.scan(batch_rows=_PAGE_ROWS)),
                bench.rows,
                "read",
            ),
            partial(iterated, bench, name, _PAGE_ROWS),
            f"query_iterator, pages of {_PAGE_ROWS}",
            Target("ratio", "<=", 0.2),
        ),
        f"fetch of {len(ids):,} ids": (
            lambda: require(collection.fetch(ids).num_rows, len(ids), "fetched"),
            lambda: require(sum(len(client.get(name, part)) for part in some), len(ids), "got"),
            "MilvusClient.get, 1,000 ids a call",
            None,
        ),
        "count of half of the rows by a filter": (
            lambda: collection.count(where),
            lambda: client.query(name, f"year >= {int(middle)}", output_fields=["count(*)"]),
            "MilvusClient.query of count(*)",
            Target("ratio", "<=", 0.2),
        ),
    }
    lines = []
    for what, (own, raw, against, target) in pairs.items():
        times = in_turns({"own": partial(seconds, own), "raw": partial(seconds, raw)}, 1)
        own_samples, raw_samples = Samples(tuple(times["own"])), Samples(tuple(times["raw"]))
        lines.append(compared("scan", what, "s", own_samples, raw_samples, against, target))
    return lines


def iterated(bench: MilvusBench, name: str, size: int) -> float:
    """How long query_iterator takes with every column of every record."""
    found = []

    def read() -> None:
        iterator = bench.client.query_iterator(name, batch_size=size, output_fields=["*"])
        while page := iterator.next():
            found.append(len(page))
        iterator.close()

    taken = seconds(read)
    require(sum(found), bench.rows, "iterated over")
    return taken


def recall(bench: MilvusBench) -> list[Line]:
    """Recall at 10 against exact search and the time of a query, at default knobs and as they grow."""
    curves = {}
    for name, (index, knob, values) in CURVES.items():
        with bench.filled(index) as collection:
            points = [
                {knob: value} | asdict(recalled(bench, collection, **{knob: value})) for value in values
            ]
            curves[name] = {
                "knob": knob,
                "quantized": isinstance(index, vb.IVFSQ8),
                "default": asdict(recalled(bench, collection)),
                "points": points,
            }
    bench.details["recall"] = curves
    return recall_lines(curves)
