"""What an index covers, and waiting until it covers everything."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pymilvus.grpc_gen import common_pb2, milvus_pb2

from vecbridge.errors import DeadlineError, RateLimitedError
from vecbridge.indexes import Auto, Flat
from vecbridge.schema import CollectionSpec
from vecbridge.stores.milvus.connection import Connection

#: Rows below which a server builds no index for a sealed segment (rootCoord.minSegmentSizeToEnableIndex).
SMALLEST_INDEXED: Final = 1024
_POLL_SECONDS: Final = 0.5
_SEALED: Final = (common_pb2.SegmentState.Sealed, common_pb2.SegmentState.Flushed)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How the rows of a collection are searched.

    Attributes:
        growing: Rows in segments that are still written to, which no index of ours answers for.
        unindexed: Rows in sealed segments that are large enough for an index and have none yet.
        small: Rows in sealed segments too small for one; they are compared one by one.
        indexed: Rows that an index answers for.
        pending: By vector field, rows that an index is being built for.
    """

    growing: int
    unindexed: int
    small: int
    indexed: int
    pending: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether nothing waits for an index."""
        return not (self.growing or self.unindexed or any(self.pending.values()))


def coverage(connection: Connection, name: str, growing: int) -> Coverage:
    """What the query nodes say of their segments, and the index nodes of their work.

    Args:
        connection: The server.
        name: The collection.
        growing: Rows outside sealed segments; the query nodes list no growing ones.
    """
    segments = connection.call(
        "GetQuerySegmentInfo", milvus_pb2.GetQuerySegmentInfoRequest(collectionName=name)
    ).infos
    unindexed = small = indexed = 0
    for each in segments:
        if each.state not in _SEALED:
            continue
        if each.index_name:
            indexed += each.num_rows
        elif each.num_rows < SMALLEST_INDEXED:
            small += each.num_rows
        else:
            unindexed += each.num_rows
    pending = {
        each.field_name: _pending(each)
        for each in connection.call(
            "DescribeIndex", milvus_pb2.DescribeIndexRequest(collection_name=name)
        ).index_descriptions
    }
    return Coverage(growing, unindexed, small, indexed, pending)


def states(spec: CollectionSpec, found: Coverage) -> dict[str, str]:
    """By vector field, the state of its index as Status says it."""
    result = {}
    for field in spec.vectors:
        waiting = found.growing + found.unindexed + found.pending.get(field.name, 0)
        if isinstance(field.index, Flat) or not (waiting or found.small):
            result[field.name] = "ready"
        elif waiting:
            result[field.name] = "building"
        elif isinstance(field.index, Auto) or found.indexed:
            result[field.name] = "ready"
        else:
            result[field.name] = f"exact: needs {SMALLEST_INDEXED - found.small} more"
    return result


def wait(connection: Connection, name: str, timeout: float, covered: Callable[[], Coverage]) -> None:
    """Seals what is growing and waits until every large segment has its index.

    Args:
        connection: The server.
        name: The collection.
        timeout: Seconds.
        covered: Asks how its rows are searched by now.

    Raises:
        DeadlineError: Not within ``timeout``; says what is missing.
    """
    deadline = time.monotonic() + timeout
    _seal(connection, name, deadline)
    while not (found := covered()).complete:
        if time.monotonic() + _POLL_SECONDS >= deadline:
            raise DeadlineError(
                f"the index of {name!r} is not ready after {timeout:g} s: {found.growing} rows not sealed, "
                f"{found.unindexed} without an index, {sum(found.pending.values())} being built"
            )
        time.sleep(_POLL_SECONDS)


def _seal(connection: Connection, name: str, deadline: float) -> None:
    """Asks for the growing segments to be sealed; a server takes that only so often."""
    while True:
        left = max(deadline - time.monotonic(), 0.1)
        try:
            connection.call("Flush", milvus_pb2.FlushRequest(collection_names=[name]), timeout=left)
            return
        except RateLimitedError:
            if time.monotonic() + _POLL_SECONDS >= deadline:
                raise
            time.sleep(_POLL_SECONDS)


def _pending(description: Any) -> int:
    """Rows that an index is being built for; some versions leave the count at 0 while they build."""
    if description.state == common_pb2.IndexState.Finished:
        return int(description.pending_index_rows)
    return max(int(description.total_rows - description.indexed_rows), int(description.pending_index_rows))
