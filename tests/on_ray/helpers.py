"""What the tests on Ray share: rows with known checksums, and sinks that can be watched and fail on order."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import vecbridge as vb
from vecbridge.integrations.ray import VecbridgeDatasink
from vecbridge.query import WriteReport
from vecbridge.records import vector_array
from vecbridge.testing.pinecone import Emulator

KEY = "pcsk_hunter2-hunter2"
DIM = 16


def spec(name: str = "photos", **changes: Any) -> vb.CollectionSpec:
    """A collection of small vectors and a year."""
    return vb.CollectionSpec.single(
        name, **({"dim": DIM, "metric": "l2", "fields": {"year": "int64"}} | changes)
    )


def url_of(emulator: Emulator) -> str:
    """The URL of an emulated Pinecone."""
    return emulator.host.replace("http://", "pinecone://")


def rows(count: int, start: int = 0, dim: int = DIM) -> pa.Table:
    """Records with random vectors, the same in each call; years from 2000 to 2019."""
    vectors = np.random.default_rng(start).standard_normal((count, dim)).astype(np.float32)
    numbers = range(start, start + count)
    return pa.table(
        {
            "id": [f"row-{number:07}" for number in numbers],
            "vector": vector_array(vectors),
            "year": [2000 + number % 20 for number in numbers],
        }
    )


def parquet(folder: Path, count: int, files: int, dim: int = DIM) -> list[str]:
    """Writes the rows into files of equal size."""
    folder.mkdir()
    paths = []
    for number in range(files):
        each = count // files
        paths.append(str(folder / f"{number:03}.parquet"))
        pq.write_table(rows(each, number * each, dim), paths[-1])
    return paths


def checksums(tables: Iterable[pa.Table]) -> dict[str, str]:
    """A digest of vector and year by id; fails where an id comes twice."""
    found: dict[str, str] = {}
    for table in tables:
        vectors = table.column("vector").combine_chunks().flatten().to_numpy().reshape(len(table), -1)
        ids, years = table.column("id").to_pylist(), table.column("year").to_pylist()
        for key, vector, year in zip(ids, vectors, years, strict=True):
            assert key not in found, f"{key} comes twice"
            found[key] = hashlib.sha256(vector.tobytes() + str(year).encode()).hexdigest()
    return found


def stored(url: str, name: str = "photos", **options: Any) -> dict[str, str]:
    """The checksums of what a collection holds."""
    with vb.connect(url, **options) as store, store.open(name) as opened:
        return checksums(pa.Table.from_batches([page.batch]) for page in opened.scan())


def upserted(emulator: Emulator) -> int:
    """Rows of the upserts that the emulator has acknowledged."""
    return sum(request.rows for request in emulator.log.requests("upsert", 200))


class Watched(VecbridgeDatasink):
    """A sink of which each attempt at a task leaves a file with the number of the task and its process.

    The name of the file ends in ``-done`` from the end of the attempt on.
    """

    def __init__(self, attempts: Path, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.attempts = attempts

    def write(self, blocks: Any, ctx: Any) -> WriteReport:
        """Leaves the file, then writes."""
        attempt = self.attempts / f"{ctx.task_idx}-{os.getpid()}-{uuid.uuid4().hex}"
        attempt.touch()
        report = super().write(blocks, ctx)
        attempt.rename(f"{attempt}-done")
        return report


class Failing(Watched):
    """A sink whose tasks fail once so many attempts were made."""

    good = 3

    def write(self, blocks: Any, ctx: Any) -> WriteReport:
        """Writes, or fails."""
        if len(list(self.attempts.iterdir())) >= self.good:
            raise RuntimeError("this task was told to fail")
        return super().write(blocks, ctx)


def attempts_by_task(attempts: Path) -> dict[int, int]:
    """How often each task was begun."""
    found: dict[int, int] = {}
    for path in attempts.iterdir():
        task = _task(path.name)
        found[task] = found.get(task, 0) + 1
    return found


def _task(attempt: str) -> int:
    return int(attempt.partition("-")[0])


class Killer:
    """Kills the process of a task that is under way, the last one, as soon as a condition holds.

    Args:
        attempts: Where the sink notes its processes.
        reached: Whether the write is in its middle.
    """

    def __init__(self, attempts: Path, reached: Callable[[], bool]) -> None:
        self.killed: int | None = None
        self._attempts, self._reached = attempts, reached
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.is_set():
            if self._reached() and (under_way := self._under_way()):
                pid = int(under_way[-1].split("-")[1])
                os.kill(pid, signal.SIGKILL)
                if (
                    under_way[-1] in self._under_way()
                ):  # else it was done in time, and nothing was interrupted
                    self.killed = pid
                    return
            time.sleep(0.005)

    def _under_way(self) -> list[str]:
        """The names of the attempts that are not done, by task."""
        names = [path.name for path in self._attempts.iterdir()]
        return sorted((name for name in names if not name.endswith("-done")), key=_task)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
