"""What the namespaces of one collection share: whether it is loaded, and when it was written to."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pymilvus.grpc_gen import common_pb2

from vecbridge.driver import Deadline
from vecbridge.errors import DeadlineError, UnavailableError
from vecbridge.schema import CollectionSpec
from vecbridge.stores.milvus import expressions, wire
from vecbridge.stores.milvus.connection import Connection
from vecbridge.stores.milvus.dialects import Dialect
from vecbridge.stores.milvus.layout import Layout

STRONG: Final[int] = common_pb2.ConsistencyLevel.Strong
RECENT_SECONDS: Final = 30.0  # after flush(), how long a write is looked for with strong reads
_LOADED: Final = common_pb2.LoadState.LoadStateLoaded
_LOAD_POLL_SECONDS: Final = 0.1
_WINDOW: Final = 16_384  # the most rows that one query may return
_PAGE_BYTES: Final = 16 << 20
_LONG_PAGE_BYTES: Final = 32 << 20  # where a query costs a pass over all rows, and has no window
#: The requests that name their collection by another field.
_OTHER_NAMES: Final[dict[str, Callable[[str], dict[str, Any]]]] = {
    "Flush": lambda name: {"collection_names": [name]},
    "GetQuerySegmentInfo": lambda name: {"collectionName": name},
}


class Table:
    """One collection on one server, shared by the drivers of its namespaces.

    Args:
        connection: The server.
        dialect: What it can do.
        spec: What the collection holds; fields may have been added since.
        layout: Where its columns are.
        consistency: Of searches: "strong", "bounded" or "eventually".

    Attributes:
        level: The same as Milvus numbers it.
        written_at: When this process last wrote to it, on the monotonic clock.
    """

    def __init__(
        self, connection: Connection, dialect: Dialect, spec: CollectionSpec, layout: Layout, consistency: str
    ) -> None:
        self.dialect = dialect
        self.spec = spec
        self.layout = layout
        self.level = int(common_pb2.ConsistencyLevel.Value(consistency.capitalize()))
        self.written_at = -math.inf
        self._connection = connection
        self._strong_until = -math.inf
        self._loading = threading.RLock()
        self._loaded = False

    @property
    def search_level(self) -> int:
        """Consistency of a search now."""
        return STRONG if time.monotonic() < self._strong_until else self.level

    def call(self, rpc: str, deadline: Deadline, **fields: Any) -> Any:
        """Sends a request about this collection."""
        name = self.spec.name
        naming = _OTHER_NAMES.get(rpc)
        fields |= {"collection_name": name} if naming is None else naming(name)
        return self._connection.call(rpc, deadline, f"{rpc} of {name!r}", **fields)

    def read(self, rpc: str, deadline: Deadline, **fields: Any) -> Any:
        """Sends a query or a search; a collection that is not in memory is loaded first."""
        self.load(deadline)
        try:
            return self.call(rpc, deadline, **fields)
        except UnavailableError as exc:
            if "not loaded" not in str(exc):
                raise
        self.unloaded()  # released by somebody else
        self.load(deadline)
        return self.call(rpc, deadline, **fields)

    def write(self, rpc: str, deadline: Deadline, **fields: Any) -> None:
        """Sends an upsert or a deletion."""
        try:
            self.call(rpc, deadline, **fields)
        finally:
            self.written_at = time.monotonic()

    def load(self, deadline: Deadline) -> None:
        """Loads the collection, if it is not, and waits for it.

        Raises:
            DeadlineError: It takes too long; the server goes on.
        """
        if self._loaded:
            return
        with self.loading(deadline):
            if not self._loaded and self._load_state(deadline) != _LOADED:
                self.call("LoadCollection", deadline, replica_number=1)
            while not self._loaded and self._load_state(deadline) != _LOADED:
                deadline.pause(_LOAD_POLL_SECONDS, f"{self.spec.name!r} is still being loaded")
            self._loaded = True

    def unloaded(self) -> None:
        """Notes that the collection may not be in memory."""
        self._loaded = False

    @contextmanager
    def loading(self, deadline: Deadline) -> Iterator[None]:
        """Keeps other threads from loading the collection meanwhile.

        Raises:
            DeadlineError: Another thread is at it for too long.
        """
        if not self._loading.acquire(timeout=deadline.left()):
            raise DeadlineError(f"{self.spec.name!r} is still being loaded")
        try:
            yield
        finally:
            self._loading.release()

    def flush(self, deadline: Deadline) -> None:
        """Waits until what was written is visible, and keeps later searches from looking further back."""
        if self.dialect.seals:
            self.query(expressions.nothing(self.layout), [self.layout.pk], deadline, rows=1)
            self._strong_until = self.written_at + RECENT_SECONDS

    def query(
        self, expression: str, fields: Sequence[str], deadline: Deadline, *, rows: int, level: int = STRONG
    ) -> wire.Answer:
        """Some rows in the order of their primary keys."""
        expression = expression or expressions.everything(self.layout)
        request = wire.query(expression, fields, level=level, limit=rows)
        return wire.Answer(self.read("Query", deadline, **request).fields_data, self.layout.pk)

    def of_keys(self, keys: Sequence[Any], fields: Sequence[str], deadline: Deadline) -> wire.Answer:
        """The rows of some primary keys, in any order."""
        expression = expressions.of_keys(self.layout, keys)
        if self.dialect.reads_all:  # but not for a query without a limit that names nothing but keys
            request = wire.query(expression, fields, level=STRONG)
            answer = self._connection.undisturbed(lambda: self.read("Query", deadline, **request))
            if answer is not None:
                return wire.Answer(answer.fields_data, self.layout.pk)
        return self.query(expression, fields, deadline, rows=len(keys))

    def page_rows(self, fields: Sequence[str]) -> int:
        """How many rows one query may ask for, so that its answer stays small."""
        dims = sum(field.dim for field in self.spec.vectors if field.name in fields)
        size = 4 * dims + 256
        return max(
            1, _LONG_PAGE_BYTES // size if self.dialect.reads_all else min(_WINDOW, _PAGE_BYTES // size)
        )

    def count(self, expression: str, deadline: Deadline, *, level: int = STRONG) -> int:
        """How many rows satisfy an expression; "" is all of them."""
        if self.dialect.seals:
            # without an expression a server adds up what its segments say, which upserts under way distort
            expression = expression or expressions.everything(self.layout)
        self.load(deadline)
        counted = self._connection.counted(self.spec.name, expression)
        return self._counted(deadline, expression, level=level) if counted is None else counted

    def added_up(self, deadline: Deadline, *, level: int, sealed_only: bool = False) -> int:
        """How many rows the segments say that they hold, without looking at one."""
        return self._counted(deadline, "", level=level, sealed_only=sealed_only)

    def _counted(self, deadline: Deadline, expression: str, **options: Any) -> int:
        request = wire.query(expression, ["count(*)"], **options)
        return int(self.read("Query", deadline, **request).fields_data[0].scalars.long_data.data[0])

    def _load_state(self, deadline: Deadline) -> int:
        return int(self.call("GetLoadState", deadline).state)
