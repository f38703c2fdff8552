"""What the sections share: sizes, the work directory, the records, and the collection with its index."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

import vecbridge as vb
from support import data
from vecbridge.query import FloatArray
from vecbridge.store import Collection

M, EF_CONSTRUCTION, EF = 16, 200, 64
HNSW = vb.HNSW(m=M, ef_construction=EF_CONSTRUCTION)
NAME = "bench"


@dataclass
class Bench:
    """One run.

    Attributes:
        rows: Rows of the ordinary collections.
        dim: Their dimension.
        rounds: How often whatever takes seconds is repeated.
        work: Where the data goes; removed at the end.
        large_rows: Rows of the collection that is opened and filtered.
        large_dim: Its dimension.
        large_index: "ivf", "hnsw" or "flat".
        details: What goes into the JSON beside the lines.
    """

    rows: int
    dim: int
    rounds: int
    work: Path
    large_rows: int
    large_dim: int
    large_index: str
    details: dict[str, Any] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)
    _numbers: Iterator[int] = field(default_factory=count)

    @cached_property
    def mixture(self) -> data.Mixture:
        return data.Mixture(self.dim)

    @cached_property
    def spec(self) -> vb.CollectionSpec:
        return data.spec(NAME, self.dim, HNSW)

    @cached_property
    def chunks(self) -> list[pa.RecordBatch]:
        """The records in batches of 10,000."""
        return list(data.chunks(self.spec, self.mixture, self.rows))

    def batches(self, rows: int) -> list[pa.RecordBatch]:
        """The same records in smaller batches."""
        return [chunk.slice(start, rows) for chunk in self.chunks for start in range(0, chunk.num_rows, rows)]

    @cached_property
    def vectors(self) -> FloatArray:
        """Every vector, float32 (rows, dim), of unit length."""
        return np.concatenate([vb.vectors(chunk) for chunk in self.chunks])

    @cached_property
    def queries(self) -> FloatArray:
        """1,000 query vectors from everywhere."""
        return self.mixture.queries(1000)

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
    def collection(self) -> Collection:
        """The records behind an HNSW index, opened anew after it was built."""
        path = self._open.enter_context(self.directory())
        with vb.connect(f"faiss://{path}") as store:
            built = store.create(self.spec)
            for chunk in self.chunks:
                built.upsert(chunk)
            built.wait_ready()
        return self._open.enter_context(vb.open(f"faiss://{path}#{NAME}"))

    @cached_property
    def raw_index(self) -> Any:
        """The same vectors in a FAISS index of the same parameters."""
        index = raw_hnsw(self.dim)
        index.add(self.vectors)
        return index

    def close(self) -> None:
        """Closes what was opened."""
        self._open.close()


def raw_hnsw(dim: int) -> Any:
    """An empty FAISS index with vecbridge's parameters."""
    index = faiss.IndexHNSWFlat(dim, M, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EF_CONSTRUCTION
    return index


def exact_top(vectors: FloatArray, queries: FloatArray, k: int) -> np.ndarray:
    """By brute force, the rows of the best k; int64 (n, min(k, rows))."""
    k = min(k, len(vectors))
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    rows: np.ndarray = flat.search(queries, k)[1]
    return rows
