"""Index parameters and metrics, as Milvus names them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from vecbridge.errors import SchemaError
from vecbridge.indexes import HNSW, IVFPQ, IVFSQ8, Auto, Flat, IndexParams, IVFFlat, Other
from vecbridge.schema import Metric

METRICS: Final = {Metric.COSINE: "COSINE", Metric.DOT: "IP", Metric.L2: "L2"}
#: Random vectors of 48 dimensions need it: of 6,000 rows 64 finds 0.948 of the true ten, 128 finds 0.991.
DEFAULT_EF: Final = 128
_FILTERED_EF: Final = 256
_WIDEST_EF: Final = 32_768  # the most that Milvus takes
_FARTHEST: Final = 3.4e38  # just within float32
_SHARE_OF_LISTS: Final = 0.4  # of 6,000 such rows a quarter of the lists holds 0.948 of the true ten

#: By Milvus's name of an index: ours, and its parameters by our names of them.
_KINDS: Final[dict[str, tuple[type[Any], dict[str, str]]]] = {
    "AUTOINDEX": (Auto, {}),
    "FLAT": (Flat, {}),
    "IVF_FLAT": (IVFFlat, {"nlist": "nlist"}),
    "IVF_SQ8": (IVFSQ8, {"nlist": "nlist"}),
    "IVF_PQ": (IVFPQ, {"nlist": "nlist", "m": "m", "nbits": "nbits"}),
    "HNSW": (HNSW, {"m": "M", "ef_construction": "efConstruction"}),
}


def to_milvus(index: IndexParams) -> tuple[str, dict[str, int]]:
    """Type and parameters of an index."""
    for kind, (own, names) in _KINDS.items():
        if isinstance(index, own):
            return kind, {theirs: getattr(index, name) for name, theirs in names.items()}
    raise AssertionError(f"{index} was not refused")


def from_milvus(pairs: Mapping[str, str]) -> tuple[IndexParams, Metric | None]:
    """The index that ``DescribeIndex`` tells of, and its metric; None where vecbridge has no such metric.

    Args:
        pairs: Its parameters, some of which may stand nested under ``params`` as JSON; none is no index.
    """
    values = dict(pairs)
    if nested := values.pop("params", ""):
        values |= {name: str(value) for name, value in json.loads(nested).items()}
    kind = values.pop("index_type", "") or "AUTOINDEX"
    wanted = values.pop("metric_type", "").upper()
    metric = next((own for own, theirs in METRICS.items() if theirs == wanted), None)
    own, names = _KINDS.get(kind, (Other, {}))
    numbers = {"nbits": "8"} | values
    try:
        return own(**{name: int(numbers[theirs]) for name, theirs in names.items()}), metric
    except (
        TypeError,
        KeyError,
        ValueError,
        SchemaError,
    ):  # another index, or parameters that ours does not have
        return Other(kind, values), metric


def search_params(
    index: IndexParams, k: int, ef: int | None, nprobe: int | None, *, filtered: bool
) -> dict[str, int]:
    """What goes along with a search.

    Args:
        index: The index of the field.
        k: Hits; a graph search cannot be narrower.
        ef: As asked, or None.
        nprobe: As asked, or None.
        filtered: Whether a filter is on. It may empty the lists nearest to a query, so that all are visited;
            only rows that match are compared.
    """
    if isinstance(index, Auto | HNSW):  # AUTOINDEX is a graph: without ef it finds 0.79 of the true ten
        default = max(_FILTERED_EF if filtered else DEFAULT_EF, 2 * k)
        return {"ef": min(max(ef or default, k), _WIDEST_EF)}
    if isinstance(index, IVFFlat | IVFSQ8 | IVFPQ):
        default = index.nlist if filtered else max(8, math.ceil(_SHARE_OF_LISTS * index.nlist))
        return {"nprobe": min(nprobe or default, index.nlist)}
    return {}


def unbounded(metric: Metric) -> dict[str, float]:
    """A range that leaves no row out; a range search goes on until it has seen everything in its range."""
    if metric is Metric.COSINE:
        return {"radius": -2.0}
    return {"radius": _FARTHEST if metric is Metric.L2 else -_FARTHEST}


def widest(index: IndexParams, k: int) -> dict[str, int]:
    """The parameters of the broadest search that the index has; {} if there is one breadth only."""
    if isinstance(index, Auto | HNSW):
        return {"ef": min(max(4096, 4 * k), _WIDEST_EF)}
    if isinstance(index, IVFFlat | IVFSQ8 | IVFPQ):
        return {"nprobe": index.nlist}
    return {}
