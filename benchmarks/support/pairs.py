"""Migrations of two databases, beside what the source's own client reads and beside the same in series."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from rich.console import Console

import vecbridge as vb
from support import milvus, weaviate
from support.harness import Line, Target, in_turns, paired, seconds
from support.milvus import MilvusBench
from support.moving import WAIT_SECONDS, MovingBench, beside_series, copied, in_files, served, to
from support.proving import timed
from support.servers import ServerBench, require
from support.weaviate import WeaviateBench

PAGE = 10_000


def lite(bench: MovingBench) -> list[Line]:
    """From and to milvus-lite."""
    with bench.directory() as path:
        url = f"milvus+lite://{path}/bench.db"
        with MilvusBench(url, bench.rows, bench.dim, bench.rounds) as server:
            bench.details["milvus_lite"] = server.version
            target = partial(in_files, bench, "faiss")
            with server.filled(vb.Flat()) as collection:
                name = collection.spec.name
                source = f"{url}#{name}"
                ways: dict[str, Callable[[], float]] = {
                    "query_iterator": partial(milvus.iterated, server, name, PAGE),
                    "query": partial(_queried, server, name),
                }
                tried = in_turns(ways, 1)
                best = min(tried, key=lambda way: tried[way][0])
                bench.details["pymilvus_rows_per_s"] = {
                    way: round(bench.rows / times[0]) for way, times in tried.items()
                }
                lines, rates = beside_series(
                    bench, "lite", "milvus-lite → FAISS", source, target, {"raw": ways[best]}
                )
                against = f"MilvusClient.{best}, pages of {PAGE:,}, nothing written"
                lines.append(
                    paired("lite", "milvus-lite → FAISS", "rows/s", rates["own"], rates["raw"], against,
                           Target("ratio", ">=", 0.8))
                )  # fmt: skip
            there, _ = beside_series(
                bench, "lite", "FAISS → milvus-lite", bench.faiss, partial(served, server.store)
            )
            return lines + there


def _queried(server: MilvusBench, name: str) -> float:
    """How long pages by MilvusClient.query take, each from the last id on."""
    rows = 0

    def read() -> None:
        nonlocal rows
        last = ""
        while page := server.client.query(
            name, filter=f'id > "{last}"', output_fields=["*"], limit=PAGE, consistency_level="Strong"
        ):
            rows, last = rows + len(page), max(row["id"] for row in page)

    taken = seconds(read)
    require(rows, server.rows, "queried")
    return taken


def from_weaviate(bench: MovingBench) -> list[Line]:
    """From a genuine Weaviate."""
    with weaviate_server(bench) as server:
        if server is None:
            return []
        with server.filled(vb.Flat()) as collection:
            raw = server.raw(collection)
            tried = {size: weaviate.iterated(server, raw, size) for size in weaviate.CACHES}
            best = min(tried, key=lambda size: tried[size])
            bench.details["weaviate_iterator_rows_per_s"] = {
                str(size): round(bench.rows / taken) for size, taken in tried.items()
            }
            source = f"{server.store.url}#{collection.spec.name}"
            lines, rates = beside_series(
                bench, "weaviate", "Weaviate → FAISS", source, partial(in_files, bench, "faiss"),
                {"raw": partial(weaviate.iterated, server, raw, best)},
            )  # fmt: skip
            against = f"iterator(include_vector=True), cache_size={best:,}, nothing written"
            lines.append(
                paired("weaviate", "Weaviate → FAISS", "rows/s", rates["own"], rates["raw"], against,
                       Target("ratio", ">=", 1.3))
            )  # fmt: skip
            return lines


def servers(bench: MovingBench) -> list[Line]:
    """From FAISS to genuine servers with their graph, the proof, and back: figures without a target."""
    index = vb.HNSW(16, 200)
    source = bench.filled("faiss", bench.rows, index)
    lines: list[Line] = []
    for name, opened in (("Weaviate", weaviate_server), ("Milvus", milvus_server)):
        with opened(bench) as server:
            if server is None:
                continue
            with served(server.store) as target:
                lines += _there_and_back(bench, name, source, target)
    return lines


def _there_and_back(bench: MovingBench, name: str, source: str, target: str) -> list[Line]:
    there = copied(bench, source, target, bench.rows)
    with vb.open(target) as collection:
        collection.wait_ready(WAIT_SECONDS)
    proofs = {level: timed(source, target, level) for level in ("content", "search")}
    # what a database finds less of than FAISS is a figure here, and no reason to stop
    bench.details[f"findings_{name}"] = {level: found for level, (_, found) in proofs.items()}
    back = to(partial(in_files, bench, "faiss"), lambda url: copied(bench, target, url, bench.rows))
    return [
        Line("servers", f"FAISS → {name}, HNSW", "rows/s", bench.rows / there),
        *(Line("servers", f"verify FAISS → {name}, level {level}", "s", taken)
          for level, (taken, _) in proofs.items()),
        Line("servers", f"{name} → FAISS, HNSW", "rows/s", bench.rows / back),
    ]  # fmt: skip


@contextmanager
def weaviate_server(bench: MovingBench) -> Iterator[WeaviateBench | None]:
    """A genuine Weaviate; None, and why, if there is none."""
    if bench.weaviate is None and (needed := weaviate.missing()):
        yield _passed_over("Weaviate", needed)
        return
    with (
        weaviate.serving(bench.weaviate) as url,
        WeaviateBench(url, bench.rows, bench.dim, bench.rounds) as server,
    ):
        bench.details["weaviate"] = server.version
        yield server


@contextmanager
def milvus_server(bench: MovingBench) -> Iterator[ServerBench | None]:
    """A genuine Milvus; None, and why, if there is none."""
    if bench.milvus is None and (needed := milvus.missing()):
        yield _passed_over("Milvus", needed)
        return
    with ExitStack() as stack:
        url = stack.enter_context(milvus.serving(bench.milvus))
        server = stack.enter_context(MilvusBench(url, bench.rows, bench.dim, bench.rounds))
        bench.details["milvus"] = server.version
        yield server


def _passed_over(name: str, needed: str) -> None:
    Console(stderr=True).print(f"{name} is not measured: {needed}, or give the URL of a server")
