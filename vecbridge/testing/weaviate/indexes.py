"""The vector indexes and their settings, with the server's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from vecbridge.testing.weaviate.errors import Refused

METRICS: Final = ("cosine", "dot", "l2-squared", "manhattan", "hamming")
QUANTIZERS: Final = ("pq", "bq", "sq", "rq")
_CACHED_VECTORS: Final = 1_000_000_000_000

_HNSW: Final[Mapping[str, Any]] = {
    "skip": False,
    "cleanupIntervalSeconds": 300,
    "maxConnections": 32,
    "efConstruction": 128,
    "ef": -1,
    "dynamicEfMin": 100,
    "dynamicEfMax": 500,
    "dynamicEfFactor": 8,
    "vectorCacheMaxObjects": _CACHED_VECTORS,
    "flatSearchCutoff": 40000,
    "distance": "cosine",
    "pq": {
        "enabled": False,
        "bitCompression": False,
        "segments": 0,
        "centroids": 256,
        "trainingLimit": 100000,
        "encoder": {"type": "kmeans", "distribution": "log-normal"},
    },
    "bq": {"enabled": False},
    "sq": {"enabled": False, "trainingLimit": 100000, "rescoreLimit": 20},
    "rq": {"enabled": False, "bits": 8, "rescoreLimit": 20},
    "filterStrategy": "acorn",
    "multivector": {
        "enabled": False,
        "muvera": {"enabled": False, "ksim": 4, "dprojections": 16, "repetitions": 10},
        "aggregation": "maxSim",
    },
    "skipDefaultQuantization": False,
    "trackDefaultQuantization": False,
}
_FLAT_QUANTIZER: Final = {"enabled": False, "rescoreLimit": -1, "cache": False}
_FLAT: Final[Mapping[str, Any]] = {
    "distance": "cosine",
    "vectorCacheMaxObjects": _CACHED_VECTORS,
    "pq": _FLAT_QUANTIZER,
    "bq": _FLAT_QUANTIZER,
    "sq": _FLAT_QUANTIZER,
    "rq": {**_FLAT_QUANTIZER, "bits": 8},
    "skipDefaultQuantization": False,
    "trackDefaultQuantization": False,
}
_HFRESH: Final[Mapping[str, Any]] = {
    "maxPostingSizeKB": 48,
    "replicas": 4,
    "searchProbe": 256,
    "distance": "cosine",
    "rq": {"enabled": True, "bits": 1, "rescoreLimit": 350},
}
_INDEXES: Final = {"hnsw": _HNSW, "flat": _FLAT, "hfresh": _HFRESH}


def settings(sent: Mapping[str, Any], target: str) -> tuple[str, dict[str, Any]]:
    """Type and settings of an index, from what was sent.

    Args:
        sent: What has its ``vectorIndexType`` and ``vectorIndexConfig``.
        target: The name of the vector; "" is the one without.

    Raises:
        Refused: The server would not build it.
    """
    kind = sent.get("vectorIndexType") or "hnsw"
    if kind == "dynamic":
        raise Refused("the dynamic index can only be created when async indexing is enabled")
    if kind not in _INDEXES:
        where = f'target vector "{target}": ' if target else ""
        raise Refused(f'{where}unrecognized or unsupported vectorIndexType "{kind}"')
    config = filled(_INDEXES[kind], sent.get("vectorIndexConfig") or {})
    if problem := _problem(kind, config):
        raise Refused(f"class.VectorIndexConfig can not parse: parse vector index config: {problem}")
    return kind, config


def _problem(kind: str, config: Mapping[str, Any]) -> str:
    """What the server says against the settings of an index; "" is nothing."""
    enabled = [each for each in QUANTIZERS if config.get(each, {}).get("enabled")]
    if kind == "flat":
        for each in ("pq", "sq"):
            if each in enabled:
                return f"{each.upper()} is not currently supported for flat indices"
        return ""
    if kind == "hnsw":
        for key in ("maxConnections", "efConstruction"):
            if config[key] < 4:
                return f"invalid hnsw config: {key} must be a positive integer with a minimum of 4"
        if config["filterStrategy"] not in ("sweeping", "acorn"):
            return "invalid hnsw config: filterStrategy must be either 'sweeping' or 'acorn'"
        if len(enabled) > 1:
            return "invalid hnsw config: more than a single compression methods enabled"
    return ""


def filled(defaults: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults with what was sent in their place; keys that the server does not know are dropped."""
    result = deepcopy(dict(defaults))
    for key in result.keys() & sent.keys():
        value = sent[key]
        if isinstance(result[key], dict):
            result[key] = filled(result[key], value or {})
        elif value is not None:
            result[key] = value
    return result
