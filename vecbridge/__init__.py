"""One honest interface over four vector databases, with a CLIP embedder in front.

Names are loaded when they are first used, so that importing vecbridge costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecbridge.bulk import ingest as ingest
    from vecbridge.bulk import write as write
    from vecbridge.capabilities import Capabilities as Capabilities
    from vecbridge.capabilities import Gap as Gap
    from vecbridge.embed.base import Embedder as Embedder
    from vecbridge.embed.factory import embedder as embedder
    from vecbridge.errors import VecbridgeError as VecbridgeError
    from vecbridge.filters import Filter as Filter
    from vecbridge.filters import everything as everything
    from vecbridge.filters import field as field
    from vecbridge.identity import EmbedderIdentity as EmbedderIdentity
    from vecbridge.identity import SourceIds as SourceIds
    from vecbridge.indexes import DISKANN as DISKANN
    from vecbridge.indexes import HNSW as HNSW
    from vecbridge.indexes import IVFPQ as IVFPQ
    from vecbridge.indexes import IVFSQ8 as IVFSQ8
    from vecbridge.indexes import SCANN as SCANN
    from vecbridge.indexes import Auto as Auto
    from vecbridge.indexes import Flat as Flat
    from vecbridge.indexes import IVFFlat as IVFFlat
    from vecbridge.indexes import Other as Other
    from vecbridge.migration.copying import MigrationReport as MigrationReport
    from vecbridge.migration.copying import migrate as migrate
    from vecbridge.migration.planning import plan as plan
    from vecbridge.migration.plans import Loss as Loss
    from vecbridge.migration.plans import Plan as Plan
    from vecbridge.migration.proof import Finding as Finding
    from vecbridge.migration.proof import Proof as Proof
    from vecbridge.migration.syncing import SyncReport as SyncReport
    from vecbridge.migration.syncing import sync as sync
    from vecbridge.migration.verifying import verify as verify
    from vecbridge.query import Hit as Hit
    from vecbridge.query import Hits as Hits
    from vecbridge.query import Page as Page
    from vecbridge.query import Query as Query
    from vecbridge.query import Status as Status
    from vecbridge.query import Unfit as Unfit
    from vecbridge.query import WriteReport as WriteReport
    from vecbridge.records import batch as batch
    from vecbridge.records import stamp as stamp
    from vecbridge.records import vectors as vectors
    from vecbridge.registry import connect as connect
    from vecbridge.registry import open as open
    from vecbridge.registry import register as register
    from vecbridge.schema import CollectionSpec as CollectionSpec
    from vecbridge.schema import Field as Field
    from vecbridge.schema import Metric as Metric
    from vecbridge.schema import VectorField as VectorField
    from vecbridge.store import Collection as Collection
    from vecbridge.store import Store as Store

__version__ = "0.1.0"

_HOMES = {
    "bulk": "ingest write",
    "capabilities": "Capabilities Gap",
    "embed.base": "Embedder",
    "embed.factory": "embedder",
    "errors": """
        VecbridgeError ConfigError InvalidURLError UnknownOptionError MissingDependencyError SchemaError
        DimensionMismatchError CollectionExistsError EmbedderMismatchError InvalidRecordError NotFoundError
        UnsupportedError BackendError RateLimitedError UnavailableError AuthError TooLargeError DeadlineError
        StoreLockedError CorruptStoreError StorageFullError PartialWriteError LossRefusedError JournalError
        CursorExpiredError Failure""",
    "filters": "Filter everything field",
    "identity": "EmbedderIdentity SourceIds",
    "migration.copying": "MigrationReport migrate",
    "migration.planning": "plan",
    "migration.plans": "Loss Plan",
    "migration.syncing": "SyncReport sync",
    "migration.proof": "Finding Proof",
    "migration.verifying": "verify",
    "indexes": "Auto Flat IVFFlat IVFSQ8 IVFPQ HNSW SCANN DISKANN Other",
    "query": "Query Hit Hits Page Status Unfit WriteReport",
    "records": "batch stamp vectors",
    "registry": "connect open register",
    "schema": "CollectionSpec VectorField Field Metric",
    "store": "Store Collection",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vecbridge' has no attribute {name!r}")
    value = getattr(import_module(f"vecbridge.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
