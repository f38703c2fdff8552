"""The milvus-lite of this process: shortcuts past its protocol, where that reads every row for a few.

A query of milvus-lite costs a pass over all rows, vectors included, and a count by filter builds a record for
each match. Two shortcuts avoid that:

* Rows by id: a query that is nothing but ``id in [...]``, without a limit, looks the ids up one by one. It is
  not safe beside a write, during which rows move from memory to a file; so its answer counts only if no write
  of this process was under way (:class:`Changes`). Otherwise the rows are asked for by a pass.
* Counts: the matches are counted in the engine, which does not read the vectors. Its modules are not public,
  so that this is for milvus-lite 3.2 alone; elsewhere the protocol answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import Any, Final, TypeVar

from vecbridge.driver import Deadline
from vecbridge.errors import DeadlineError
from vecbridge.stores.milvus.connection import Connection

T = TypeVar("T")

_WRITES: Final = frozenset({"Upsert", "Delete", "Flush"})


class Changes:
    """Which writes this process has sent to one milvus-lite, and whether they have ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = 0
        self._ended = 0

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """A write; one that its deadline ended may go on, and counts as under way from then on."""
        with self._lock:
            self._begun += 1
        try:
            yield
        except DeadlineError:
            raise
        except BaseException:
            self._end()
            raise
        self._end()

    def undisturbed(self, read: Callable[[], T]) -> T | None:
        """What a read answers; None if a write was under way meanwhile."""
        with self._lock:
            begun = self._begun
            if self._ended < begun:
                return None
        answer = read()
        with self._lock:
            return answer if self._begun == begun else None

    def _end(self) -> None:
        with self._lock:
            self._ended += 1


class EmbeddedConnection(Connection):
    """Requests to the milvus-lite of this process.

    Args:
        target: "host:port".
        database: Its ``milvus_lite.db.MilvusLite``, or None where its modules are not known.
        changes: Of this milvus-lite, shared by all connections to it.
    """

    def __init__(self, target: str, database: Any, changes: Changes) -> None:
        super().__init__(target)
        self._database = database
        self._changes = changes

    def call(self, rpc: str, deadline: Deadline, what: str = "", **fields: Any) -> Any:
        """Sends one request; see :meth:`Connection.call`."""
        if rpc not in _WRITES:
            return super().call(rpc, deadline, what, **fields)
        with self._changes.under_way():
            return super().call(rpc, deadline, what, **fields)

    def undisturbed(self, read: Callable[[], T]) -> T | None:
        """What a read answers; None if a write was under way meanwhile."""
        return self._changes.undisturbed(read)

    def counted(self, collection: str, expression: str) -> int | None:
        """How many rows satisfy an expression ("" is all of them); None if the protocol must be asked."""
        from milvus_lite.exceptions import MilvusLiteError

        if self._database is None or not known_engine():
            return None
        try:
            return _matches(self._database.get_collection(collection), expression)
        except (MilvusLiteError, RuntimeError):  # dropped or closed meanwhile: a request tells what it is
            return None


@cache
def known_engine() -> bool:
    """Whether the engine's modules are those that :func:`_matches` was written for."""
    return version("milvus-lite").startswith("3.2.")


def _matches(collection: Any, expression: str) -> int:
    """Counts as ``milvus_lite.engine.collection.Collection.query`` selects, without reading vectors."""
    import numpy as np
    from milvus_lite.search.bitmap import build_valid_mask
    from milvus_lite.search.filter import evaluate_mask
    from milvus_lite.search.indexed_filter import evaluate_segment_filter

    condition = collection._compile_filter(expression) if expression else None
    plan = collection._indexed_filter_plan(condition)
    segments, deletions = collection._read_snapshot()
    memory = collection._memtable
    keys: list[Any] = []
    numbers: list[Any] = []
    masks: list[Any] = []
    for segment in segments:
        if segment.num_rows:
            keys += segment.pks
            numbers.append(segment.seqs)
            if condition is not None:
                masks.append(evaluate_segment_filter(segment, condition, plan))
    fresh, its_numbers, _, _, table = memory.to_search_snapshot(
        vector_field=None, include_table=condition is not None
    )
    if fresh:
        keys += fresh
        numbers.append(its_numbers)
        if condition is not None:
            masks.append(evaluate_mask(condition, table))
    if not keys:
        return 0
    matching = np.concatenate(masks) if masks else None
    valid = build_valid_mask(keys, np.concatenate(numbers), deletions, filter_mask=matching, memtable=memory)
    return int(valid.sum())
