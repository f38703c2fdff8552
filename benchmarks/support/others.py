"""Migrations by `vd`, another package with one interface to many databases: figures without a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

import vecbridge as vb
from support.harness import Line, in_turns, paired, seconds
from support.moving import NAME, MovingBench, Samples, copied, in_files, served, to
from support.servers import require

ROUNDS = 3
SHARE = 10  # of the rows where vd asks for one row at a time

_numbers = count()


def beside_vd(bench: MovingBench) -> list[Line]:
    """FAISS → FAISS, FAISS → milvus-lite, and back."""
    if find_spec("vd") is None:
        Console(stderr=True).print("vd is not measured: pip install vd")
        return []
    few = bench.rows // SHARE
    with bench.directory() as path, vb.connect(f"milvus+lite://{path}/own.db") as lite:
        lite.collections()  # starts it
        faiss, lite_url = partial(in_files, bench, "faiss"), partial(served, lite)
        with lite_url() as source:
            copied(bench, bench.filled("faiss", few), source, few)
            back = partial(to, faiss, lambda url: copied(bench, source, url, few))
            pairs: dict[str, tuple[int, Callable[[], float], Callable[[], float]]] = {
                "FAISS → FAISS": (
                    bench.rows,
                    partial(to, faiss, lambda url: copied(bench, bench.faiss, url, bench.rows)),
                    partial(_moved, bench, bench.rows, "faiss", "faiss"),
                ),
                "FAISS → milvus-lite": (
                    bench.rows,
                    partial(to, lite_url, lambda url: copied(bench, bench.faiss, url, bench.rows)),
                    partial(_moved, bench, bench.rows, "faiss", "milvus"),
                ),
                "milvus-lite → FAISS": (few, back, partial(_moved, bench, few, "milvus", "faiss")),
            }
            lines = []
            for what, (rows, own, other) in pairs.items():
                rates = {
                    name: Samples(tuple(rows / taken for taken in times))
                    for name, times in in_turns({"own": own, "vd": other}, ROUNDS).items()
                }
                lines.append(
                    paired("vd", f"{what}, {rows:,} x {bench.dim}", "rows/s", rates["own"], rates["vd"],
                           "vd.migrate_collection, batches of 1,000")
                )  # fmt: skip
            return lines


def _moved(bench: MovingBench, rows: int, source: str, target: str) -> float:
    """Seconds of vd's migration, and of saving it where vd saves nothing before."""
    import vd

    with (
        bench.directory() as path,
        _client(source, path / "from") as old,
        _client(target, path / "to") as new,
    ):
        first = old.create_collection(NAME, dimension=bench.dim)
        for batch in bench.batches(rows):
            first.add_documents(_documents(batch))

        def migrate() -> None:
            second = new.create_collection(NAME, dimension=bench.dim)
            report = vd.migrate_collection(first, second, batch_size=1_000)
            require(report["migrated"], rows, f"migrated by vd ({report['errors'][:1]})")
            if target == "faiss":
                new.close()

        return seconds(migrate)


@contextmanager
def _client(backend: str, path: Path) -> Iterator[Any]:
    import vd

    path.mkdir()
    where = path if backend == "faiss" else path / f"vd{next(_numbers)}.db"
    client = vd.connect(backend, path=str(where))
    try:
        yield client
    finally:
        client.close()


def _documents(batch: pa.RecordBatch) -> list[Any]:
    """The records as vd has them: text, vector, and a dict of the rest."""
    import vd

    return [
        vd.Document(
            id=row["id"], text=row["title"], vector=vector,
            metadata={key: row[key] for key in ("year", "tags") if row[key] is not None},
        )
        for row, vector in zip(
            batch.drop_columns(["vector"]).to_pylist(), vb.vectors(batch).tolist(), strict=True
        )
    ]  # fmt: skip
