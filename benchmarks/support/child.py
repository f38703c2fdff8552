"""What is measured in a fresh interpreter: opening a store, and the memory that a scan or a migration takes.

Run by path, so it imports nothing from its neighbours. Prints one JSON object.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path


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
    }
    print(json.dumps(JOBS[sys.argv[1]](*sys.argv[2:])))
