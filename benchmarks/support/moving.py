"""What the benchmarks of migrations share: sizes, records, and a copy beside the same by hand in series."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

import vecbridge as vb
from support import data
from support.harness import Line, Samples, in_turns, paired, seconds
from support.harness import Target as Judged
from support.servers import require
from vecbridge.indexes import IndexParams

NAME = "bench"
ALLOWED = ("index", "quantization")  # such as a graph that milvus-lite does not build
WAIT_SECONDS = 600
FLAT = vb.Flat()


@dataclass
class MovingBench:
    """One run.

    Attributes:
        rows: Rows of what is copied from and to servers.
        dim: Their dimension.
        rounds: Pairs of a copy and its baseline.
        work: Where the data goes; removed at the end.
        weaviate: A server that is running; None starts one if there is one.
        milvus: The same of Milvus.
        details: What goes into the JSON beside the lines.
    """

    rows: int
    dim: int
    rounds: int
    work: Path
    weaviate: str | None = None
    milvus: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def parameters(self) -> dict[str, Any]:
        """What a reader needs to repeat the run."""
        return {"rows": self.rows, "dim": self.dim, "rounds": self.rounds, "data": self.mixture.parameters}

    @cached_property
    def mixture(self) -> data.Mixture:
        return data.Mixture(self.dim)

    def batches(self, rows: int | None = None) -> Iterator[pa.RecordBatch]:
        """The records, in batches of 10,000."""
        return data.chunks(self.spec(vb.Flat()), self.mixture, self.rows if rows is None else rows)

    def spec(self, index: IndexParams) -> vb.CollectionSpec:
        """The collection that is copied."""
        return data.spec(NAME, self.dim, index)

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """An empty directory that goes when it is left."""
        path = self.work / f"{next(self._numbers)}"
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path)

    @cached_property
    def faiss(self) -> str:
        """URL of a FAISS collection of the records, without an index."""
        return self.filled("faiss", self.rows)

    def filled(self, scheme: str, rows: int, index: IndexParams = FLAT) -> str:
        """URL of a collection in files, with some rows; it stays until the end of the run."""
        path = self._open.enter_context(self.directory())
        url = f"{scheme}://{path}"
        with vb.connect(url) as store:
            collection = store.create(self.spec(index))
            for batch in self.batches(rows):
                collection.upsert(batch)
            collection.flush(WAIT_SECONDS)
            collection.wait_ready(WAIT_SECONDS)
        return f"{url}#{NAME}"

    def rates(self, times: Sequence[float]) -> Samples:
        """Rows a second, of the seconds that all of them took."""
        return Samples(tuple(self.rows / each for each in times))

    def close(self) -> None:
        """Removes what was filled."""
        self._open.close()


def copied(bench: MovingBench, source: str, target: str, rows: int) -> float:
    """Seconds of one migration with a journal, from the call to its return."""
    with bench.directory() as path:
        os.sync()  # what the one before left to be written is not this one's to wait for
        reports: list[vb.MigrationReport] = []

        def migrate() -> None:
            reports.append(vb.migrate(source, target, allow=ALLOWED, journal=path / "journal", wait=0))

        taken = seconds(migrate)
    require(reports[0].written, rows, "copied")
    return taken


def in_series(source: str, target: str, rows: int) -> float:
    """Seconds of the same by hand: a scan of everything, then a write of everything, and a flush."""
    pages: list[pa.RecordBatch] = []
    address, _, name = target.partition("#")

    def move() -> None:
        with vb.open(source) as collection:
            spec = replace(collection.spec, name=name)
            pages.extend(page.batch for page in collection.scan())
        with vb.connect(address) as store:
            target = store.create(store.capabilities.nearest(spec)[0])
            vb.write(target, pages)
            target.flush(WAIT_SECONDS)

    os.sync()
    taken = seconds(move)
    require(sum(page.num_rows for page in pages), rows, "scanned")
    return taken


@contextmanager
def served(store: vb.Store) -> Iterator[str]:
    """URL of a collection that is not there yet, and is dropped afterwards."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    try:
        yield f"{store.url}#{name}"
    finally:
        with suppress(vb.NotFoundError):  # what fails before it makes one says why
            store.drop(name)


@contextmanager
def in_files(bench: MovingBench, scheme: str) -> Iterator[str]:
    """The same in an empty directory."""
    with bench.directory() as path:
        yield f"{scheme}://{path}#{NAME}"


#: Makes the URL of a target that is not there yet, and removes it afterwards.
Target = Callable[[], AbstractContextManager[str]]


def to(target: Target, move: Callable[[str], float]) -> float:
    """Seconds of something that fills a fresh target."""
    with target() as url:
        return move(url)


def beside_series(
    bench: MovingBench, section: str, what: str, source: str, target: Target,
    others: Mapping[str, Callable[[], float]] | None = None,
) -> tuple[list[Line], dict[str, Samples]]:  # fmt: skip
    """Migrations in turns with scan and write in series, and with others.

    Returns:
        The line, and the rates of all.
    """
    actions: dict[str, Callable[[], float]] = {
        "own": lambda: to(target, lambda url: copied(bench, source, url, bench.rows)),
        "series": lambda: to(target, lambda url: in_series(source, url, bench.rows)),
        **(others or {}),
    }
    in_turns(actions, 1)  # imports, page cache
    rates = {name: bench.rates(times) for name, times in in_turns(actions, bench.rounds).items()}
    line = paired(
        section, what, "rows/s", rates["own"], rates["series"], "scan, then vb.write and flush",
        Judged("ratio", ">=", 0.9),
    )  # fmt: skip
    return [line], rates
