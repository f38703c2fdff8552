"""Index parameters and metrics, as Weaviate names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vecbridge.errors import SchemaError
from vecbridge.indexes import HNSW, Auto, Flat, IndexParams, Other
from vecbridge.query import FloatArray
from vecbridge.schema import Metric

METRICS: Final = {Metric.COSINE: "cosine", Metric.DOT: "dot", Metric.L2: "l2-squared"}
_QUANTIZERS: Final = ("pq", "sq", "bq", "rq")
_ANY_EF: Final = -1  # the server picks one for each query


def to_weaviate(index: IndexParams, metric: Metric) -> tuple[str, dict[str, Any]]:
    """Type and configuration of an index.

    No quantizer is said plainly, since a server may have a default one.
    """
    config: dict[str, Any] = {"distance": METRICS[metric]}
    match index:
        case Auto():
            # acorn, the default strategy, may find less than there is under a filter
            return "hnsw", config | {"skipDefaultQuantization": True, "filterStrategy": "sweeping"}
        case Flat():
            return "flat", config | {"skipDefaultQuantization": True}
        case HNSW(m, ef_construction, quantizer, ef):
            config |= {
                "maxConnections": m,
                "efConstruction": ef_construction,
                "ef": _ANY_EF if ef is None else ef,
                "filterStrategy": "sweeping",
            }
            chosen = (
                {"skipDefaultQuantization": True} if quantizer is None else {quantizer: {"enabled": True}}
            )
            return "hnsw", config | chosen
        case _:
            raise AssertionError(f"{index} was not refused")


def configs(described: Mapping[str, Any]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Type and configuration of each index of a class, by the name of its vector; "" is the one without.

    Args:
        described: The class as REST describes it.
    """
    found = dict(described.get("vectorConfig") or {})
    if described.get("vectorIndexType") or not found:
        found[""] = described
    return {
        name: (each.get("vectorIndexType") or "", each.get("vectorIndexConfig") or {})
        for name, each in found.items()
    }


def from_weaviate(kind: str, config: Mapping[str, Any]) -> tuple[IndexParams, Metric | None]:
    """The index that a class is described with, and its metric; None where vecbridge has no such metric.

    Args:
        kind: The ``vectorIndexType``.
        config: The ``vectorIndexConfig``.
    """
    distance = config.get("distance", "cosine")
    metric = next((own for own, theirs in METRICS.items() if theirs == distance), None)
    enabled = [name for name in _QUANTIZERS if _enabled(config.get(name))]
    try:
        if kind == "flat" and not enabled:
            return Flat(), metric
        if kind == "hnsw" and len(enabled) < 2 and not config.get("skip"):
            ef = config.get("ef", _ANY_EF)
            quantizer: Any = enabled[0] if enabled else None
            return (
                HNSW(config["maxConnections"], config["efConstruction"], quantizer, ef if ef > 0 else None),
                metric,
            )
    except (KeyError, SchemaError):
        pass
    return Other(kind, dict(config)), metric


def scores(metric: Metric, distances: FloatArray) -> FloatArray:
    """Scores of the contract from the distances that Weaviate reports."""
    match metric:
        case Metric.COSINE:
            return 1 - distances
        case Metric.DOT:
            return -distances
        case Metric.L2:
            return distances


def _enabled(quantizer: Any) -> bool:
    return isinstance(quantizer, Mapping) and bool(quantizer.get("enabled"))
