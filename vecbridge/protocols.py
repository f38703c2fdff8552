"""The protocols that every backend fulfils; an adapter is a pair of classes, with nothing to inherit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Literal, Protocol, Self, get_args, runtime_checkable

import pyarrow as pa

from vecbridge.capabilities import Capabilities, Gap
from vecbridge.errors import ConfigError
from vecbridge.filters import Filter
from vecbridge.query import Hits, Page, Query, Status, WriteReport
from vecbridge.schema import CollectionSpec
from vecbridge.urls import StoreURL

IfExists = Literal["error", "open", "replace"]


def check_if_exists(if_exists: str) -> None:
    """Lets only a known ``if_exists`` pass: a misspelt one must not replace anything.

    Raises:
        ConfigError: Names those that there are.
    """
    if if_exists not in get_args(IfExists):
        raise ConfigError(f"if_exists={if_exists!r}: one of {', '.join(get_args(IfExists))}")


def check_delete(ids: object, filter: object) -> None:
    """Lets only ids or a filter pass: with neither, or both, it is not clear what is to be removed.

    Raises:
        ConfigError: Neither, or both.
    """
    if (ids is None) == (filter is None):
        raise ConfigError("delete() takes ids or filter=, exactly one of them")


def check_whole(name: str, value: object) -> None:
    """Lets only whole numbers from 1 pass.

    Args:
        name: Of the argument, for the message.
        value: Of the argument.

    Raises:
        ConfigError: Another one.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name}={value!r}: a whole number from 1")


@runtime_checkable
class Store(Protocol):
    """A database: thread-safe, and making one sends nothing."""

    capabilities: Capabilities

    def create(
        self, spec: CollectionSpec, *, if_exists: IfExists = "error", namespace: str = ""
    ) -> Collection:
        """Builds a collection.

        Args:
            spec: What to build; it is stored, and built as it stands.
            if_exists: "open" opens one that agrees with the spec, "replace" drops it first.
            namespace: Which namespace the returned collection is.

        Raises:
            CollectionExistsError: It exists, or with "open" it differs.
            UnsupportedError: The backend cannot build it.
            ConfigError: A namespace where there are none.
        """
        ...

    def open(self, name: str, *, namespace: str = "") -> Collection:
        """Opens a collection that exists.

        Raises:
            NotFoundError: It does not exist.
            ConfigError: A namespace where there are none.
        """
        ...

    def collections(self) -> Sequence[str]:
        """Names of the collections, sorted."""
        ...

    def namespaces(self, name: str) -> Sequence[str]:
        """Namespaces of a collection, sorted; ``[""]`` unless it is namespaced.

        Raises:
            NotFoundError: The collection does not exist.
        """
        ...

    def drop(self, name: str, *, namespace: str | None = None) -> None:
        """Removes a collection, or one namespace of it.

        Raises:
            NotFoundError: The collection does not exist.
        """
        ...

    def close(self) -> None:
        """Releases connections, files and locks; a second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Collection(Protocol):
    """One namespace of one collection: thread-safe; identity of a row is (namespace, id).

    Attributes:
        url: Where it is; its text never shows a password.
        spec: What it holds.
        namespace: Which namespace it is.
        capabilities: What its backend can do.
        losses: What a collection holds that ``spec`` cannot say, if vecbridge did not make it.
    """

    url: StoreURL
    spec: CollectionSpec
    namespace: str
    capabilities: Capabilities
    losses: Sequence[Gap]

    def upsert(self, batch: pa.RecordBatch) -> WriteReport:
        """Writes whole records of any number, replacing those of the same id.

        Args:
            batch: As :func:`vecbridge.batch` builds it; a declared column left out is null.

        Returns:
            When every row was acknowledged: what survives kill -9 of client and server.

        Raises:
            InvalidRecordError: Rows that no backend may take; nothing was sent.
            PartialWriteError: Some rows were acknowledged and some were not.
            BackendError: None was.
        """
        ...

    def search(self, query: Query) -> list[Hits]:
        """The nearest rows, best first; one Hits a query vector.

        Raises:
            SchemaError: A query that does not fit the collection.
            UnsupportedError: A knob or k that the backend does not take.
        """
        ...

    def fetch(self, ids: Iterable[str | int], *, include: Sequence[str] | None = None) -> pa.RecordBatch:
        """Records by id, in the order asked; missing ones are left out, repeats collapsed.

        Args:
            ids: Ids of the collection's type.
            include: Columns beside the id; None is all of them.
        """
        ...

    def delete(self, ids: Iterable[str | int] | None = None, *, filter: Filter | None = None) -> int | None:
        """Removes rows by ids or by filter; exactly one of the two.

        Returns:
            How many there were; None where the backend does not say.

        Raises:
            ConfigError: Both were given, or neither.
        """
        ...

    def scan(
        self,
        *,
        include: Sequence[str] | None = None,
        filter: Filter | None = None,
        batch_rows: int = 10_000,
        cursor: str | None = None,
    ) -> Iterator[Page]:
        """Every record once, in pages; one inserted or deleted meanwhile comes at most once.

        Args:
            include: Columns beside the id; ``[]`` is ids only, None all of them.
            filter: Only rows that match.
            batch_rows: Rows a page, at most.
            cursor: Where to go on, from ``Page.cursor``; works in another process.

        Raises:
            CursorExpiredError: The collection was compacted or replaced since.
        """
        ...

    def count(self, filter: Filter | None = None) -> int:
        """How many rows there are, or match."""
        ...

    def status(self) -> Status:
        """Rows, and whether the index answers."""
        ...

    def flush(self, timeout: float = 60.0) -> None:
        """Returns when acknowledged writes are visible to every client.

        Raises:
            DeadlineError: Not within ``timeout`` seconds.
        """
        ...

    def wait_ready(self, timeout: float = 600.0) -> None:
        """Returns when no index work is pending.

        Raises:
            DeadlineError: Not within ``timeout`` seconds.
        """
        ...

    def close(self) -> None:
        """Releases what the collection holds; a second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Splittable(Protocol):
    """A collection that can be scanned by several readers."""

    def split(self, parts: int) -> list[str]:
        """Start cursors of at most ``parts`` disjoint parts; each scan ends where the next part starts."""
        ...


@runtime_checkable
class Compactable(Protocol):
    """A collection that keeps the place of deleted rows until it is told to give it back."""

    def compact(self, timeout: float = 600.0) -> None:
        """Rewrites the live rows and their index; expires cursors.

        Raises:
            DeadlineError: Not within ``timeout`` seconds.
        """
        ...
