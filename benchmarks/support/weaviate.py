"""Writing to, searching and scanning a Weaviate server, beside the ways that weaviate-client offers."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property, partial
from itertools import islice
from operator import methodcaller
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

import vecbridge as vb
from support import data
from support.harness import Line, Target, compared, in_turns, seconds
from support.servers import (
    EFS,
    READY_SECONDS,
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
from vecbridge.collection import Collection
from vecbridge.driver import Deadline, RequestLimits, WritePart
from vecbridge.indexes import IndexParams
from vecbridge.query import FloatArray, Ids
from vecbridge.stores.weaviate import layout, wire
from vecbridge.stores.weaviate.options import WeaviateOptions, addresses, api_key
from vecbridge.testing import driver_of
from vecbridge.urls import parse, read_options

# authlib, which the client imports, warns of its own future
with warnings.catch_warnings(record=True):
    import weaviate
    from weaviate.classes.config import Reconfigure
    from weaviate.classes.data import DataObject
    from weaviate.classes.init import AdditionalConfig, Auth, Timeout
    from weaviate.classes.query import MetadataQuery

INDEXES: dict[str, IndexParams] = {"HNSW": vb.HNSW(16, 200), "flat": vb.Flat()}
TARGETS = {"HNSW": Target("ratio", ">=", 1.2)}
EF = 64
CHUNKS = (200, 1_000, 5_000)
SIZES = ((200, 2), (1_000, 2), (1_000, 4), (5_000, 2))  # rows a request, requests in flight
STREAMS = (1, 2, 4)
FINALISTS = 3  # one try alone would leave the choice to chance
THREADS = 2
INSERT_SECONDS = 300  # for a request: 5,000 rows go into a graph
CACHES = (100, 1_000, 5_000)  # the first is the client's own choice
CURVES = {
    "HNSW(m=16, ef_construction=200)": vb.HNSW(16, 200),
    "the same, quantizer='rq'": vb.HNSW(16, 200, "rq"),
    "the same, quantizer='pq'": vb.HNSW(16, 200, "pq"),
}
MADE_AT_ONCE = 1_000
SCANS = 5  # a round; one takes half a second, in which a machine may do something else
CHECKED = 100  # rows written by hand that are read back as records
POLL_SECONDS = 0.1

#: A record as a hand-written loop has it: UUID, properties, vector.
Entity = tuple[str, dict[str, Any], dict[str, list[float]]]
Form = Callable[[Any, Iterator[Entity]], None]


def missing() -> str | None:
    """What has to be there before a server can be started; None if it is."""
    needed: str | None = tests_of("weaviate").missing_executable()
    return needed


@contextmanager
def serving(url: str | None) -> Iterator[str]:
    """A server's URL: the one given, or of a server from PATH that goes afterwards."""
    if url is not None:
        yield url
        return
    with tests_of("weaviate").own() as server:
        yield server.url


class WeaviateBench(ServerBench):
    """A server, its two clients, and the records; see :class:`support.servers.ServerBench`."""

    def __init__(self, url: str, rows: int, dim: int, rounds: int) -> None:
        super().__init__(url, rows, dim, rounds)
        options = read_options(WeaviateOptions, parse(url), {})
        rest_url, target = addresses(parse(url), options)
        rest, grpc = urlsplit(rest_url), urlsplit(f"//{target}")
        key = api_key(parse(url), options)
        self.client = weaviate.connect_to_custom(
            http_host=rest.hostname or "",
            http_port=rest.port or 0,
            http_secure=rest.scheme == "https",
            grpc_host=grpc.hostname or "",
            grpc_port=grpc.port or 0,
            grpc_secure=rest.scheme == "https",
            auth_credentials=Auth.api_key(key) if key else None,
            additional_config=AdditionalConfig(timeout=Timeout(insert=INSERT_SECONDS)),
            skip_init_checks=True,  # one of them asks the package index for a newer client
        )
        self.version = str(self.client.get_meta()["version"])

    def close(self) -> None:
        """Closes both clients."""
        self.client.close()
        super().close()

    def raw(self, collection: Collection) -> Any:
        """The same collection, as the client has it."""
        return self.client.collections.use(layout.class_name(collection.spec.name))

    def entities(self) -> Iterator[Entity]:
        """The records as the client takes them, made of the Arrow batches while they are asked for.

        They have the UUIDs and values that vecbridge stores, and vectors as lists, which it packs fastest.
        """
        where = layout.of_spec(data.spec("bench", self.dim, vb.Flat()))
        for batch in self.batches:
            for start in range(0, batch.num_rows, MADE_AT_ONCE):
                yield from _entities(where, batch.slice(start, MADE_AT_ONCE))

    @cached_property
    def ready(self) -> list[Entity]:
        """The same, made beforehand."""
        return list(self.entities())


def _entities(where: layout.Layout, batch: pa.RecordBatch) -> Iterator[Entity]:
    columns = {each.key: wire.encoded(each.codec, batch.column(each.name)) for each in where.columns.values()}
    columns[layout.ID] = batch.column("id").to_pylist()
    uuids, vectors = layout.uuids(where, batch.column("id")), vb.vectors(batch).tolist()
    for uuid, vector, *values in zip(uuids, vectors, *columns.values(), strict=True):
        held = dict(zip(columns, values, strict=True))
        yield uuid, {key: each for key, each in held.items() if each is not None}, {"vector": vector}


def all_forms() -> dict[str, Form]:
    """The ways of the client to write many objects."""
    return {
        **{f"insert_many of {rows:,}": partial(_insert_many, rows=rows) for rows in CHUNKS},
        **{
            f"batch.fixed_size({rows:,}, {at_once})": partial(
                _batched, begin=methodcaller("fixed_size", batch_size=rows, concurrent_requests=at_once)
            )
            for rows, at_once in SIZES
        },
        **{
            f"batch.stream(concurrency={at_once})": partial(
                _batched, begin=methodcaller("stream", concurrency=at_once)
            )
            for at_once in STREAMS
        },
        "batch.dynamic()": partial(_batched, begin=methodcaller("dynamic")),
    }


def writes(bench: WeaviateBench) -> list[Line]:
    """Upserts of all records, in collections of the same layout; the client in the best of its forms."""
    _require_same_records(bench)
    forms = all_forms()
    lines = []
    for kind in INDEXES:
        tried = {name: seconds_of_form(bench, kind, form) for name, form in forms.items()}
        bench.details[f"weaviate_client_rows_per_s, {kind}"] = {
            name: round(bench.rows / taken) for name, taken in tried.items()
        }
        fastest = sorted(tried, key=lambda name: tried[name])[:FINALISTS]
        lines += _beside(bench, kind, {name: forms[name] for name in fastest})
    return lines


def _beside(bench: WeaviateBench, kind: str, forms: dict[str, Form]) -> list[Line]:
    """In turns: upsert and vb.write, the client's forms that were fastest, and threads around insert_many."""
    threads = f"insert_many of 1,000 from {THREADS} threads"
    by_hand = forms | {threads: partial(_insert_many, rows=1_000, threads=THREADS)}
    made = {f"{name}, of objects made beforehand": form for name, form in forms.items()}
    require(len(bench.ready), bench.rows, "made beforehand")
    actions: dict[str, Callable[[], float]] = {
        "upsert": partial(bench.seconds_of, INDEXES[kind], partial(_upsert, bench)),
        "vb.write": partial(bench.seconds_of, INDEXES[kind], bench.write),
        "ready": partial(_ready_made, bench, kind),
        **{name: partial(seconds_of_form, bench, kind, form) for name, form in by_hand.items()},
        **{name: partial(seconds_of_form, bench, kind, form, made=True) for name, form in made.items()},
    }
    times = in_turns(actions, bench.rounds)
    rates = {name: bench.rates(each) for name, each in times.items()}
    best, best_made = (max(some, key=lambda name: rates[name].median) for some in (forms, made))
    what = f"of {bench.rows:,} x {bench.dim}, {kind}"
    return [
        compared(
            "write", f"vb.write {what}", "rows/s", rates["vb.write"], rates[best], best, TARGETS.get(kind)
        ),
        compared("write", f"vb.write {what}", "rows/s", rates["vb.write"], rates[best_made], best_made),
        compared("write", f"vb.write {what}", "rows/s", rates["vb.write"], rates[threads], threads),
        compared("write", f"upsert {what}", "rows/s", rates["upsert"], rates[best], best),
        compared("write", f"requests made beforehand, {kind}", "rows/s", rates["ready"], rates[best], best),
    ]


def seconds_of_form(bench: WeaviateBench, kind: str, form: Form, *, made: bool = False) -> float:
    entities = iter(bench.ready) if made else bench.entities()
    return bench.seconds_of(INDEXES[kind], lambda collection: form(bench.raw(collection), entities))


def _upsert(bench: WeaviateBench, collection: Collection) -> None:
    """In batches of 10,000, which vecbridge cuts into requests itself."""
    for batch in bench.batches:
        collection.upsert(batch)


def _ready_made(bench: WeaviateBench, kind: str) -> float:
    """How long the server takes with the requests of the upserts, made beforehand: no client is faster."""
    with bench.collection(INDEXES[kind]) as collection:
        driver, capabilities = driver_of(collection), collection.capabilities
        limits = RequestLimits(capabilities.request_rows, capabilities.request_bytes)
        parts = [part for batch in bench.batches for part in driver.prepare(batch, limits)]

        def send(part: WritePart) -> None:
            if refused := driver.table.write(part.payload[2], Deadline.after(INSERT_SECONDS)):
                raise RuntimeError(f"{len(refused)} rows were refused")

        with ThreadPoolExecutor(capabilities.parallel_requests) as pool:
            taken = seconds(lambda: list(pool.map(send, parts)))
        require(collection.count(), bench.rows, "written")
        return taken


def _insert_many(raw: Any, entities: Iterator[Entity], rows: int, threads: int = 1) -> None:
    """What somebody writes by hand: requests of so many objects."""
    parts = iter(lambda: list(islice(entities, rows)), [])
    if threads == 1:
        for part in parts:
            _insert(raw, part)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(partial(_insert, raw), parts))


def _insert(raw: Any, entities: Iterable[Entity]) -> None:
    answer = raw.data.insert_many(
        [DataObject(properties, uuid, vector) for uuid, properties, vector in entities]
    )
    if answer.has_errors:
        raise RuntimeError(f"insert_many: {next(iter(answer.errors.values())).message}")


def _batched(raw: Any, entities: Iterator[Entity], begin: Callable[[Any], Any]) -> None:
    """What the client's documentation shows: a batch context and one object after the other."""
    with begin(raw.batch) as batch:
        for uuid, properties, vector in entities:
            batch.add_object(properties=properties, uuid=uuid, vector=vector)
    if failed := raw.batch.failed_objects:
        raise RuntimeError(f"batch: {failed[0].message}")


def _require_same_records(bench: WeaviateBench) -> None:
    """Both write the same: what is written by hand reads back as the records."""
    records = bench.batches[0].slice(0, CHECKED)
    with bench.collection(vb.Flat()) as collection:
        _insert(bench.raw(collection), islice(bench.entities(), CHECKED))
        found = collection.fetch(records.column("id").to_pylist())
    if not found.equals(records.select(found.schema.names)):
        raise RuntimeError("rows written by hand differ from those that vecbridge writes")


def searches(bench: WeaviateBench) -> list[Line]:
    """One query at a time on a collection whose index is ready, in turns with query.near_vector."""
    with bench.filled(vb.HNSW(16, 200, ef=EF)) as collection:
        client = bench.raw(collection)
        metadata = MetadataQuery(distance=True)

        def raw(query: list[float]) -> list[str]:
            answer = client.query.near_vector(
                query, limit=K, target_vector="vector", return_properties=[layout.ID],
                return_metadata=metadata,
            )  # fmt: skip
            return [each.properties[layout.ID] for each in answer.objects]

        def own(query: FloatArray) -> Ids:
            return collection.search(vb.Query(query, k=K))[0].ids

        lists = bench.queries.tolist()  # as the client takes them fastest
        for query, listed in zip(bench.queries[:10], lists, strict=False):
            if list(own(query)) != raw(listed):
                raise RuntimeError("near_vector finds other rows")
        figures = in_pairs(
            [partial(own, query) for query in bench.queries], [partial(raw, query) for query in lists]
        )
        share = recalled(bench, collection).recall
        return [
            compared("search", "one query, p50", "µs", figures["own"], figures["raw"], "query.near_vector",
                     allowed_overhead(figures["raw"])),
            Line("search", f"recall@{K}, ef={EF}", "", share, 1.0, "brute force", RECALL),
        ]  # fmt: skip


def scans(bench: WeaviateBench) -> list[Line]:
    """Vectors and properties of every record, in turns with iterator() at its best cache size."""
    with bench.filled(vb.Flat()) as collection:
        raw = bench.raw(collection)
        tried = {size: iterated(bench, raw, size) for size in CACHES}
        best = min(tried, key=lambda size: tried[size])
        bench.details["iterator_rows_per_s"] = {str(k): round(bench.rows / v) for k, v in tried.items()}
        times = in_turns(
            {"own": partial(bench.scanned, collection), "raw": partial(iterated, bench, raw, best)},
            SCANS * bench.rounds,
        )
        own, other = bench.rates(times["own"]), bench.rates(times["raw"])
        against = f"iterator(include_vector=True), cache_size={best:,}"
        return [compared("scan", "all columns", "rows/s", own, other, against, Target("ratio", ">=", 3))]


def iterated(bench: WeaviateBench, raw: Any, size: int) -> float:
    """How long the client's iterator takes with vectors and properties of every record."""
    rows: list[int] = []
    taken = seconds(lambda: rows.append(sum(1 for _ in raw.iterator(include_vector=True, cache_size=size))))
    require(sum(rows), bench.rows, "iterated over")
    return taken


def recall(bench: WeaviateBench) -> list[Line]:
    """Recall at 10 against exact search and the time of a query, at default knobs and as ef grows."""
    curves = {}
    for name, index in CURVES.items():
        with bench.filled(index) as collection:
            settling = seconds(partial(_settle, bench, collection, index.quantizer is not None))
            default = asdict(recalled(bench, collection))
            points = []
            for ef in EFS:
                _set_ef(bench, collection, ef)
                points.append({"ef": ef} | asdict(recalled(bench, collection)))
            curves[name] = {
                "knob": "ef",
                "quantized": index.quantizer is not None,
                "quantizing_s": round(settling, 1),
                "default": default,
                "points": points,
            }
    bench.details["recall"] = curves
    return recall_lines(curves)


def _set_ef(bench: WeaviateBench, collection: Collection, ef: int) -> None:
    """It belongs to the collection, not to the query."""
    bench.raw(collection).config.update(
        vector_config=Reconfigure.Vectors.update(
            name="vector", vector_index_config=Reconfigure.VectorIndex.hnsw(ef=ef)
        )
    )


def _settle(bench: WeaviateBench, collection: Collection, quantized: bool) -> None:
    """Waits until every shard says that it is quantized, or that it is not."""
    name = layout.class_name(collection.spec.name)
    deadline = time.monotonic() + READY_SECONDS
    while True:
        shards = [
            shard
            for node in bench.client.cluster.nodes(name, output="verbose")
            for shard in node.shards or []
        ]
        settled = [each.compressed is quantized and each.vector_indexing_status == "READY" for each in shards]
        if settled and all(settled):
            return
        if time.monotonic() > deadline:
            state = "quantized" if quantized else "ready without a quantizer"
            raise RuntimeError(f"{name} is not {state} after {READY_SECONDS} s")
        time.sleep(POLL_SECONDS)
