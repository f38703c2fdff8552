"""Whether the index has every row and its quantizer is trained, and waiting for both.

A server indexes while it writes, unless ASYNC_INDEXING is set: then vectors wait in a queue. PQ and SQ learn
from rows that are there, and the server begins when the settings of the class are written once more; those
that it has will do. While it trains, the shard refuses writes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from vecbridge.errors import DeadlineError
from vecbridge.indexes import HNSW
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate.table import Table

_POLL_SECONDS: Final = 0.2
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


def shard(table: Table, tenant: str, timeout: float | None = None) -> Shard:
    """The index of one namespace, summed over the shards of a collection without tenants.

    Args:
        table: The collection.
        tenant: The namespace's; "" without.
        timeout: Seconds that the call may take; the connection's own if None.
    """
    answer = table.connection.rest(
        "GET", f"/v1/nodes/{table.layout.class_name}?output=verbose", timeout=timeout,
        what=f"status of {table.spec.name!r}",
    )  # fmt: skip
    mine = [
        each
        for node in answer.get("nodes") or []
        for each in node.get("shards") or []
        if not table.layout.tenants or each["name"] == tenant
    ]
    return Shard(
        sum(int(each.get("vectorQueueLength") or 0) for each in mine),
        any(each.get("vectorIndexingStatus") in ("INDEXING", "READONLY") for each in mine),
        bool(mine) and all(each.get("compressed") for each in mine),
    )


def states(spec: CollectionSpec, found: Shard, rows: int) -> dict[str, str]:
    """By vector field, the state of its index as Status says it."""
    untrained = set(_untrained(spec, found, rows))
    waiting = found.waiting or found.busy
    return {each.name: "building" if waiting or each.name in untrained else "ready" for each in spec.vectors}


def wait_for_queue(table: Table, tenant: str, timeout: float) -> Shard:
    """Waits until nothing is queued or trained.

    Raises:
        DeadlineError: Not within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = shard(table, tenant, max(deadline - time.monotonic(), 0.1))
        if not found.waiting and not found.busy:
            return found
        _sleep(table, deadline, timeout, f"{found.waiting} vectors wait")


def wait(table: Table, tenant: str, timeout: float) -> None:
    """Waits until every vector is in the index, and trains quantizers that are not trained.

    Raises:
        DeadlineError: Not within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    found = wait_for_queue(table, tenant, timeout)
    if not table.layout.own_ids or not _untrained(table.spec, found, table.count(tenant)):
        return
    path = f"/v1/schema/{table.layout.class_name}"
    what = f"train the quantizer of {table.spec.name!r}"
    settings = table.connection.rest("GET", path, what=what)
    table.connection.rest("PUT", path, settings, timeout=max(deadline - time.monotonic(), 0.1), what=what)
    while not found.compressed or found.busy:
        _sleep(table, deadline, timeout, "its quantizer is not trained")
        found = shard(table, tenant, max(deadline - time.monotonic(), 0.1))


def _untrained(spec: CollectionSpec, found: Shard, rows: int) -> list[str]:
    """Vector fields whose quantizer is not trained, although there are rows enough."""
    if found.compressed:
        return []
    return [
        each.name
        for each in spec.vectors
        if isinstance(each.index, HNSW) and rows >= _ROWS_TO_TRAIN.get(each.index.quantizer or "", rows + 1)
    ]


def _sleep(table: Table, deadline: float, timeout: float, why: str) -> None:
    if time.monotonic() + _POLL_SECONDS >= deadline:
        raise DeadlineError(f"the index of {table.spec.name!r} is not ready after {timeout:g} s: {why}")
    time.sleep(_POLL_SECONDS)
