"""What the handles of one collection share: its index, and reading records in pages."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import pyarrow as pa

from vecbridge.capabilities import Gap
from vecbridge.errors import NotFoundError, TooLargeError
from vecbridge.schema import CollectionSpec
from vecbridge.stores.pinecone import tags, wire
from vecbridge.stores.pinecone.control import Control, Patience
from vecbridge.stores.pinecone.layout import Layout
from vecbridge.stores.pinecone.limits import ANSWER_BYTES, IDS_DELETED, IDS_LISTED, METADATA_BYTES
from vecbridge.stores.pinecone.planes import FLOAT_BYTES, Plane, Row, fetchable, whole_rows
from vecbridge.stores.pinecone.rest import RestPlane

IN_FLIGHT: Final = 8  # requests of one call
_MATCHES: Final = 1_000  # most records a page of a filter
TRUSTED_SECONDS: Final = 10.0  # that an index seen just now is taken for the same

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class Table:
    """One index.

    Attributes:
        index: Its name.
        spec: What it holds.
        layout: Where its columns are.
        token: Which index of that name it is; "" where vecbridge did not make it.
        losses: What of it the spec cannot say.
        plane: Its data plane.
        rest: Its data plane over REST, which alone tells what a reader sees.
        control: The control plane.
        looked: When it was last seen to be this one, on the monotonic clock.
    """

    index: str
    spec: CollectionSpec
    layout: Layout
    token: str
    losses: tuple[Gap, ...]
    plane: Plane
    rest: RestPlane
    control: Control
    looked: float = field(default_factory=time.monotonic)

    def require_current(self, *, trusted: float = 0.0) -> None:
        """Refuses to change an index that was made anew, which may answer at the address of the old one.

        Args:
            trusted: Seconds since it was last looked at, within which it is not looked at again.

        Raises:
            NotFoundError: It was dropped or replaced.
        """
        if time.monotonic() - self.looked < trusted:
            return
        if tags.identity(self.control.describe(self.index).tags or {}) != self.token:
            raise NotFoundError(f"collection {self.spec.name!r} was replaced since it was opened")
        self.looked = time.monotonic()

    def fetched(
        self, namespace: str, keys: Sequence[str], include: Sequence[str] | None
    ) -> tuple[list[str], pa.RecordBatch]:
        """Records by id, in the order asked, and the ids of those that are there."""
        parts = in_parallel(
            lambda some: self._fetched(namespace, some, include), fetchable(keys, self.spec.vector.dim)
        )
        found = [key for keys, _ in parts for key in keys]
        batches = [part for _, part in parts] or [wire.batch(self.layout, self.spec, [], include)]
        return found, pa.concat_batches(batches)

    def key_pages(self, namespace: str, rows: int, token: str) -> Iterator[tuple[list[str], str]]:
        """Ids in their order, in pages of at most ``rows``, and where each next page starts ("": nowhere)."""
        while True:
            found: list[str] = []
            while len(found) < rows:
                some, token = self.plane.keys(namespace, min(rows - len(found), IDS_LISTED), token)
                found += some
                if not token:
                    break
            yield found, token
            if not token:
                return

    def match_pages(
        self, namespace: str, filter: Mapping[str, Any], rows: int, token: str, include: Sequence[str] | None
    ) -> Iterator[tuple[pa.RecordBatch, str]]:
        """Records that match, in pages of at most ``rows``, and where each next page starts ("": nowhere).

        The service sends whole records, whatever is wanted of them.
        """
        at_once = whole_rows(self.spec.vector.dim, _MATCHES)
        while True:
            parts = []
            left = rows
            while left:
                try:
                    some, following = self.plane.matching(namespace, filter, min(left, at_once), token)
                except TooLargeError:
                    if at_once == 1:
                        raise
                    at_once = -(-at_once // 2)
                    continue
                parts.append(wire.batch(self.layout, self.spec, some, include))
                left, token = left - len(some), following
                if not token:
                    break
            yield pa.concat_batches(parts), token
            if not token:
                return

    def delete(self, namespace: str, selector: Mapping[str, Any]) -> None:
        """Removes records; none of an absent namespace."""
        with suppress(NotFoundError):
            self.plane.delete(namespace, selector)

    def delete_keys(self, namespace: str, keys: Sequence[str]) -> None:
        """Removes records by id."""
        parts = [keys[start : start + IDS_DELETED] for start in range(0, len(keys), IDS_DELETED)]
        in_parallel(lambda some: self.delete(namespace, {"ids": list(some)}), parts)

    def rows(self, namespace: str) -> int:
        """How many records a namespace has."""
        counts = self.plane.counts()
        return sum(count for found, count in counts.items() if self.layout.namespace(found) == namespace)

    def flush(self, namespace: str, timeout: float) -> None:
        """Waits until readers see every write of the namespace that was acknowledged before.

        A write that changes nothing gets a number behind all of them; a query tells the number of the last
        write that it sees.

        Raises:
            DeadlineError: Not within ``timeout`` seconds.
        """
        patience = Patience(timeout, f"the writes to {self.spec.name!r} are not visible")
        wire_name = self.layout.wire_namespace(namespace)
        try:
            written = self.rest.barrier(wire_name, patience.left)
        except NotFoundError:  # no such namespace: nothing was written
            return
        while self.rest.seen(wire_name, patience.left) < written:
            patience.wait()

    def _fetched(
        self, namespace: str, keys: Sequence[str], include: Sequence[str] | None
    ) -> tuple[list[str], pa.RecordBatch]:
        try:
            answer = self.plane.fetch(namespace, keys)
        except TooLargeError:
            if len(keys) == 1:
                raise
            middle = len(keys) // 2
            halves = [self._fetched(namespace, part, include) for part in (keys[:middle], keys[middle:])]
            return halves[0][0] + halves[1][0], pa.concat_batches([part for _, part in halves])
        found: list[Row] = [answer[key] for key in keys if key in answer]
        return [row.key for row in found], wire.batch(self.layout, self.spec, found, include)

    def hits_with_columns(self, k: int, *, values: bool, metadata: bool) -> bool:
        """Whether an answer of ``k`` hits holds the columns of each, however large they are."""
        row = self.spec.vector.dim * FLOAT_BYTES * values + METADATA_BYTES * metadata + 1_000
        return k <= math.floor(ANSWER_BYTES / row)


def in_parallel(call: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """A call for each item, some of them at a time; results in their order."""
    items = list(items)
    if len(items) < 2:
        return [call(item) for item in items]
    with ThreadPoolExecutor(min(IN_FLIGHT, len(items))) as pool:
        return list(pool.map(call, items))
