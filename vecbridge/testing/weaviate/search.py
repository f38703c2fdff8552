"""Exact search: distances as the server computes them, in float32."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vecbridge.testing.weaviate.errors import Refused
from vecbridge.testing.weaviate.filters import Match
from vecbridge.testing.weaviate.objects import Row, Shard

FloatArray: TypeAlias = npt.NDArray[np.float32]


def nearest(
    shard: Shard, name: str, metric: str, query: FloatArray, match: Match | None, count: int
) -> list[tuple[Row, float]]:
    """The nearest rows and their distances, the nearest first.

    Args:
        shard: Where to look.
        name: Which vector; "" is the one without a name.
        metric: As the class names it.
        query: Of shape (dim,).
        match: Which rows; None is all of them.
        count: How many, at most.

    Raises:
        Refused: The query is not as long as the vectors.
    """
    rows, vectors = shard.matrix(name)
    if match is not None:
        places = [place for place, row in enumerate(rows) if match(row)]
        rows, vectors = [rows[place] for place in places], vectors[places]
    if not rows:
        return []
    if len(query) != shard.dims[name]:
        entry = "" if match is not None else "knn search: distance between entrypoint and query node: "
        raise Refused(f"{entry}{shard.dims[name]} vs {len(query)}: vector lengths don't match")
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        found = distances(metric, vectors, query)
    order = np.argsort(found, kind="stable")[:count]
    return [(rows[place], float(found[place])) for place in order.tolist()]


def distances(metric: str, vectors: FloatArray, query: FloatArray) -> FloatArray:
    """Distances of shape (n,) from vectors of shape (n, dim) to a query of shape (dim,)."""
    match metric:
        case "cosine":
            found = 1 - normalised(vectors) @ normalised(query[None])[0]
        case "dot":
            found = -(vectors @ query)
        case "l2-squared":
            found = np.square(vectors - query).sum(axis=1)
        case "manhattan":
            found = np.abs(vectors - query).sum(axis=1)
        case _:
            found = (vectors != query).sum(axis=1)
    return np.asarray(found, np.float32)


def normalised(vectors: FloatArray) -> FloatArray:
    """Vectors of length 1; those whose squares vanish in float32 stay as they are."""
    squares = np.square(vectors).sum(axis=1, dtype=np.float32)
    lengths = np.sqrt(np.where(squares == 0, np.float32(1), squares))
    return np.asarray(vectors / lengths[:, None], np.float32)
