"""What is measured in a fresh interpreter: opening a store, and the memory of scans, migrations, writes.

Run by path, so it imports nothing from its neighbours. Prints one JSON object.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def open_store(url: str, vector: str) -> dict[str, float]:
    """Imports, then connect, open and the first search."""
    start = time.perf_counter()
    import numpy as np

    import vecbridge as vb
    import vecbridge.stores.faiss.collection
    import vecbridge.stores.faiss.driver

    query = vb.Query(np.load(vector), k=10)
    imported = time.perf_counter()
    with vb.open(url) as collection:
        opened = time.perf_counter()
        [hits] = collection.search(query)
        searched = time.perf_counter()
    assert len(hits) == 10
    return {
        "imports_s": imported - start,
        "open_s": opened - imported,
        "first_search_s": searched - opened,
        "total_s": searched - imported,
    }


def open_raw(path: str, vector: str) -> dict[str, float]:
    """The same of a FAISS index file."""
    start = time.perf_counter()
    import faiss
    import numpy as np

    query = np.load(vector)
    imported = time.perf_counter()
    index = faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC)
    index.search(query, 10)
    return {"imports_s": imported - start, "total_s": time.perf_counter() - imported}


def scan_store(url: str) -> dict[str, float]:
    """How far the memory rises above what the open store takes, in bytes."""
    import vecbridge as vb

    with vb.open(url) as collection:
        next(iter(collection.scan(batch_rows=10)))
        before = _begin()
        rows = 0
        for page in collection.scan(batch_rows=10_000):
            vb.vectors(page.batch).sum()
            rows += page.batch.num_rows
        return {"rows": rows, "before_bytes": before, "rise_bytes": _peak() - before}


def migrate(source: str, target: str, journal: str, *allow: str) -> dict[str, float]:
    """One migration; whoever started this process watches its memory."""
    import vecbridge as vb

    return {"rows": vb.migrate(source, target, journal=journal, allow=allow).written}


def ingest_lines(url: str, rows: str, dim: str) -> dict[str, float]:
    """A pipeline of texts and vectors at random; whoever started this process watches its memory."""
    import vecbridge as vb
    from vecbridge.sources.texts import TextItem

    items = (TextItem(f"line-{n}", "/lines.txt", n + 1, f"line {n}") for n in range(int(rows)))
    model = _random_embedder(int(dim))
    with _collection(url, model) as photos:
        at_once = photos.capabilities.parallel_requests  # how many there are would rise for minutes
        return {"rows": vb.ingest(items, model, photos, batch_rows=64, workers=at_once).written}


def upsert_lines(url: str, rows: str, dim: str) -> dict[str, float]:
    """The same rows, a batch after the other, with nothing around: what the store itself holds.

    In a thread, as a pipeline does: what the allocator keeps differs from thread to thread.
    """
    from concurrent.futures import ThreadPoolExecutor

    import vecbridge as vb

    model, written = _random_embedder(int(dim)), 0
    with _collection(url, model) as photos, ThreadPoolExecutor(1) as pool:
        for start in range(0, int(rows), 64):
            numbers = range(start, min(start + 64, int(rows)))
            texts = [f"line {n}" for n in numbers]
            batch = vb.batch(
                photos.spec,
                id=[f"line-{n}" for n in numbers],
                vector=model.embed_texts(texts),
                line=[n + 1 for n in numbers],
                text=texts,
            )
            written += pool.submit(photos.upsert, batch).result().written
    return {"rows": written}


def _random_embedder(dim: int) -> Any:
    import numpy as np

    import vecbridge as vb

    class Random:
        identity = vb.EmbedderIdentity("random", "1", dim, "none")
        note = ""

        def __init__(self) -> None:
            self.dim = dim
            self._values = np.random.default_rng(1)

        def embed_texts(self, texts: Any) -> Any:
            return self._values.normal(size=(len(texts), dim)).astype(np.float32)

    return Random()


@contextmanager
def _collection(url: str, model: Any) -> Iterator[Any]:
    import vecbridge as vb

    place, _, name = url.partition("#")
    options = {"api_key": "emulated"} if place.startswith("pinecone") else {}
    fields = {"line": "int64", "text": "string"}
    spec = vb.CollectionSpec.single(
        name, dim=model.dim, fields=fields, index=vb.Flat(), embedder=model.identity
    )
    with vb.connect(place, **options) as store:
        with store.create(store.capabilities.nearest(spec)[0]) as photos:
            yield photos
        store.drop(name)


def _begin() -> int:
    """Resident bytes now, less what is only kept for reuse; the peak starts here where the system can."""
    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak()
    return _status("VmRSS")


def _peak() -> int:
    if Path("/proc/self/status").exists():
        return _status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(name)


if __name__ == "__main__":
    JOBS: dict[str, Callable[..., dict[str, float]]] = {
        "open": open_store,
        "open-raw": open_raw,
        "scan": scan_store,
        "migrate": migrate,
        "ingest_lines": ingest_lines,
        "upsert_lines": upsert_lines,
    }
    print(json.dumps(JOBS[sys.argv[1]](*sys.argv[2:])))
