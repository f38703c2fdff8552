"""Whether the memory of ``vb.ingest`` grows with the rows: a fresh process for each number of them.

What the store itself holds, such as the ids of its rows, is measured in a process that upserts the same rows
one batch after the other, and taken off.
"""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from support.harness import Line, Target
from support.pipelines import PipelineBench
from support.resident import anonymous

STORES: Final = ("faiss", "pinecone")
LIMIT: Final = Target("ratio", "<=", 1.1)
_POLL_SECONDS: Final = 0.005
_MIB: Final = 2**20


def memory(bench: PipelineBench) -> list[Line]:
    """The highest anonymous memory at each size, beside that at the smallest."""
    return [line for store in bench.stores for line in _flat(bench, store)]


def _flat(bench: PipelineBench, store: str) -> Iterator[Line]:
    with _place(bench, store) as url:
        peaks = {
            job: {rows: _peak(bench, job, url, rows) for rows in bench.sizes}
            for job in ("upsert_lines", "ingest_lines")
        }
    bench.details[f"memory_{store}"] = {
        job: {str(rows): round(peak, 1) for rows, peak in of_job.items()} for job, of_job in peaks.items()
    }
    smallest = min(bench.sizes)
    held = peaks["upsert_lines"]
    for rows in bench.sizes:
        if rows == smallest:
            continue
        what = f"{store}: RssAnon of vb.ingest, {rows:,} x {bench.dim}, less what the store holds more"
        own = peaks["ingest_lines"][rows] - max(held[rows] - held[smallest], 0.0)
        first = peaks["ingest_lines"][smallest]
        yield Line("memory", what, "MiB", own, first, f"at {smallest:,} rows", LIMIT)


@contextmanager
def _place(bench: PipelineBench, store: str) -> Iterator[str]:
    """The URL of a store; an emulator runs in a process of its own, whose memory is not counted."""
    if store == "faiss":
        yield f"faiss:{bench.work / 'memory'}"
        return
    command = [sys.executable, "-P", "-m", "vecbridge.testing.pinecone", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emulator:
        try:
            assert emulator.stdout is not None
            yield emulator.stdout.readline().strip().replace("http://", "pinecone://")
        finally:
            emulator.terminate()


def _peak(bench: PipelineBench, job: str, url: str, rows: int) -> float:
    """The highest RssAnon of a process that writes so many rows, in MiB."""
    script = Path(__file__).with_name("child.py")
    name = f"c{uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-P", str(script), job, f"{url}#{name}", str(rows), str(bench.dim)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        highest = 0
        while process.poll() is None:
            highest = max(highest, anonymous(process.pid))
            time.sleep(_POLL_SECONDS)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed")
    return highest / _MIB
