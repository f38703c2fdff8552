"""What the sections of bulk.py share: sizes, the work directory, and vb.write beside hand-written loops."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from rich.console import Console

import vecbridge as vb
from support import data
from support.harness import Line, Samples, Target, in_turns, paired
from vecbridge.indexes import IndexParams

FINALISTS: Final = 2  # one try alone would leave the choice to chance
LEAST: Final = Target("ratio", ">=", 0.95)


@dataclass
class BulkBench:
    """One run.

    Attributes:
        rows: Rows that are written.
        dim: Their dimension.
        rounds: Repetitions.
        work: Where the data goes; removed at the end.
        backends: Which are measured; None is all.
        weaviate: A server that is running; None starts one if there is one.
        milvus: The same of Milvus.
        details: What goes into the JSON beside the lines.
    """

    rows: int
    dim: int
    rounds: int
    work: Path
    backends: Sequence[str] | None = None
    weaviate: str | None = None
    milvus: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def parameters(self) -> dict[str, Any]:
        """What a reader needs to repeat the run."""
        return {"rows": self.rows, "dim": self.dim, "rounds": self.rounds, "data": self.mixture.parameters}

    @cached_property
    def mixture(self) -> data.Mixture:
        return data.Mixture(self.dim)

    def spec(self, index: IndexParams) -> vb.CollectionSpec:
        """The collection that is written."""
        return data.spec("bench", self.dim, index)

    @cached_property
    def batches(self) -> list[pa.RecordBatch]:
        """The records, in batches of 10,000."""
        return list(data.chunks(self.spec(vb.Flat()), self.mixture, self.rows))

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """An empty directory that goes when it is left."""
        path = self.work / f"{next(self._numbers)}"
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path)


def beside(
    bench: BulkBench, what: str, own: Callable[[], float], forms: Mapping[str, Callable[[], float]]
) -> Line:
    """vb.write beside the fastest of some hand-written loops.

    Every form is tried once; the fastest take turns with vecbridge, and the best median of them counts.

    Args:
        bench: The run; the rates of all forms go into its details.
        what: What is written where.
        own: Writes everything by vecbridge; returns the seconds that it took.
        forms: By name, the same by the database's own client.
    """
    tried = {name: form() for name, form in forms.items()}
    fastest = sorted(tried, key=lambda name: tried[name])[:FINALISTS]
    times = in_turns({"vecbridge": own} | {name: forms[name] for name in fastest}, bench.rounds)
    rates = {name: Samples(tuple(bench.rows / each for each in some)) for name, some in times.items()}
    bench.details[f"rows_per_s: {what}"] = {name: round(bench.rows / taken) for name, taken in tried.items()}
    best = max(fastest, key=lambda name: rates[name].median)
    Console(stderr=True).print(
        f"  {what}: {rates['vecbridge'].median:,.0f} and {rates[best].median:,.0f} rows/s"
    )
    return paired("throughput", what, "rows/s", rates["vecbridge"], rates[best], best, LEAST)
