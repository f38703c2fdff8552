"""Throughput of vb.write, for each backend beside hand-written loops of its own client."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import vecbridge as vb
from support import milvus, pinecone, weaviate
from support.bench import raw_hnsw
from support.bulk import BulkBench, beside
from support.harness import Line
from support.milvus import MilvusBench
from support.pairs import milvus_server, weaviate_server
from support.pinecone import Records, Served
from support.servers import require
from vecbridge.indexes import IndexParams

READY_SECONDS = 3600
#: How many times the rows, the index, and the same index of FAISS.
FAISS_INDEXES: dict[str, tuple[int, IndexParams, Callable[[int], faiss.Index]]] = {
    "flat": (10, vb.Flat(), faiss.IndexFlatIP),
    "HNSW": (1, vb.HNSW(16, 200), raw_hnsw),
}


def throughput(bench: BulkBench) -> list[Line]:
    """All records into a new collection of each backend."""
    lines: list[Line] = []
    for name, measure in BACKENDS.items():
        if bench.backends is None or name in bench.backends:
            lines += measure(bench)
    return lines


def in_faiss(run: BulkBench) -> list[Line]:
    """FAISS: both sides end with index and records on the disk; vecbridge has each batch there at once.

    A flat index takes ten times the rows: fewer would be there in a tenth of a second, of which a new
    collection takes half for itself.
    """
    lines = []
    for name, (times, index, raw) in FAISS_INDEXES.items():
        bench = replace(run, rows=times * run.rows)
        forms = {
            f"{how}, write_index, Parquet, fsync": partial(_faiss_by_hand, bench, raw, whole=whole)
            for how, whole in (("add of batches", False), ("add of all at once", True))
        }
        what = f"FAISS, {name}, {bench.rows:,} x {bench.dim}, to the built index"
        lines.append(beside(bench, what, partial(_faiss_own, bench, index), forms))
    return lines


def _faiss_own(bench: BulkBench, index: IndexParams) -> float:
    with bench.directory() as path, vb.connect(f"faiss://{path}") as store:
        collection = store.create(bench.spec(index))
        os.sync()  # what the one before left to be written is not this one's to wait for
        begun = time.perf_counter()
        vb.write(collection, bench.batches)
        collection.wait_ready(READY_SECONDS)
        taken = time.perf_counter() - begun
        require(collection.count(), bench.rows, "written")
    return taken


def _faiss_by_hand(bench: BulkBench, make: Callable[[int], faiss.Index], *, whole: bool) -> float:
    """What somebody writes by hand: the vectors into an index, the other columns into Parquet."""
    with bench.directory() as path:
        os.sync()
        begun = time.perf_counter()
        index = make(bench.dim)
        vectors = [vb.vectors(batch) for batch in bench.batches]
        for part in [np.concatenate(vectors)] if whole else vectors:
            index.add(part)
        faiss.write_index(index, str(path / "index"))
        pq.write_table(pa.Table.from_batches(bench.batches).drop_columns(["vector"]), path / "records")
        for name in ("index", "records"):
            _fsync(path / name)
        taken = time.perf_counter() - begun
        require(index.ntotal, bench.rows, "added")
    return taken


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def in_milvus_lite(bench: BulkBench) -> list[Line]:
    """milvus-lite, which takes one request at a time."""
    with (
        bench.directory() as path,
        MilvusBench(f"milvus+lite://{path}/bench.db", bench.rows, bench.dim, bench.rounds) as server,
    ):
        return [_milvus_line(bench, server, "milvus-lite", (1,))]


def in_milvus(bench: BulkBench) -> list[Line]:
    """A genuine Milvus."""
    with milvus_server(bench) as server:
        return [] if server is None else [_milvus_line(bench, server, "Milvus", (1, 2, 4))]


def _milvus_line(bench: BulkBench, server: MilvusBench, name: str, workers: tuple[int, ...]) -> Line:
    bench.details[f"version of {name}"] = server.version
    forms = {
        f"MilvusClient.upsert, {rows:,} rows x {at_once} threads": partial(
            server.seconds_of, milvus.INDEX, partial(_milvus_by_hand, server, rows, at_once)
        )
        for rows, at_once in milvus.FORMS
        if at_once in workers
    }
    own = partial(server.seconds_of, milvus.INDEX, server.write)
    return beside(bench, f"{name}, HNSW, {bench.rows:,} x {bench.dim}, acknowledged", own, forms)


def _milvus_by_hand(server: MilvusBench, rows: int, at_once: int, collection: vb.Collection) -> None:
    """The client's upsert of dicts, which are made in its time, as vecbridge starts from Arrow too."""
    server.__dict__.pop("entities", None)
    milvus.loop(server, rows, at_once, collection)


def in_weaviate(bench: BulkBench) -> list[Line]:
    """A genuine Weaviate."""
    with weaviate_server(bench) as server:
        if server is None:
            return []
        lines = []
        for kind, index in weaviate.INDEXES.items():
            forms = {
                name: partial(weaviate.seconds_of_form, server, kind, form)
                for name, form in weaviate.all_forms().items()
            }
            what = f"Weaviate, {kind}, {bench.rows:,} x {bench.dim}, acknowledged"
            lines.append(beside(bench, what, partial(server.seconds_of, index, server.write), forms))
        return lines


def in_pinecone(bench: BulkBench) -> list[Line]:
    """An emulator that waits 20 ms before each answer: no measure of the service."""
    with pinecone.emulated() as server:
        records = Records.drawn(bench.rows, bench.dim)
        return [_pinecone_line(bench, server, records, transport) for transport in pinecone.TRANSPORTS]


def _pinecone_line(bench: BulkBench, server: Served, records: Records, transport: str) -> Line:
    settings = pinecone.tried_settings(server, transport, records)
    fastest = sorted(settings, key=lambda setting: settings[setting])[:4]
    forms = {
        f"upsert(batch_size={setting[0]}, max_concurrency={setting[1]})": partial(
            pinecone.seconds_to_write, server, transport, records,
            partial(pinecone.client_from_arrow, server, records, transport, setting),
        )
        for setting in fastest
    }  # fmt: skip
    own = partial(pinecone.seconds_to_write, server, transport, records, partial(pinecone.own_write, records))
    what = f"Pinecone emulated, {transport}, {bench.rows:,} x {bench.dim}, acknowledged"
    return beside(bench, what, own, forms)


BACKENDS: dict[str, Callable[[BulkBench], list[Line]]] = {
    "faiss": in_faiss,
    "milvus-lite": in_milvus_lite,
    "pinecone": in_pinecone,
    "milvus": in_milvus,
    "weaviate": in_weaviate,
}
