"""Seeded records: a mixture of Gaussians on the unit sphere, with three typed columns.

The clusters are numbered along one direction of the space, and a title starts with the number of its
cluster: a range of titles is a region of the space. Years are drawn without regard to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

import vecbridge as vb
from vecbridge import field
from vecbridge.filters import Filter
from vecbridge.indexes import IndexParams
from vecbridge.query import FloatArray
from vecbridge.schema import FieldType

CLUSTERS = 1000
CHUNK = 10_000
YEARS = range(1026, 2026)
NULL_YEARS = 0.02
TAGS = [f"tag-{number:03d}" for number in range(200)]
_LATENT = 96  # as embeddings do, the data has fewer dimensions than the space
_SPREAD = 0.9
_NOISE = 0.02
_SEED = 20_261


@dataclass(frozen=True, slots=True)
class Drawn:
    """Unit vectors, float32 (n, dim), and the cluster of each."""

    vectors: FloatArray
    clusters: np.ndarray


class Mixture:
    """About a thousand Gaussians of equal weight.

    Args:
        dim: Dimension of the vectors.
    """

    def __init__(self, dim: int) -> None:
        random = np.random.default_rng(_SEED)
        latent = min(dim, _LATENT)
        centres = random.standard_normal((CLUSTERS, latent), np.float32)
        self._centres = centres[np.argsort(centres[:, 0])]
        self._map = random.standard_normal((latent, dim), np.float32) / np.float32(np.sqrt(latent))
        self.dim = dim

    @property
    def parameters(self) -> dict[str, float]:
        """What the vectors were drawn with, for JSON."""
        latent, _ = self._map.shape
        return {
            "clusters": CLUSTERS, "latent_dimensions": latent, "spread": _SPREAD, "noise": _NOISE,
            "seed": _SEED,
        }  # fmt: skip

    def draw(self, rows: int, seed: int, clusters: range = range(CLUSTERS)) -> Drawn:
        """Some vectors of some clusters; the same for the same seed."""
        random = np.random.default_rng([_SEED, seed])
        chosen = random.integers(clusters.start, clusters.stop, rows)
        points = self._centres[chosen]
        points = points + _SPREAD * random.standard_normal(points.shape, np.float32)
        vectors = points @ self._map + _NOISE * random.standard_normal((rows, self.dim), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Drawn(vectors, chosen)

    def queries(self, count: int, clusters: range = range(CLUSTERS)) -> FloatArray:
        """Query vectors of the same mixture, none of them stored."""
        return self.draw(count, 1 << 30, clusters).vectors


def spec(name: str, dim: int, index: IndexParams) -> vb.CollectionSpec:
    """The collection that every section uses."""
    fields: dict[str, FieldType] = {"year": "int64", "tags": "list<string>", "title": "string"}
    return vb.CollectionSpec.single(name, dim=dim, metric="cosine", index=index, fields=fields)


def chunks(schema: vb.CollectionSpec, mixture: Mixture, rows: int) -> Iterator[pa.RecordBatch]:
    """Records in batches of 10,000; row n is the same whatever ``rows`` is."""
    for start in range(0, rows, CHUNK):
        drawn = mixture.draw(CHUNK, start)
        random = np.random.default_rng([_SEED, start, 1])
        numbers = range(start, start + CHUNK)
        whole = vb.batch(
            schema,
            id=[f"row-{number:09d}" for number in numbers],
            vector=drawn.vectors,
            year=pa.array(
                random.integers(YEARS.start, YEARS.stop, CHUNK), mask=random.random(CHUNK) < NULL_YEARS
            ),
            tags=_tags(random),
            title=[
                title(cluster) + f" picture {number}"
                for cluster, number in zip(drawn.clusters.tolist(), numbers, strict=True)
            ],
        )
        yield whole.slice(0, min(CHUNK, rows - start))


def _tags(random: np.random.Generator) -> pa.ListArray:
    """From none to four tags a row, and a few rows whose list is null."""
    counts = random.integers(0, 5, CHUNK)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    values = pa.array(TAGS).take(pa.array(random.integers(0, len(TAGS), offsets[-1])))
    empty = pa.array((counts == 0) & (random.random(CHUNK) < 0.1))
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=empty)


def title(cluster: int) -> str:
    """How the titles of a cluster begin."""
    return f"c{cluster:04d}"


def random_filter(share: float) -> Filter:
    """Keeps about that share of the rows, wherever they are: a range of years."""
    years = max(1, round(share * len(YEARS) / (1 - NULL_YEARS)))
    return (field("year") >= 1100) & (field("year") < 1100 + years)


def regional_filter(share: float) -> Filter:
    """Keeps about that share of the rows, at one end of the space: a range of titles."""
    return field("title") < title(max(1, round(share * CLUSTERS)))
