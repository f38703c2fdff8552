"""What the handles of one collection share: where it is, whether it is loaded, when it was written to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pymilvus.grpc_gen import common_pb2, milvus_pb2

from vecbridge.capabilities import Gap
from vecbridge.errors import BackendError, DeadlineError, NotFoundError, UnavailableError
from vecbridge.schema import CollectionSpec
from vecbridge.stores.milvus import expressions, readiness, wire
from vecbridge.stores.milvus.connection import Connection
from vecbridge.stores.milvus.dialects import Dialect
from vecbridge.stores.milvus.layout import TOKEN_PROPERTY, Layout

STRONG: Final = common_pb2.ConsistencyLevel.Strong
_WINDOW: Final = 16_384  # the most rows that one query may return
_PAGE_BYTES: Final = 16 << 20
_LOAD_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 0.1
_RECENT_SECONDS: Final = 30.0  # after flush(), how long a write is looked for with a strong read
_KNOWN_SECONDS: Final = 5.0  # how long it is believed that every row is in a sealed segment, or not


class Table:
    """One collection on one server.

    Args:
        connection: The server.
        dialect: What it can do.
        name: What the collection is called there.
        spec: What it holds.
        layout: Where its columns are.
        token: Changes when the collection is replaced; "" for foreign ones.
        losses: What of a foreign collection cannot be shown.
        level: Consistency of searches.
    """

    def __init__(
        self, connection: Connection, dialect: Dialect, name: str, spec: CollectionSpec, layout: Layout,
        token: str, losses: Sequence[Gap], level: int,
    ) -> None:  # fmt: skip
        self.connection = connection
        self.dialect = dialect
        self.name = name
        self.spec = spec
        self.layout = layout
        self.token = token
        self.losses = tuple(losses)
        self._level = level
        self._lock = threading.RLock()
        self._loaded = False
        self._written_at = float("-inf")
        self._strong_until = float("-inf")
        self._sealed = False, float("-inf")  # whether every row has its index; until when it is believed
        self.unbuilt: bool | None = None  # on lite: whether rows wait for the index, if that is known

    def call(self, rpc: str, request: Any, *, timeout: float | None = None) -> Any:
        """Sends a request about this collection."""
        return self.connection.call(rpc, request, timeout=timeout, what=f"{rpc} of {self.name!r}")

    def read(self, rpc: str, request: Any) -> Any:
        """Sends a query or a search; a collection that is not in memory is loaded first."""
        self.load()
        try:
            return self.call(rpc, request)
        except UnavailableError as exc:
            if "not loaded" not in str(exc):
                raise
        self._loaded = False  # released by somebody else
        self.load()
        return self.call(rpc, request)

    def load(self) -> None:
        """Loads the collection, if it is not, and waits for it.

        Raises:
            DeadlineError: It takes too long.
        """
        if self._loaded:
            return
        with self._lock:
            if self._loaded:
                return
            deadline = time.monotonic() + _LOAD_SECONDS
            if self._load_state() != common_pb2.LoadState.LoadStateLoaded:
                self.call("LoadCollection", milvus_pb2.LoadCollectionRequest(
                    collection_name=self.name, replica_number=1), timeout=_LOAD_SECONDS)  # fmt: skip
            while self._load_state() != common_pb2.LoadState.LoadStateLoaded:
                if time.monotonic() >= deadline:
                    raise DeadlineError(f"loading {self.name!r} takes more than {_LOAD_SECONDS:g} s")
                time.sleep(_POLL_SECONDS)
            self._loaded = True

    def require_current(self) -> None:
        """Refuses to write to a collection that took the place of the one that was opened.

        Raises:
            NotFoundError: It was dropped or replaced.
        """
        described = self.call(
            "DescribeCollection", milvus_pb2.DescribeCollectionRequest(collection_name=self.name)
        )
        token = next((each.value for each in described.properties if each.key == TOKEN_PROPERTY), "")
        if token != self.token:
            raise NotFoundError(f"collection {self.name!r} was dropped or replaced since it was opened")

    def wrote(self) -> None:
        """Notes a write."""
        self._written_at = time.monotonic()
        self._sealed = False, self._written_at + _KNOWN_SECONDS
        self.unbuilt = True

    @property
    def search_level(self) -> int:
        """Consistency of a search now."""
        return STRONG if time.monotonic() < self._strong_until else self._level

    def flush(self, timeout: float) -> None:
        """Waits until what was written is visible, and keeps later searches from looking further back."""
        if not self.dialect.seals:
            return
        self.load()
        expression = expressions.nothing(self.layout)
        request = wire.query_request(self.name, expression, [self.layout.pk], level=STRONG, limit=1)
        self.call("Query", request, timeout=timeout)
        self._strong_until = self._written_at + _RECENT_SECONDS

    def coverage(self, *, level: int = STRONG) -> readiness.Coverage:
        """How its rows are searched."""
        # no list of segments tells what is growing: the rows that are missing without them do
        growing = self._added_up(level, sealed_only=False) - self._added_up(level, sealed_only=True)
        return readiness.coverage(self.connection, self.name, max(growing, 0))

    def sealed(self) -> bool:
        """Whether every row is in a sealed segment with its index, as far as was known seconds ago."""
        known, until = self._sealed
        if time.monotonic() >= until:
            known = self.coverage(level=self.search_level).complete
            self._sealed = known, time.monotonic() + _KNOWN_SECONDS
        return known

    def wait_sealed(self, timeout: float) -> None:
        """Seals what is growing and waits until every large segment has its index."""
        self._sealed = False, float("-inf")
        readiness.wait(self.connection, self.name, timeout, self.coverage)

    def rebuild(self, timeout: float) -> None:
        """On lite: builds the index over everything that was written."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self.unbuilt = False  # a write from here on says otherwise
            try:
                self.call("Flush", milvus_pb2.FlushRequest(collection_names=[self.name]), timeout=timeout)
                self._loaded = False
                release = milvus_pb2.ReleaseCollectionRequest(collection_name=self.name)
                self.call("ReleaseCollection", release, timeout=max(deadline - time.monotonic(), 0.1))
                self._load_built(deadline)
                self.load()
            except BaseException:
                self.unbuilt = True
                raise

    def _load_built(self, deadline: float) -> None:
        """On lite: loads it, and so builds what has no index.

        A flush begins the same in the background. Half of a file that is being written is not read as an
        index: it is tried again.
        """
        request = milvus_pb2.LoadCollectionRequest(collection_name=self.name, replica_number=1)
        while True:
            try:
                self.call("LoadCollection", request, timeout=max(deadline - time.monotonic(), 0.1))
                return
            except BackendError as exc:
                if "read_index" not in str(exc) or time.monotonic() + _POLL_SECONDS >= deadline:
                    raise
                time.sleep(_POLL_SECONDS)

    def count(self, expression: str, *, level: int = STRONG) -> int:
        """How many rows satisfy an expression; "" is all of them."""
        if not (expression or self.dialect.seals):
            return self._added_up(level, sealed_only=False)
        # without an expression a server adds up what its segments say, which upserts under way distort
        request = wire.query_request(
            self.name, expression or expressions.everything(self.layout), ["count(*)"], level=level
        )
        return int(self.read("Query", request).fields_data[0].scalars.long_data.data[0])

    def _added_up(self, level: int, *, sealed_only: bool) -> int:
        """How many rows the segments say that they hold, without looking at one."""
        request = wire.query_request(self.name, "", ["count(*)"], level=level, sealed_only=sealed_only)
        return int(self.read("Query", request).fields_data[0].scalars.long_data.data[0])

    def page_rows(self, fields: Sequence[str]) -> int:
        """How many rows one query may ask for, so that its answer stays small."""
        dims = sum(each.dim for each in self.spec.vectors if each.name in fields)
        return max(1, min(_WINDOW, _PAGE_BYTES // (4 * dims + 256)))

    def query(self, expression: str, fields: Sequence[str], *, rows: int, level: int = STRONG) -> wire.Answer:
        """Some rows in the order of their primary keys."""
        expression = expression or expressions.everything(self.layout)
        request = wire.query_request(self.name, expression, fields, level=level, limit=rows)
        return wire.Answer(self.read("Query", request).fields_data, self.layout)

    def pages(
        self, expressions_of: Any, fields: Sequence[str], *, rows: int | None = None,
        after: str | int | None = None, level: int = STRONG,
    ) -> Iterator[tuple[list[Any], wire.Answer]]:  # fmt: skip
        """All rows in the order of their primary keys, a page at a time.

        Args:
            expressions_of: Makes the expression, from one more term that it must hold.
            fields: What to ask for; the primary key among them.
            rows: Rows a page, at most.
            after: Only primary keys beyond this one.
            level: Consistency of the first page; the others follow it.
        """
        limit = self.page_rows(fields) if rows is None else min(rows, self.page_rows(fields))
        while True:
            more = [] if after is None else [expressions.after_key(self.layout, after)]
            answer = self.query(expressions_of(*more), fields, rows=limit, level=level)
            keys = answer.keys()
            if keys:
                yield list(keys), answer
            if len(keys) < limit:
                return
            after = keys[-1]
            level = self._level

    def delete(self, keys: Sequence[str | int]) -> None:
        """Removes rows by primary key."""
        expression = expressions.of_keys(self.layout, keys)
        self.call("Delete", milvus_pb2.DeleteRequest(collection_name=self.name, expr=expression))
        self.wrote()

    def _load_state(self) -> int:
        request = milvus_pb2.GetLoadStateRequest(collection_name=self.name)
        return int(self.call("GetLoadState", request).state)
