"""Rows that are at the target and no longer at the source.

A hash is no id: the ids of the target are read and hashed to find those of vanished rows. And a scan is no
proof: a row that was moved, or deleted and inserted again while the source was read, may not have been seen.
So the source is asked for the id before anything is deleted.
"""

from __future__ import annotations

import string
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa

from vecbridge import filters
from vecbridge.bulk.delivery import FATAL, Backoff
from vecbridge.errors import BackendError
from vecbridge.migration import ledger, reading
from vecbridge.migration.conversion import parse_template
from vecbridge.migration.plans import Plan
from vecbridge.migration.sides import Side

ASKED_AT_ONCE: Final = 500  # ids of one question to the source, and of one delete

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Rows of the target that the source seems not to have.

    Attributes:
        namespace: Of the target.
        ids: Their ids there, at most 500.
        keys: Their keys in the ledger, in the same order.
    """

    namespace: str
    ids: pa.Array
    keys: ledger.Keys

    def take(self, mask: Any) -> Candidates:
        """Those for which the mask is true."""
        return Candidates(self.namespace, self.ids.filter(pa.array(mask)), self.keys[mask])


def target_namespaces(plan: Plan, target: Side) -> list[str]:
    """The namespaces of the target that hold rows of the source."""
    if plan.into is not None:
        return [plan.into]
    if plan.only is not None:
        return [plan.only]
    return target.namespaces() if plan.source_spec.namespaced else [""]


def target_ids(namespace: str, target: Side, *, key: bytes, stop: threading.Event) -> Iterator[Candidates]:
    """All rows of a namespace of the target."""
    for page in reading.pages(target.collection(namespace), (), None, stop=stop):
        ids = page.batch.column("id")
        keys = ledger.keys(ids, namespace, key=key)
        for start in range(0, len(ids), ASKED_AT_ONCE):
            yield Candidates(namespace, ids.slice(start, ASKED_AT_ONCE), keys[start : start + ASKED_AT_ONCE])


class SourceIds:
    """Asks the source which rows of the target it has.

    Args:
        plan: How ids of the target are built.
        source: The source.
        stop: Ends a pause between attempts.
    """

    def __init__(self, plan: Plan, source: Side, stop: threading.Event) -> None:
        self._plan, self._source, self._stop = plan, source, stop
        self._filter = None if plan.filter is None else filters.from_dict(plan.filter)

    def has(self, candidates: Candidates) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of these rows of the target the source has, in one of the namespaces that go there."""
        ids: list[Any] = candidates.ids.to_pylist()
        there = np.zeros(len(ids), np.bool_)
        for namespace in self._namespaces(candidates.namespace):
            of_source = [self._source_id(namespace, id) for id in ids]
            asked = [id for id in of_source if id is not None]
            found = self._present(namespace, asked) if asked else set()
            there |= np.fromiter((id is not None and id in found for id in of_source), np.bool_, len(ids))
        return there

    def _namespaces(self, target: str) -> list[str]:
        """The namespaces of the source that go to one of the target."""
        if self._plan.only is not None:
            return [self._plan.only]
        return [target] if self._plan.into is None else self._source.namespaces()

    def _source_id(self, namespace: str, id: str | int) -> str | int | None:
        """The id at the source from which this one was built; None if none of that namespace can be."""
        if self._plan.id_template is None:
            return id
        return source_id(self._plan.id_template, namespace, str(id), self._plan.source_spec.id_type)

    def _present(self, namespace: str, ids: list[Any]) -> set[Any]:
        collection = self._source.collection(namespace)

        def ask() -> pa.RecordBatch:
            if self._filter is None:
                return collection.fetch(ids, include=())
            condition = self._filter & filters.field("id").isin(ids)
            return collection.find(condition, limit=len(ids), include=())

        return set(retried(ask, self._stop).column("id").to_pylist())


def source_id(template: str, namespace: str, id: str, id_type: str) -> str | int | None:
    """The id of a row whose id at the target was built from it; the inverse of ``parse_template``.

    Args:
        template: Such as "{namespace}/{id}".
        namespace: Of the source.
        id: At the target.
        id_type: Of the ids at the source: "string" or "int64".

    Returns:
        None if the template builds no such id in that namespace.

    Example:
        >>> source_id("{namespace}/{id}", "eu", "eu/7", "int64")
        7
        >>> source_id("{namespace}/{id}", "us", "eu/7", "int64") is None
        True
    """
    pieces = [(text, name) for text, name, _, _ in string.Formatter().parse(template)]
    times = sum(name == "id" for _, name in pieces)
    around = sum(len(text) + len(namespace) * (name == "namespace") for text, name in pieces)
    length, rest = divmod(len(id) - around, times)
    if rest or length < 1:
        return None
    start = 0
    for text, name in pieces:
        start += len(text)
        if name == "id":
            break
        start += len(namespace) * (name == "namespace")
    found: str | int = id[start : start + length]
    if id_type == "int64":
        try:
            found = int(found)
        except ValueError:
            return None
    return found if parse_template(template)(namespace, found) == id else None


def retried(call: Callable[[], Result], stop: threading.Event) -> Result:
    """The result of a call that may be repeated; transient errors are retried with growing pauses."""
    backoff = Backoff(stop)
    while True:
        try:
            return call()
        except FATAL:
            raise
        except BackendError as exc:
            if not exc.retryable:
                raise
            backoff.wait(exc)
