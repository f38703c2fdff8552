"""Index parameters and metrics, as Milvus names them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final, cast

from vecbridge.errors import SchemaError
from vecbridge.indexes import (
    DISKANN,
    HNSW,
    IVFPQ,
    IVFSQ8,
    SCANN,
    Auto,
    Flat,
    IndexParams,
    IVFFlat,
    Other,
    Quantizer,
)
from vecbridge.schema import Metric

METRICS: Final = {Metric.COSINE: "COSINE", Metric.DOT: "IP", Metric.L2: "L2"}
#: Random vectors of 48 dimensions need it: of 6,000 rows 64 finds 0.948 of the true ten, 128 finds 0.991.
DEFAULT_EF: Final = 128
_FILTERED_EF: Final = 256
_WIDEST_EF: Final = 32_768  # the most that Milvus takes
_REORDERED: Final = 200  # vectors that a SCANN compares whole, at least
_SEARCH_LIST: Final = 100  # candidates of a DISKANN, at least
_WIDEST_LIST: Final = 65_535
_FARTHEST: Final = 3.4e38  # just within float32
#: Of 6,000 random vectors of 48 dimensions, a quarter of 310 lists holds 0.948 of the true ten; of 3,000,
#: 0.4 of 76 lists hold 0.87.
_PROBED_ROWS: Final = 16_384  # rows in the lists that a query visits, at least
_PROBED_SHARE: Final = 1 / 16  # share of the lists that a query visits, at least
_WIDER: Final = 4

#: By Milvus's name of an index: ours, and its parameters by our names of them.
_KINDS: Final[dict[str, tuple[type[Any], dict[str, str]]]] = {
    "AUTOINDEX": (Auto, {}),
    "FLAT": (Flat, {}),
    "IVF_FLAT": (IVFFlat, {"nlist": "nlist"}),
    "IVF_SQ8": (IVFSQ8, {"nlist": "nlist"}),
    "IVF_PQ": (IVFPQ, {"nlist": "nlist", "m": "m", "nbits": "nbits"}),
    "HNSW": (HNSW, {"m": "M", "ef_construction": "efConstruction"}),
    "SCANN": (SCANN, {"nlist": "nlist", "with_raw_data": "with_raw_data"}),
    "DISKANN": (DISKANN, {}),
}
#: By quantizer of an HNSW: Milvus's name of the index, and what else it is built with.
_GRAPHS: Final[dict[str, tuple[str, dict[str, int | bool | str]]]] = {
    "sq": ("HNSW_SQ", {"sq_type": "SQ8"}),
    "pq": ("HNSW_PQ", {"nbits": 8}),
}
#: What Milvus builds with where it is not said.
_DEFAULTS: Final = {"nbits": "8", "with_raw_data": "true"}


def to_milvus(index: IndexParams, dim: int) -> tuple[str, dict[str, int | bool | str]]:
    """Type and parameters of an index over vectors of a length."""
    if isinstance(index, HNSW) and index.quantizer is not None:
        kind, more = _GRAPHS[index.quantizer]
        own = {"m": _sub_vectors(dim)} if index.quantizer == "pq" else {}
        return kind, {"M": index.m, "efConstruction": index.ef_construction, **more, **own}
    for kind, (own_type, names) in _KINDS.items():
        if isinstance(index, own_type):
            return kind, {theirs: getattr(index, name) for name, theirs in names.items()}
    raise AssertionError(f"{index} was not refused")


def _sub_vectors(dim: int) -> int:
    """Codes of a product quantizer: one for four dimensions, or the next fewer that divide the length."""
    return next(count for count in range(max(1, dim // 4), 0, -1) if dim % count == 0)


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
    try:
        return _named(kind, _DEFAULTS | values), metric
    except (TypeError, KeyError, ValueError, SchemaError):  # parameters that ours does not have
        return Other(kind, values), metric


def _named(kind: str, values: Mapping[str, str]) -> IndexParams:
    """The index of vecbridge that Milvus's is.

    Raises:
        KeyError: None, or a parameter is missing.
    """
    for quantizer, (name, more) in _GRAPHS.items():
        if kind == name and all(values.get(key, str(value)) == str(value) for key, value in more.items()):
            return HNSW(int(values["M"]), int(values["efConstruction"]), cast(Quantizer, quantizer))
    own, names = _KINDS[kind]
    index: IndexParams = own(**{name: _value(values[theirs]) for name, theirs in names.items()})
    return index


def _value(text: str) -> int | bool:
    return text.lower() == "true" if text.lower() in ("true", "false") else int(text)


def search_params(
    index: IndexParams, k: int, ef: int | None, nprobe: int | None, *, filtered: bool, rows: int
) -> dict[str, int]:
    """What goes along with a search.

    Args:
        index: The index of the field.
        k: Hits; a graph search cannot be narrower.
        ef: As asked, or None.
        nprobe: As asked, or None.
        filtered: Whether a filter is on. It may empty the lists nearest to a query, so that all are visited,
            or four times as many as were asked for; only rows that match are compared.
        rows: Of the collection.
    """
    if isinstance(index, Auto | HNSW):  # AUTOINDEX is a graph: without ef it finds 0.79 of the true ten
        default = max(_FILTERED_EF if filtered else DEFAULT_EF, 2 * k)
        return {"ef": min(max(ef or default, k), _WIDEST_EF)}
    if isinstance(index, IVFFlat | IVFSQ8 | IVFPQ | SCANN):
        if nprobe is None:
            share = 1.0 if filtered else max(_PROBED_ROWS / max(rows, 1), _PROBED_SHARE)
            nprobe = max(8, math.ceil(share * index.nlist))
        elif filtered:
            nprobe *= _WIDER
        return {"nprobe": min(nprobe, index.nlist)} | _compared_whole(index, k)
    if isinstance(index, DISKANN):
        return {"search_list": min(max(_SEARCH_LIST, 4 * k), _WIDEST_LIST)}
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
    if isinstance(index, IVFFlat | IVFSQ8 | IVFPQ | SCANN):
        return {"nprobe": index.nlist} | _compared_whole(index, k)
    if isinstance(index, DISKANN):
        return {"search_list": min(max(4096, 4 * k), _WIDEST_LIST)}
    return {}


def _compared_whole(index: IndexParams, k: int) -> dict[str, int]:
    """How many vectors a SCANN compares whole, which only its codes have chosen."""
    return {"reorder_k": max(_REORDERED, 10 * k)} if isinstance(index, SCANN) and index.with_raw_data else {}
