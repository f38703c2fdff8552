"""FAISS indexes over a range of rows: built, written, read back, searched. All of them can be rebuilt.

An HNSW graph is written without its vectors (about 144 bytes a row at m=16) and reads them from the
truth, or from a file of unit vectors where cosine needs that. IVF indexes are whole FAISS files.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np

from vecbridge.indexes import HNSW, IVFPQ, IVFSQ8, Auto, Flat, IndexParams, IVFFlat
from vecbridge.query import FloatArray
from vecbridge.schema import Metric, VectorField
from vecbridge.stores.faiss import gpu
from vecbridge.stores.faiss.exact import Candidates
from vecbridge.stores.faiss.lists import Lists
from vecbridge.stores.faiss.rows import Mask

AUTO_FROM: Final = 20_000  # rows below which Auto searches exactly: it takes a few milliseconds
_POINTS_PER_CENTROID: Final = 39  # FAISS warns below that many training points
_TRAINING_POINTS: Final = 256  # and samples down to that many, a centroid
_DEFAULT_EF: Final = 96  # 64 finds 0.96 of the true ten in 6,000 random vectors of 48 dimensions, 96 0.98
_PROBED_ROWS: Final = 16_384  # rows in the lists that a query visits, at least: a millisecond
_PROBED_SHARE: Final = 1 / 16  # share of the lists that a query visits, at least
_CHECKED_WHOLE: Final = 256 << 20
_CHECKED_BLOCK: Final = 1 << 20


def plan(field: VectorField) -> HNSW | IVFFlat | IVFSQ8 | IVFPQ | None:
    """The index that a field gets; None is exact search."""
    index = field.index
    if isinstance(index, Auto):
        return HNSW()
    return index if isinstance(index, HNSW | IVFFlat | IVFSQ8 | IVFPQ) else None


def rows_needed(field: VectorField) -> int:
    """How many live rows there must be before the index can be built."""
    index = plan(field)
    if isinstance(field.index, Auto):
        return AUTO_FROM
    if isinstance(index, IVFPQ):
        return _POINTS_PER_CENTROID * max(index.nlist, 1 << index.nbits)
    if isinstance(index, IVFFlat | IVFSQ8):
        return _POINTS_PER_CENTROID * index.nlist
    return 1


def training_rows(field: VectorField) -> int:
    """How many rows training looks at; 0 where an index needs no training."""
    index = plan(field)
    return 0 if isinstance(index, HNSW) else _TRAINING_POINTS * rows_needed(field) // _POINTS_PER_CENTROID


def new(field: VectorField) -> Any:
    """An empty index of the field's kind; IVF is not trained yet."""
    index = plan(field)
    metric = faiss.METRIC_L2 if field.metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT
    if isinstance(index, HNSW):
        graph = faiss.IndexHNSWFlat(field.dim, index.m, metric)
        graph.hnsw.efConstruction = index.ef_construction
        return graph
    quantizer = faiss.IndexFlat(field.dim, metric)
    if isinstance(index, IVFFlat):
        lists = faiss.IndexIVFFlat(quantizer, field.dim, index.nlist, metric)
    elif isinstance(index, IVFSQ8):
        kind = faiss.ScalarQuantizer.QT_8bit
        lists = faiss.IndexIVFScalarQuantizer(quantizer, field.dim, index.nlist, kind, metric)
    elif isinstance(index, IVFPQ):
        lists = faiss.IndexIVFPQ(quantizer, field.dim, index.nlist, index.m, index.nbits, metric)
    else:
        raise AssertionError(f"{field.index} has no FAISS index")
    lists.own_fields = True
    quantizer.this.disown()
    return lists


def described(index: Any) -> IndexParams:
    """The parameters of a FAISS index, as it says them itself; Auto where none of ours describe it."""
    match index:
        case faiss.IndexIDMap():
            return described(faiss.downcast_index(index.index))
        case faiss.IndexHNSWFlat():
            return HNSW(m=index.hnsw.nb_neighbors(1), ef_construction=index.hnsw.efConstruction)
        case faiss.IndexIVFFlat():
            return IVFFlat(nlist=index.nlist)
        case faiss.IndexIVFScalarQuantizer() if index.sq.qtype == faiss.ScalarQuantizer.QT_8bit:
            return IVFSQ8(nlist=index.nlist)
        case faiss.IndexIVFPQ():
            return IVFPQ(nlist=index.nlist, m=index.pq.M, nbits=index.pq.nbits)
        case faiss.IndexFlat():
            return Flat()
        case _:
            return Auto()


def built(field: VectorField, opened: Sequence[Loaded]) -> IndexParams | None:
    """The index that a field has: None where its rows are still compared one by one.

    Args:
        field: The vector field.
        opened: Its index files, which are left out where they are damaged or were built otherwise.
    """
    if isinstance(field.index, Flat):
        return field.index
    if not opened:
        return None
    return described(opened[0].index)


def write(index: Any, path: Path) -> None:
    """Writes an index; an HNSW graph without its vectors."""
    flags = faiss.IO_FLAG_SKIP_STORAGE if isinstance(index, faiss.IndexHNSW) else 0
    with path.open("wb") as file:  # FAISS's own writer says nothing of what fails when it closes the file
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write), flags)


def checksum(path: Path) -> int:
    """CRC-32 of an index file; of 64 blocks spread over it where it is larger than 256 MB."""
    size = path.stat().st_size
    crc = 0
    with path.open("rb") as file:
        if size <= _CHECKED_WHOLE:
            while block := file.read(_CHECKED_BLOCK):
                crc = zlib.crc32(block, crc)
            return crc
        for position in np.linspace(0, size - _CHECKED_BLOCK, 64).astype(np.int64).tolist():
            file.seek(position)
            crc = zlib.crc32(file.read(_CHECKED_BLOCK), crc)
    return crc


@dataclass(frozen=True, slots=True, eq=False)
class Selector:
    """Which rows of an index FAISS may return.

    Attributes:
        bitmap: The same as FAISS takes it.
        bits: The memory that it reads.
        params: What FAISS is given with a query, by breadth, kept for the next one.
    """

    bitmap: Any
    bits: np.ndarray[Any, np.dtype[np.uint8]]
    params: dict[int, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, allowed: Mask) -> Selector:
        """The rows that are allowed, of all of an index."""
        bits = np.packbits(allowed, bitorder="little")
        return cls(faiss.IDSelectorBitmap(bits), bits)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Loaded:
    """An index over rows first to first + rows, open for searching.

    Attributes:
        index: The FAISS index.
        first: First row that it covers.
        rows: How many.
        storage: What a graph reads its vectors from; held so that the mapped memory stays.
        lists: Where its rows are in the space; None of a small index, and where the file is lost.
        on_gpu: The same index on a GPU, which answers instead.
    """

    index: Any
    first: int
    rows: int
    storage: tuple[Any, ...] = ()
    lists: Lists | None = None
    on_gpu: gpu.GpuLists | None = None
    _params: dict[int, Any] = dataclasses.field(default_factory=dict)

    def search(
        self, queries: FloatArray, k: int, breadth: int, selector: Selector | None = None
    ) -> Candidates:
        """The best k rows that the index finds.

        Args:
            queries: As prepared.
            k: How many.
            breadth: ef of a graph, nprobe of lists.
            selector: Which rows it may return; None for all.
        """
        breadth = max(breadth, k) if self.is_graph else min(breadth, self.index.nlist)
        known = self._params if selector is None else selector.params
        if (params := known.get(breadth)) is None:
            params = known[breadth] = self._parameters(breadth, selector)
        index = self.index if self.on_gpu is None else self.on_gpu
        distances, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        pointers = (faiss.swig_ptr(distances), faiss.swig_ptr(rows))
        index.search_c(
            len(queries), faiss.swig_ptr(queries), k, *pointers, params
        )  # search() checks all again
        if self.index.metric_type != faiss.METRIC_L2:
            np.negative(distances, out=distances)
        if self.first:
            rows[rows >= 0] += self.first
        return Candidates(rows, distances)

    def _parameters(self, breadth: int, selector: Selector | None) -> Any:
        some = {} if selector is None else {"sel": selector.bitmap}
        if self.is_graph:
            return faiss.SearchParametersHNSW(efSearch=breadth, **some)
        return faiss.SearchParametersIVF(nprobe=breadth, **some)

    @property
    def is_graph(self) -> bool:
        """Whether breadth is ef; it is nprobe otherwise."""
        return isinstance(self.index, faiss.IndexHNSW)

    def share(self, nprobe: int, rows: int) -> int:
        """How many of some rows are in as many lists, about."""
        return min(rows, math.ceil(rows * nprobe / int(self.index.nlist)))

    def default_breadth(self, k: int) -> int:
        """The breadth of a query that asks for none.

        Where vectors have no clusters, most lists hold some of the true neighbours, whatever ``nlist`` is: of
        random vectors of 48 dimensions a quarter of the lists finds 0.71, a half 0.91, three quarters 0.98.
        So lists are visited until they hold as many rows as can be compared in about a millisecond; of a
        collection that is smaller, all of them.
        """
        if self.is_graph:
            return max(_DEFAULT_EF, 2 * k)
        share = max(_PROBED_SHARE, max(_PROBED_ROWS, 32 * k) / max(1, self.rows))
        nlist = int(self.index.nlist)
        return min(nlist, math.ceil(share * nlist))


def load_graph(path: Path, first: int, vectors: FloatArray) -> Loaded:
    """Opens an HNSW graph over vectors that stay where they are.

    FAISS wants its own storage object; this one is a view of ``vectors``. Never call add() on it: FAISS
    aborts the process when it must grow memory that it does not own.
    """
    graph = faiss.read_index(str(path))
    flat = faiss.IndexFlat(graph.d, graph.metric_type)
    data = vectors.view(np.uint8).reshape(-1)
    flat.codes = faiss.MaybeOwnedVectorUInt8.create_view(faiss.swig_ptr(data), data.nbytes, flat.codes.owner)
    flat.ntotal = len(vectors)
    graph.storage = flat
    graph.own_fields = False
    return Loaded(graph, first, len(vectors), (flat, vectors))


def load_lists(path: Path, first: int, rows: int, device: str) -> Loaded:
    """Opens an IVF index, mapped into memory, and on the GPU where that is asked for."""
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    return Loaded(index, first, rows, on_gpu=gpu.for_search(index, device))


def load_for_adding(path: Path, vectors: FloatArray) -> Any:
    """Reads an index back into memory that FAISS owns, so that rows can be added.

    Args:
        path: The file.
        vectors: What the index covers, as it is compared.
    """
    index = faiss.read_index(str(path))
    if isinstance(index, faiss.IndexHNSW):
        flat = faiss.IndexFlat(index.d, index.metric_type)
        flat.add(np.ascontiguousarray(vectors))
        index.storage = flat
        index.own_fields = True
        flat.this.disown()
    return index
