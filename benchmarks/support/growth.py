"""How far the anonymous memory of a migration grows with the rows: a fresh process for each."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import vecbridge as vb
from support.harness import Line, Samples, Target, compared, in_turns
from support.moving import ALLOWED, MovingBench, in_files, served
from support.pairs import weaviate_server
from support.resident import anonymous

TIMES_LARGER = 10
ROUNDS = 3
LIMIT = Target("difference", "<=", 32)
_POLL_SECONDS = 0.005
_MIB = 2**20


def memory(bench: MovingBench) -> list[Line]:
    """FAISS → snapshot, and snapshot → a genuine Weaviate, whose own memory is not counted."""
    sizes = (bench.rows, TIMES_LARGER * bench.rows)
    lines = [_grown(bench, "FAISS → snapshot", "faiss", sizes, partial(in_files, bench, "snapshot"))]
    with weaviate_server(bench) as server:
        if server is not None:
            target = partial(served, server.store)
            lines.append(_grown(bench, "snapshot → Weaviate", "snapshot", sizes, target))
    return lines


def _grown(
    bench: MovingBench, what: str, scheme: str, sizes: tuple[int, int],
    target: Callable[[], AbstractContextManager[str]],
) -> Line:  # fmt: skip
    sources = {str(rows): bench.filled(scheme, rows) for rows in sizes}
    runs = {rows: partial(_peak, bench, source, target) for rows, source in sources.items()}
    small, large = (Samples(tuple(peaks)) for peaks in in_turns(runs, ROUNDS).values())
    return compared(
        "memory", f"{what}, RssAnon at {sizes[1]:,} rows", "MiB", large, small, f"at {sizes[0]:,} rows", LIMIT
    )


def _peak(bench: MovingBench, source: str, target: Callable[[], AbstractContextManager[str]]) -> float:
    """The highest RssAnon of a process that migrates, in MiB."""
    script = Path(__file__).with_name("child.py")
    with bench.directory() as path, target() as url:
        # -P: else `import weaviate` would find the module beside the script
        command = [sys.executable, "-P", str(script), "migrate", source, url, str(path / "journal"), *ALLOWED]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            highest = 0
            while process.poll() is None:
                highest = max(highest, anonymous(process.pid))
                time.sleep(_POLL_SECONDS)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed")
        with vb.open(source) as before, vb.open(url) as after:
            if before.count() != after.count():
                raise RuntimeError(f"{url} has {after.count()} rows, and {source} has {before.count()}")
    return highest / _MIB
