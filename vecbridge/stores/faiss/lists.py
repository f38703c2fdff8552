"""The rows of a segment by their place in the space: coarse lists, kept in a file beside the index.

Searches under a filter visit them (:mod:`.walk`), whatever the index is. They are made by k-means over a
sample; each row is in the list of its nearest centroid. Many small lists tell more exactly than few large
ones how far their rows are: of 100,000 rows in 1,000 lists, a search from amid the matches compares 3,000,
and more than three times as many of 316 lists. The file is derived from the vectors: one that is missing or
damaged costs time and nothing else, and the writer makes it again.

A list does not only say where its rows are but how they scatter, so that a search can tell how far the rows
of a list will be that it has not looked at: the mean of their distances, and the deviation from it. In a
large segment fewer rows are near than the normal distribution makes expect; how many times fewer is measured
when the lists are made.
"""

from __future__ import annotations

import dataclasses
import math
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np

from vecbridge.errors import CorruptStoreError
from vecbridge.query import FloatArray
from vecbridge.schema import Metric
from vecbridge.stores.faiss import exact
from vecbridge.stores.faiss.exact import LONGEST, FieldVectors
from vecbridge.stores.faiss.log import Rows

LISTS_FROM: Final = 8192  # rows below which a segment has no lists: all are compared in half a millisecond
_LISTS: Final = 3  # times the square root of the rows: so many lists
_MOST_LISTS: Final = 4096
_SAMPLE: Final = 10  # rows of a list that k-means looks at
_ITERATIONS: Final = 4
_RESIDUALS: Final = 128  # rows whose deviation from their centroid stands for that of all
_BLOCK: Final = 8192
_ASKED: Final = 32  # rows from which it is measured how many more rows are expected nearby than there are
_RANKS: Final = (10, 100)  # where that is measured
_LEAST_DEVIATION: Final = float(np.finfo(np.float32).tiny)
_LARGEST_EXPONENT: Final = 700.0  # whose exponential is finite
_MAGIC: Final = b"VBLISTS2"
_HEADER: Final = struct.Struct("<8sIIQQQQ")  # magic, crc of the rest, 0, rows, lists, dim, residuals

Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Lists:
    """The lists of one segment; c lists, n rows, s residuals.

    Attributes:
        centroids: float32 (c, dim), the means of the lists, of vectors as they are compared.
        squares: float64 (c,), mean squared distance of a list's rows from its centroid.
        variances: float64 (c,), the variance of those squared distances.
        residuals: float32 (s, dim), deviations of some rows from their centroid, divided by the root of
            ``squares``.
        starts: int64 (c + 1,), where each list begins in ``order``.
        order: int32 (n,), the rows of the segment, counted from its first one, list by list.
        excess: float64 (2,), how many times more rows are expected within the distance of the 10th and of the
            100th best than there are.
    """

    centroids: FloatArray
    squares: Numbers
    variances: Numbers
    residuals: FloatArray
    starts: Rows
    order: np.ndarray[Any, np.dtype[np.int32]]
    excess: Numbers

    @cached_property
    def sizes(self) -> Rows:
        """How many rows each list has."""
        return np.diff(self.starts)

    @cached_property
    def _spread(self) -> Numbers:
        return np.sqrt(self.squares)

    @cached_property
    def _projected(self) -> tuple[FloatArray, Numbers]:
        """Each centroid along each residual, float32 (c, s), and the mean squares of that by list."""
        projected = self.centroids @ self.residuals.T
        return projected, np.square(projected, dtype=np.float64).mean(axis=1)

    def excess_at(self, k: int) -> float:
        """How many times more rows are expected within the distance of the k-th best than there are."""
        low, high = _RANKS
        share = math.log(min(max(k, low), high) / low) / math.log(high / low)
        return float(self.excess[0] ** (1 - share) * self.excess[1] ** share)

    def predicted(self, query: FloatArray, metric: Metric) -> tuple[Numbers, Numbers]:
        """Mean and standard deviation, never 0, of the distances between a query and the rows of each list.

        A row is its centroid and a residual, so that its inner product with the query is that of the centroid
        plus that of the residual, whose deviation the sample of residuals tells.

        Args:
            query: As it is compared, of shape (dim,).
            metric: The field's; a distance is the negated score where higher scores are better.
        """
        along = _products(self.residuals, query)
        if metric is not Metric.L2:
            deviations = self._spread * np.sqrt(np.square(along, dtype=np.float64).mean())
            means = -_products(self.centroids, query).astype(np.float64)
            return means, np.maximum(deviations, _LEAST_DEVIATION)
        distances = np.empty(len(self.centroids), np.float32)
        pointers = (faiss.swig_ptr(array) for array in (distances, query, self.centroids))
        faiss.fvec_L2sqr_ny(*pointers, len(query), len(distances))
        projected, squares = self._projected
        mixed = _products(projected, along).astype(np.float64) / len(along)
        scatter = np.maximum(np.square(along, dtype=np.float64).mean() - 2 * mixed + squares, 0)
        deviations = np.sqrt(4 * self.squares * scatter + self.variances)
        return distances + self.squares, np.maximum(deviations, _LEAST_DEVIATION)


def expected(counts: Rows, means: Numbers, deviations: Numbers, worst: float) -> float:
    """How many matches of some lists are expected to be nearer than a distance.

    Args:
        counts: Matches of each list.
        means: Of their distances, by list.
        deviations: Of the same; none is 0.
        worst: The distance.
    """
    chances = _normal((worst - means) / deviations)
    return float(chances @ counts)


def _normal(deviations: Numbers) -> Numbers:
    """The normal distribution function, within 0.0002.

    Bowling et al. (2009), doi:10.3926/jiem.2009.v2n1.p114-127.
    """
    exponents = np.square(deviations)
    exponents *= -0.07056
    exponents -= 1.5976
    exponents *= deviations
    np.minimum(exponents, _LARGEST_EXPONENT, out=exponents)
    np.exp(exponents, out=exponents)
    exponents += 1
    return np.reciprocal(exponents, out=exponents)


def _products(vectors: FloatArray, query: FloatArray) -> FloatArray:
    """The inner product of each vector with the query, without the threads that NumPy starts for it."""
    products = np.empty(len(vectors), np.float32)
    pointers = (faiss.swig_ptr(array) for array in (products, query, vectors))
    faiss.fvec_inner_products_ny(*pointers, vectors.shape[1], len(vectors))
    return products


def built(stored: FieldVectors, first: int, stop: int) -> Lists:
    """Makes the lists of the rows of a segment, dead ones too.

    Args:
        stored: The vectors of the field.
        first: First row of the segment.
        stop: The row behind its last.
    """
    rows = stop - first
    count = min(_MOST_LISTS, int(_LISTS * rows**0.5))
    random = np.random.default_rng(0)
    some = first + np.sort(random.choice(rows, min(rows, _SAMPLE * count), replace=False))
    dim = stored.values.shape[1]
    means = faiss.Kmeans(dim, count, niter=_ITERATIONS, seed=1, min_points_per_centroid=1)
    means.train(comparable(stored, stored.values[some]))
    labels = np.empty(rows, np.int32)
    half = np.square(means.centroids).sum(axis=1) / 2
    sums = np.zeros((count, dim))
    for low in range(0, rows, _BLOCK):
        block = comparable(stored, stored.values[first + low : min(first + low + _BLOCK, stop)])
        part = labels[low : low + _BLOCK] = np.argmax(block @ means.centroids.T - half, axis=1)
        _add(sums, part, block)
    sizes = np.bincount(labels, minlength=count)
    centroids = (sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)
    squares, variances = _scatter(stored, first, labels, centroids, sizes)
    sample = np.sort(random.choice(rows, min(rows, _RESIDUALS), replace=False))
    spread = np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny)).astype(np.float32)
    residuals = comparable(stored, stored.values[first + sample]) - centroids[labels[sample]]
    residuals /= spread[labels[sample]][:, None]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    order = np.argsort(labels, kind="stable").astype(np.int32)
    made = Lists(centroids, squares, variances, residuals, starts, order, np.ones(len(_RANKS)))
    asked = first + np.sort(random.choice(rows, min(rows, _ASKED), replace=False))
    return dataclasses.replace(made, excess=_excess(made, stored, asked, np.arange(first, stop)))


def _excess(lists: Lists, stored: FieldVectors, asked: Rows, rows: Rows) -> Numbers:
    """Measures ``Lists.excess`` from some rows: the median, 1 at least."""
    queries = stored.prepare(stored.values[asked])
    with np.errstate(over="ignore", invalid="ignore"):
        found = exact.search_rows(stored, queries, _RANKS[-1] + 1, rows)  # the row itself is the best
    times = np.ones((len(queries), len(_RANKS)))
    for line, query in enumerate(queries):
        means, deviations = lists.predicted(query, stored.metric)
        for column, rank in enumerate(_RANKS):
            if rank < found.rows.shape[1] and np.isfinite(worst := float(found.distances[line, rank])):
                times[line, column] = expected(lists.sizes, means, deviations, worst) / rank
    return np.maximum(np.nan_to_num(np.median(times, axis=0), nan=1.0), 1.0)


def comparable(stored: FieldVectors, vectors: FloatArray) -> FloatArray:
    """Vectors as they are compared, cut where distances between them would be infinite.

    Searches pass rows by that are so long.
    """
    limit = np.float32(LONGEST / vectors.shape[1] ** 0.5)
    return np.clip(stored.prepare(vectors), -limit, limit)


def _scatter(
    stored: FieldVectors, first: int, labels: np.ndarray[Any, Any], centroids: FloatArray, sizes: Rows
) -> tuple[Numbers, Numbers]:
    """Mean and variance, by list, of the squared distances from the centroid."""
    squares = np.empty(len(labels))
    for low in range(0, len(labels), _BLOCK):
        part = labels[low : low + _BLOCK]
        block = comparable(stored, stored.values[first + low : first + low + len(part)])
        residuals = block - centroids[part]
        squares[low : low + _BLOCK] = np.einsum("ij,ij->i", residuals, residuals)
    filled = np.maximum(sizes, 1)
    means = np.bincount(labels, squares, len(sizes)) / filled
    return means, np.bincount(labels, np.square(squares - means[labels]), len(sizes)) / filled


def _add(sums: Numbers, labels: np.ndarray[Any, Any], block: FloatArray) -> None:
    """Adds the rows of a block to the sums of their lists."""
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    sums[present] += np.add.reduceat(block[order], starts, axis=0)


def write(lists: Lists, path: Path) -> None:
    """Writes the file, under its own name at once: who calls gives it that name when it is whole."""
    some = (lists.centroids, lists.squares, lists.variances, lists.residuals)
    parts = (*some, lists.starts, lists.order, lists.excess)
    body = b"".join(part.tobytes() for part in parts)
    shape = (len(lists.order), *lists.centroids.shape, len(lists.residuals))
    path.write_bytes(
        _HEADER.pack(_MAGIC, zlib.crc32(body, zlib.crc32(repr(shape).encode())), 0, *shape) + body
    )


def read(path: Path, rows: int, dim: int) -> Lists:
    """Reads the file.

    Args:
        path: The file.
        rows: How many rows the segment has.
        dim: Length of its vectors.

    Raises:
        FileNotFoundError: It is not there.
        CorruptStoreError: It is damaged, or of another segment.
    """
    data = path.read_bytes()
    if len(data) < _HEADER.size:
        raise CorruptStoreError(f"{path} is too short")
    magic, crc, _, *shape = _HEADER.unpack_from(data)
    body = memoryview(data)[_HEADER.size :]
    its_rows, count, its_dim, residuals = shape
    if magic != _MAGIC or zlib.crc32(body, zlib.crc32(repr(tuple(shape)).encode())) != crc:
        raise CorruptStoreError(f"{path} fails its checksum")
    if (its_rows, its_dim) != (rows, dim):
        raise CorruptStoreError(f"{path} is about {its_rows} rows of {its_dim} dimensions")
    arrays: list[Any] = []
    offset = 0
    for length, kind in (
        (count * dim, np.float32),
        (count, np.float64),
        (count, np.float64),
        (residuals * dim, np.float32),
        (count + 1, np.int64),
        (rows, np.int32),
        (len(_RANKS), np.float64),
    ):
        arrays.append(np.frombuffer(body, kind, length, offset))
        offset += arrays[-1].nbytes
    centroids, squares, variances, sample, starts, order, excess = arrays
    return Lists(
        centroids.reshape(-1, dim), squares, variances, sample.reshape(-1, dim), starts, order, excess
    )
