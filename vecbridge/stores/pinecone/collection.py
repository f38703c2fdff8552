"""The driver of one namespace of one Pinecone index."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.driver import (
    Columns,
    Deadline,
    Described,
    Identity,
    Key,
    KeyedPage,
    PageRequest,
    RequestLimits,
    SearchRequest,
    SearchResult,
    WritePart,
    WriteResult,
)
from vecbridge.errors import NotFoundError, TooLargeError
from vecbridge.filters import Filter
from vecbridge.indexes import Auto
from vecbridge.query import FloatArray, Hits, Status, Unfit
from vecbridge.stores.pinecone import expressions, planes, tags, wire
from vecbridge.stores.pinecone.control import Control, poll
from vecbridge.stores.pinecone.encoding import PineconeEncoder
from vecbridge.stores.pinecone.layout import index_name
from vecbridge.stores.pinecone.limits import IDS_DELETED, IDS_LISTED
from vecbridge.stores.pinecone.planes import Plane, Row
from vecbridge.stores.pinecone.rest import RestPlane
from vecbridge.transport.parallel import each, halved

_IN_FLIGHT: Final = 8  # requests of one call
_MATCHES: Final = 1_000  # most records a page of a filter

#: Records, and by id why a batch cannot hold others that were asked for.
_Part: TypeAlias = "tuple[pa.RecordBatch, dict[str | int, Unfit]]"
#: Reads a page of so many rows from a token on, and where the next one starts; None is nowhere.
_Reader: TypeAlias = "Callable[[int, str, Deadline], tuple[_Part, str | None]]"


class PineconeCollection:
    """One namespace; see :class:`vecbridge.driver.CollectionDriver`.

    Args:
        described: The collection.
        namespace: Its name in vecbridge.
        control: The control plane.
        plane: The data plane.
        rest: The data plane over REST, which alone tells what a reader sees.
    """

    def __init__(
        self, described: Described, namespace: str, control: Control, plane: Plane, rest: RestPlane
    ) -> None:
        self._name = described.name
        self._index = index_name(described.name)
        self._spec = described.spec
        self._layout = described.state.layout
        self._wire_namespace: str = self._layout.wire_namespace(namespace)
        self._encoder = PineconeEncoder(self._spec, self._layout, namespace, plane)
        self._namespace = namespace
        self._control = control
        self._plane = plane
        self._rest = rest

    def identity(self, deadline: Deadline) -> Identity | None:
        """Which index has this name now; asks the control plane, since no answer of the other one tells."""
        index = self._control.describe(self._index)
        return None if index is None else tags.identity(index)

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        """See :meth:`PineconeEncoder.prepare`."""
        return self._encoder.prepare(rows, limits)

    def write(self, part: WritePart, deadline: Deadline) -> WriteResult:
        """One upsert: the service takes all of it or nothing."""
        self._plane.upsert(self._wire_namespace, part.payload, deadline)
        return WriteResult()

    def delete_keys(self, ids: pa.Array, deadline: Deadline) -> None:
        """Removes rows by id; the service does not say how many there were."""
        keys = self._keys(ids)
        parts = [keys[start : start + IDS_DELETED] for start in range(0, len(keys), IDS_DELETED)]
        each(lambda part: self._delete({"ids": part}, deadline), parts, _IN_FLIGHT)

    def delete_where(self, filter: Filter | None, seconds: float) -> None:
        """Removes the rows that match, in one request."""
        selector = {"delete_all": True} if filter is None else {"filter": self._where(filter)}
        self._delete(selector, Deadline.after(seconds))

    def search(self, request: SearchRequest) -> SearchResult:
        """The nearest rows; the service takes one vector a request.

        Where an answer may not hold the columns of all hits, the hits come without.
        """
        field, columns = request.field, request.columns or ()
        values, metadata = field.name in columns, any(name != field.name for name in columns)
        fits = planes.hits_with_columns(request.k, field.dim, values=values, metadata=metadata)
        where = None if request.filter is None else self._where(request.filter)

        def nearest(vector: FloatArray) -> Hits:
            rows = self._plane.query(
                self._wire_namespace, vector, request.k, where, request.deadline,
                values=values and fits, metadata=metadata and fits,
            )  # fmt: skip
            return self._hits(rows, request.columns if fits else None)

        return SearchResult(each(nearest, request.vectors, _IN_FLIGHT))

    def lookup(self, ids: pa.Array, columns: Columns, deadline: Deadline) -> pa.RecordBatch:
        """Rows by id."""
        batch, unfit = self._fetched(self._keys(ids), columns, deadline)
        if unfit:
            raise records.unfit_rows(unfit)
        return batch

    def pages(self, request: PageRequest) -> Generator[KeyedPage, None, None]:
        """Rows in the order of their ids at the service.

        The keys are the service's own tokens, of a list of ids or, with a filter, of the matches.
        """
        kind = "ids" if request.filter is None else "where"
        token = _token(request.after, kind)
        read = self._reader_of_ids(request) if request.filter is None else self._reader_of_matches(request)
        left = request.limit
        while token is not None and left != 0:
            rows = request.rows if left is None else min(left, request.rows)
            (batch, unfit), token = read(rows, token, Deadline.after(request.seconds))
            left = None if left is None else left - batch.num_rows - len(unfit)
            yield KeyedPage(batch, [kind, token], unfit)

    def count(self, deadline: Deadline) -> int:
        """How many rows there are, as far as the service has counted them."""
        counts = self._plane.counts(deadline)
        return sum(rows for name, rows in counts.items() if self._layout.namespace(name) == self._namespace)

    def status(self, deadline: Deadline) -> Status:
        """Rows of the namespace, and the state of the index."""
        if (index := self._control.describe(self._index)) is None:
            raise NotFoundError(f"collection {self._name!r} was dropped")
        name, ready = self._spec.vector.name, index.status.ready
        details = {"state": index.status.state, "deletion_protection": index.deletion_protection}
        built = {name: Auto() if ready else None}  # the service has one kind, and tells nothing of it
        return Status(self.count(deadline), {name: "ready" if ready else "building"}, details, built)

    def flush(self, deadline: Deadline) -> None:
        """Waits until readers see every write of the namespace that was acknowledged before.

        A write that changes nothing gets a number behind all of them; a query tells the number of the last
        write that it sees.
        """
        name = self._wire_namespace
        try:
            written = self._rest.barrier(name, deadline)
        except NotFoundError:  # no such namespace: nothing was written
            return
        reason = f"the writes to {self._name!r} are not visible"
        poll(lambda: self._rest.seen(name, deadline) >= written, deadline, reason)

    def build(self, deadline: Deadline) -> None:
        """Waits until the index takes requests and its queries see every acknowledged write."""
        self._control.wait_ready(self._index, deadline)
        self.flush(deadline)

    def _keys(self, ids: pa.Array) -> list[str]:
        """The ids at the service, without those that no record can have."""
        return [key for key in map(self._layout.key, ids.to_pylist()) if wire.is_key(key)]

    def _where(self, filter: Filter) -> dict[str, Any]:
        return expressions.compiled(filter, self._layout)

    def _delete(self, selector: Mapping[str, Any], deadline: Deadline) -> None:
        with suppress(NotFoundError):  # no such namespace
            self._plane.delete(self._wire_namespace, selector, deadline)

    def _hits(self, rows: Sequence[Row], columns: Columns | None) -> Hits:
        ids = records.python_ids(self._layout.id_array([row.key for row in rows]))
        scores = np.array([row.score for row in rows], np.float32)
        return Hits(ids, scores, None if columns is None else self._batch(rows, columns))

    def _batch(self, rows: Sequence[Row], columns: Columns) -> pa.RecordBatch:
        return wire.batch(self._layout, self._spec, rows, columns)

    def _part(self, rows: Sequence[Row], columns: Columns) -> _Part:
        fit, unfit = wire.fitting(self._layout, self._spec, rows, columns)
        return self._batch(fit, columns), unfit

    def _fetched(self, keys: Sequence[str], columns: Columns, deadline: Deadline) -> _Part:
        """Rows by id, in the order of the ids; missing ones are left out."""

        def answer(some: Sequence[str]) -> _Part:
            rows = self._plane.fetch(self._wire_namespace, some, deadline)
            return self._part([rows[key] for key in some if key in rows], columns)

        keys_of_requests = planes.fetchable(keys, self._spec.vector.dim)
        parts = each(lambda some: halved(answer, some, _joined), keys_of_requests, _IN_FLIGHT)
        return _concatenated(parts) if parts else self._part([], columns)

    def _reader_of_ids(self, request: PageRequest) -> _Reader:
        def read(rows: int, token: str, deadline: Deadline) -> tuple[_Part, str | None]:
            keys: list[str] = []
            while len(keys) < rows:
                at_once = min(rows - len(keys), IDS_LISTED)
                some, token = self._plane.keys(self._wire_namespace, at_once, token, deadline)
                keys += some
                if not token:
                    break
            if request.columns:
                return self._fetched(keys, request.columns, deadline), token or None
            return self._part([Row(key) for key in keys], ()), token or None

        return read

    def _reader_of_matches(self, request: PageRequest) -> _Reader:
        """The service sends whole records, whatever is wanted of them."""
        assert request.filter is not None
        where = self._where(request.filter)
        at_once = planes.whole_rows(self._spec.vector.dim, _MATCHES)

        def read(rows: int, token: str, deadline: Deadline) -> tuple[_Part, str | None]:
            nonlocal at_once
            parts: list[_Part] = []
            while rows and (token or not parts):
                most = min(rows, at_once)
                try:
                    some, token = self._plane.matching(self._wire_namespace, where, most, token, deadline)
                except TooLargeError:
                    if at_once == 1:
                        raise
                    at_once = -(-at_once // 2)
                    continue
                parts.append(self._part(some, request.columns))
                rows -= len(some)
            return _concatenated(parts), token or None

        return read


def _token(key: Key, kind: str) -> str | None:
    """Where the service goes on: "" at the start, None at the end.

    Raises:
        ValueError: No key of a page of this kind.
    """
    match key:
        case None:
            return ""
        case [str(told), None | str() as token] if told == kind and token != "":
            return token
    raise ValueError(f"{key!r} is no key of a scan of {kind}")


def _joined(first: _Part, second: _Part) -> _Part:
    return _concatenated([first, second])


def _concatenated(parts: Sequence[_Part]) -> _Part:
    unfit = {key: reason for _, reasons in parts for key, reason in reasons.items()}
    return pa.concat_batches([batch for batch, _ in parts]), unfit
