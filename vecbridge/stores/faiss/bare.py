"""FAISS index files that were written without vecbridge: what they hold, row by row."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import faiss
import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.errors import (
    ConfigError,
    CorruptStoreError,
    Failure,
    InvalidRecordError,
    SchemaError,
    UnsupportedError,
)
from vecbridge.indexes import IndexParams
from vecbridge.query import FloatArray
from vecbridge.schema import CollectionSpec, Metric
from vecbridge.stores.faiss.indexes import described
from vecbridge.stores.faiss.log import Rows

_BLOCK_BYTES: Final = 32 << 20
_METRICS: Final = {
    faiss.METRIC_L2: (Metric.L2,),
    faiss.METRIC_INNER_PRODUCT: (Metric.DOT, Metric.COSINE),  # which of them, only their owner knows
}


class Vectors(Protocol):
    """Where the vectors of a file come from, in the order of its ids."""

    def read(self, start: int, stop: int) -> FloatArray:
        """Some rows; shape (stop - start, dim)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Bare:
    """An index file, opened.

    Attributes:
        path: The file.
        dim: Length of its vectors.
        metrics: What its scores may mean; the first is the guess where nothing is said.
        index: The parameters that describe it, Auto where none do.
        ids: int64 (n,), the ids that it knows its rows by; without any of its own, their positions.
        vectors: Where the vectors are; None if the file holds only an approximation of them.
        kind: FAISS's name for it.
    """

    path: Path
    dim: int
    metrics: tuple[Metric, ...]
    index: IndexParams
    ids: Rows
    vectors: Vectors | None
    kind: str

    def spec(self, name: str) -> CollectionSpec:
        """The spec of a collection that is like the file."""
        return CollectionSpec.single(
            name, dim=self.dim, metric=self.metrics[0], index=self.index, id_type="int64"
        )

    def require(self, spec: CollectionSpec) -> None:
        """Lets only a spec pass that the vectors fit.

        Raises:
            SchemaError: Another dim or metric, or several vector fields.
        """
        if len(spec.vectors) > 1:
            raise SchemaError(f"{spec.name!r} has several vector fields, and {self.path} holds one")
        if spec.vector.dim != self.dim:
            raise SchemaError(
                f"{self.path} has {self.dim} dimensions, and {spec.name!r} has {spec.vector.dim}"
            )
        if spec.vector.metric not in self.metrics:
            shown = " or ".join(self.metrics)
            raise SchemaError(f"{self.path} compares by {shown}, and {spec.name!r} by {spec.vector.metric}")

    def with_vectors(self, values: FloatArray | None) -> Vectors:
        """The caller's vectors, or those of the file.

        Raises:
            SchemaError: They are not one a row.
            UnsupportedError: There are neither.
        """
        if values is None:
            if self.vectors is None:
                hint = "give them as vectors=, one a row, or build the index from them"
                raise UnsupportedError("faiss", f"importing {self.kind}, which lost the vectors", hint)
            return self.vectors
        if values.shape != (len(self.ids), self.dim):
            raise SchemaError(
                f"vectors= has shape {values.shape}, and {self.path} ({len(self.ids)}, {self.dim})"
            )
        return _Given(values)

    def ids_for(self, spec: CollectionSpec, ids: Sequence[str | int] | None) -> pa.Array:
        """The id of each row, of the collection's type.

        Args:
            spec: What it is imported into.
            ids: By the index's own id, what is meant by it; None takes those, as text where ids are strings.

        Raises:
            SchemaError: They do not fit, or two rows have the same.
        """
        unique, counts = np.unique(self.ids, return_counts=True)
        if len(unique) < len(self.ids):
            raise SchemaError(f"{self.path} has several rows of id {unique[counts > 1][0]}")
        if ids is None:
            numbers = pa.array(self.ids)
            return numbers if spec.id_type == "int64" else numbers.cast(pa.string())
        if len(ids) != len(self.ids):
            raise SchemaError(f"{len(ids)} ids for the {len(self.ids)} rows of {self.path}")
        if len(unique) and (unique[0] < 0 or unique[-1] >= len(ids)):
            raise SchemaError(f"{self.path} has ids of its own, such as {unique[-1]}: leave ids= out")
        wanted = records.id_array(spec, ids)
        if len(wanted) < len(ids):
            raise SchemaError("ids= has repeats")
        return wanted.take(pa.array(self.ids))


def batches(
    spec: CollectionSpec, ids: pa.Array, vectors: Vectors, *, check: bool = False
) -> Iterator[pa.RecordBatch]:
    """The rows as batches of the spec; scalar fields are null.

    Args:
        spec: What they are for.
        ids: One a row.
        vectors: In the same order.
        check: Yields nothing, and refuses what upsert would, so that nothing is written before all is known.

    Raises:
        InvalidRecordError: NaN, Inf, a zero vector under cosine; names every row at fault.
    """
    rows = max(1, _BLOCK_BYTES // (4 * spec.vector.dim))
    failures = []
    for start in range(0, len(ids), rows):
        stop = min(start + rows, len(ids))
        values = vectors.read(start, stop)
        if not check:
            yield records.batch(spec, id=ids.slice(start, stop - start), **{spec.vector.name: values})
            continue
        for row, problem in records.bad_vectors(values, spec.vector.metric):
            failures.append(Failure(start + row, ids[start + row].as_py(), f"the vector {problem}"))
    if failures:
        first = failures[0]
        raise InvalidRecordError(f"{len(failures)} bad rows: row {first.row}: {first.error}", failures)


def read(path: str | os.PathLike[str]) -> Bare:
    """Opens an index file; mapped, so that it may be larger than the memory.

    Raises:
        ConfigError: There is no such file, or it may not be read.
        CorruptStoreError: FAISS cannot read it.
        UnsupportedError: A metric that no collection has.
    """
    place = Path(path)
    try:
        with place.open("rb"):
            pass
    except OSError as exc:
        raise ConfigError(f"{place}: {exc.strerror}") from exc
    try:
        index = faiss.read_index(str(place), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as exc:  # the only error that FAISS has
        raise CorruptStoreError(f"{place} is no index that FAISS can read: {exc}") from exc
    if index.metric_type not in _METRICS:
        raise UnsupportedError(
            "faiss", f"metric {index.metric_type} of {place}", "L2 and inner product are known"
        )
    ids, order = _ids(index)
    kind = type(index).__name__
    return Bare(
        place, index.d, _METRICS[index.metric_type], described(index), ids, _vectors(index, order), kind
    )


def _ids(index: Any) -> tuple[Rows, Rows | None]:
    """The ids of the rows; and of inverted lists, whose rows are read by id, where each of them is."""
    inner: Any = None
    match type(index).__name__:
        case "IndexIDMap" | "IndexIDMap2":
            own = faiss.vector_to_array(index.id_map)
            positions, places = _ids(faiss.downcast_index(index.index))
            return own[positions], places
        case "IndexPreTransform":
            inner = index.index
        case "IndexRefine" | "IndexRefineFlat":
            inner = index.base_index
    if inner is not None:
        return _ids(faiss.downcast_index(inner))
    if isinstance(index, faiss.IndexIVF) and index.ntotal:
        lists = index.invlists
        sizes = [lists.list_size(number) for number in range(index.nlist)]
        parts = [faiss.rev_swig_ptr(lists.get_ids(n), size).copy() for n, size in enumerate(sizes) if size]
        found = np.concatenate(parts)
        order = np.argsort(found, kind="stable")
        return found[order], order
    return np.arange(index.ntotal, dtype=np.int64), None


def _vectors(index: Any, order: Rows | None) -> Vectors | None:
    """Where an index keeps the whole vectors, None where it does not: some abort when asked for them."""
    inner: Any = None
    match type(index).__name__:
        case "IndexFlat" | "IndexFlatL2" | "IndexFlatIP":
            return _Flat(index)
        case "IndexIVFFlat":
            return _Lists(index, np.empty(0, np.int64) if order is None else order)
        case "IndexIDMap" | "IndexIDMap2":
            inner = index.index
        case "IndexHNSWFlat":
            inner = index.storage
        case "IndexRefine" | "IndexRefineFlat":
            inner, order = index.refine_index, None
    vectors = None if inner is None else _vectors(faiss.downcast_index(inner), order)
    if isinstance(vectors, _Flat):
        # the outer one owns the inner, and a graph can have been written without its vectors
        return _Flat(vectors.index, index) if vectors.index.ntotal == index.ntotal else None
    return _Lists(vectors.index, vectors.order, index) if isinstance(vectors, _Lists) else None


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    values: FloatArray

    def read(self, start: int, stop: int) -> FloatArray:
        return np.ascontiguousarray(self.values[start:stop], dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Flat:
    index: Any
    owner: Any = None

    def read(self, start: int, stop: int) -> FloatArray:
        values: FloatArray = self.index.reconstruct_n(start, stop - start)
        return values


@dataclass(frozen=True, slots=True, eq=False)
class _Lists:
    """Inverted lists of whole vectors, read in the order of their ids."""

    index: Any
    order: Rows
    owner: Any = None

    def read(self, start: int, stop: int) -> FloatArray:
        lists, dim = self.index.invlists, self.index.d
        ends = np.cumsum([lists.list_size(number) for number in range(self.index.nlist)])
        rows = self.order[start:stop]
        numbers = np.searchsorted(ends, rows, side="right")
        values = np.empty((len(rows), dim), np.float32)
        for number in np.unique(numbers).tolist():
            size = lists.list_size(number)
            codes = faiss.rev_swig_ptr(lists.get_codes(number), size * dim * 4).view(np.float32)
            mine = numbers == number
            values[mine] = codes.reshape(size, dim)[rows[mine] - (ends[number] - size)]
        return values
