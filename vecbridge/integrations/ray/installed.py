"""Imports Ray Data; the other modules of this room import it from here."""

from __future__ import annotations

from vecbridge.errors import MissingDependencyError

try:
    from ray.data import ActorPoolStrategy, DataContext, Dataset, Datasink, Datasource
    from ray.data.block import Block, BlockAccessor, BlockMetadata
    from ray.data.datasource import ReadTask, WriteResult
except ImportError as exc:
    raise MissingDependencyError("ray[data]", extra="ray") from exc

__all__ = [
    "ActorPoolStrategy",
    "Block",
    "BlockAccessor",
    "BlockMetadata",
    "DataContext",
    "Dataset",
    "Datasink",
    "Datasource",
    "ReadTask",
    "WriteResult",
]
