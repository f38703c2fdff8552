"""Ray Data: collections as the sink and the source of datasets, and models as actors.

Needs the extra ``ray``. Without it this module can be imported, and its names raise MissingDependencyError.

    pictures ──> embed ──> VecbridgeDatasink ──> a collection ──> VecbridgeDatasource ──> a dataset
                (actors)   (one upsert stream a task)            (one part of a scan a task)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecbridge.integrations.ray.embedding import EmbeddingActor as EmbeddingActor
    from vecbridge.integrations.ray.embedding import embed as embed
    from vecbridge.integrations.ray.sink import VecbridgeDatasink as VecbridgeDatasink
    from vecbridge.integrations.ray.source import VecbridgeDatasource as VecbridgeDatasource

_HOMES = {
    "EmbeddingActor": "embedding",
    "VecbridgeDatasink": "sink",
    "VecbridgeDatasource": "source",
    "embed": "embedding",
}
__all__ = ["EmbeddingActor", "VecbridgeDatasink", "VecbridgeDatasource", "embed"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
