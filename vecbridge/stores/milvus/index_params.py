"""Index parameters and metrics, as Milvus names them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from vecbridge.errors import SchemaError
from vecbridge.indexes import HNSW, IVFPQ, IVFSQ8, Auto, Flat, IndexParams, IVFFlat, Other
from vecbridge.schema import Metric

METRICS: Final = {Metric.COSINE: "COSINE", Metric.DOT: "IP", Metric.L2: "L2"}
_DEFAULT_EF: Final = 64
_WIDEST_EF: Final = 32_768  # the most that Milvus takes
_WIDER: Final = 4
_AUTO: Final = "AUTOINDEX"


def to_milvus(index: IndexParams) -> tuple[str, dict[str, int]]:
    """Type and parameters of an index."""
    match index:
        case Auto():
            return _AUTO, {}
        case Flat():
            return "FLAT", {}
        case IVFFlat(nlist):
            return "IVF_FLAT", {"nlist": nlist}
        case IVFSQ8(nlist):
            return "IVF_SQ8", {"nlist": nlist}
        case IVFPQ(nlist, m, nbits):
            return "IVF_PQ", {"nlist": nlist, "m": m, "nbits": nbits}
        case HNSW(m, ef_construction):
            return "HNSW", {"M": m, "efConstruction": ef_construction}
        case _:
            raise AssertionError(f"{index} was not refused")


def from_milvus(pairs: Mapping[str, str]) -> tuple[IndexParams, Metric | None]:
    """The index that ``describe_index`` tells of, and its metric; None where vecbridge has no such metric.

    Args:
        pairs: Its parameters, some of which may stand nested under ``params`` as JSON.
    """
    values = dict(pairs)
    nested = values.pop("params", "")
    if nested:
        values |= {name: str(value) for name, value in json.loads(nested).items()}
    kind = values.pop("index_type", "")
    wanted = values.pop("metric_type", "").upper()
    metric = next((own for own, theirs in METRICS.items() if theirs == wanted), None)
    numbers = {name: int(value) for name, value in values.items() if value.lstrip("-").isdigit()}
    try:
        return _index(kind, numbers), metric
    except (KeyError, SchemaError):
        return Other(kind, values), metric


def _index(kind: str, numbers: Mapping[str, int]) -> IndexParams:
    match kind:
        case "AUTOINDEX" | "":
            return Auto()
        case "FLAT":
            return Flat()
        case "IVF_FLAT":
            return IVFFlat(numbers["nlist"])
        case "IVF_SQ8":
            return IVFSQ8(numbers["nlist"])
        case "IVF_PQ":
            return IVFPQ(numbers["nlist"], numbers["m"], numbers.get("nbits", 8))
        case "HNSW":
            return HNSW(numbers["M"], numbers["efConstruction"])
    raise KeyError(kind)


def search_params(
    index: IndexParams, k: int, ef: int | None, nprobe: int | None, *, filtered: bool = False
) -> dict[str, Any]:
    """What goes along with a search.

    Args:
        index: The index of the field.
        k: Hits; a graph search cannot be narrower.
        ef: As asked, or None.
        nprobe: As asked, or None.
        filtered: Whether a filter is on. It empties lists that are chosen without regard to it, so that
            four times as many are visited.
    """
    if isinstance(index, HNSW):
        return {"ef": min(max(ef or max(_DEFAULT_EF, 2 * k), k), _WIDEST_EF)}
    if isinstance(index, IVFFlat | IVFSQ8 | IVFPQ):
        lists = (nprobe or max(8, index.nlist // 16)) * (_WIDER if filtered else 1)
        return {"nprobe": min(lists, index.nlist)}
    return {}


def widest(index: IndexParams, k: int) -> dict[str, Any]:
    """The parameters of the broadest search that the index has; {} if there is one breadth only."""
    if isinstance(index, HNSW):
        return {"ef": min(max(4096, 4 * k), _WIDEST_EF)}
    if isinstance(index, IVFFlat | IVFSQ8 | IVFPQ):
        return {"nprobe": index.nlist}
    return {}
