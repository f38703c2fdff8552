"""Whether the index has every row and its quantizer is trained, and waiting for both.

A server indexes while it writes, unless ASYNC_INDEXING is set: then vectors wait in a queue. PQ and SQ learn
from rows that are there, and the server begins when the settings of the class are written once more; those
that it has will do. While it trains, the shard refuses writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from vecbridge.driver import Deadline
from vecbridge.indexes import HNSW, IndexParams
from vecbridge.query import Status
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate import index_params
from vecbridge.stores.weaviate.table import Table

_POLL_SECONDS: Final = 0.2
_MISSING: Final = "missing: the class was made without this index (skip), and the server refuses searches"
#: How many rows each quantizer wants before it is trained: PQ one for each of its centroids.
_ROWS_TO_TRAIN: Final = {"pq": 256, "sq": 1}


@dataclass(frozen=True, slots=True)
class Shard:
    """What the server says of the index of one namespace.

    Attributes:
        waiting: Vectors in the queue.
        busy: Whether it is indexing or training at this moment.
        compressed: Whether searches read quantized vectors.
    """

    waiting: int
    busy: bool
    compressed: bool


def shard(table: Table, deadline: Deadline) -> Shard:
    """The index of one namespace, summed over the shards of a collection without tenants."""
    shards = [
        shard
        for shard in table.connection.shards(table.layout.class_name, deadline)
        if not table.layout.tenants or shard["name"] == table.tenant
    ]
    return Shard(
        sum(int(shard.get("vectorQueueLength") or 0) for shard in shards),
        any(shard.get("vectorIndexingStatus") in ("INDEXING", "READONLY") for shard in shards),
        bool(shards) and all(shard.get("compressed") for shard in shards),
    )


def status(table: Table, described: Mapping[str, Any], now: Shard, rows: int) -> Status:
    """The state of each vector's index, and the index that the class is described with.

    Args:
        table: The collection.
        described: Its class as REST describes it now.
        now: The index of the namespace.
        rows: How many rows the namespace has.
    """
    configs = index_params.configs(described)
    untrained = _untrained(table.spec, now, rows)
    states: dict[str, str] = {}
    built: dict[str, IndexParams | None] = {}
    for vector in table.spec.vectors:
        kind, config = configs.get(table.layout.vectors[vector.name], ("", {}))
        if not kind or config.get("skip"):
            states[vector.name], built[vector.name] = _MISSING, None
            continue
        index = index_params.from_weaviate(kind, config)[0]
        if isinstance(index, HNSW) and index.quantizer in _ROWS_TO_TRAIN and not now.compressed:
            index = replace(index, quantizer=None)  # until it is trained
        waiting = now.waiting or now.busy or vector.name in untrained
        states[vector.name], built[vector.name] = "building" if waiting else "ready", index
    return Status(rows, states, {"waiting_vectors": now.waiting}, built)


def wait_for_queue(table: Table, deadline: Deadline) -> Shard:
    """Waits until nothing is queued or trained.

    Raises:
        DeadlineError: Not in time.
    """
    while True:
        now = shard(table, deadline)
        if not now.waiting and not now.busy:
            return now
        _pause(table, deadline, f"{now.waiting} vectors wait")


def wait(table: Table, deadline: Deadline) -> None:
    """Waits until every vector is in the index, and trains quantizers that are not trained.

    Raises:
        DeadlineError: Not in time.
    """
    now = wait_for_queue(table, deadline)
    if not table.layout.own_ids or not _untrained(table.spec, now, table.count(deadline)):
        return
    path = f"/v1/schema/{table.layout.class_name}"
    what = f"train the quantizer of {table.spec.name!r}"
    settings = table.connection.rest("GET", path, deadline, what)
    table.connection.rest("PUT", path, deadline, what, settings)
    while not now.compressed or now.busy:
        _pause(table, deadline, "its quantizer is not trained")
        now = shard(table, deadline)


def _untrained(spec: CollectionSpec, now: Shard, rows: int) -> list[str]:
    """Vector fields whose quantizer is not trained, although there are rows enough."""
    if now.compressed:
        return []
    return [
        vector.name
        for vector in spec.vectors
        if isinstance(vector.index, HNSW)
        and rows >= _ROWS_TO_TRAIN.get(vector.index.quantizer or "", rows + 1)
    ]


def _pause(table: Table, deadline: Deadline, reason: str) -> None:
    deadline.pause(_POLL_SECONDS, f"the index of {table.spec.name!r} is not ready in time: {reason}")
