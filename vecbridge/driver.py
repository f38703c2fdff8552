"""What a backend is: a driver of narrow verbs, called by the front with checked arguments.

:class:`~vecbridge.store.Store` and :class:`~vecbridge.collection.Collection` are what people use; they are
written once. A driver does what only its database can do: encode rows, send a request, read an answer. It
checks no argument, retries nothing, knows of no closed or forked handle, and opens no connection before its
first verb. ``docs/writing-a-driver.md`` shows a complete one.

A driver raises the errors of its own table (:meth:`StoreDriver.error`) or any ``VecbridgeError``; whatever
else escapes from a verb is shown to :meth:`StoreDriver.error` and wrapped by the front.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import pyarrow as pa

from vecbridge.capabilities import Capabilities, Gap
from vecbridge.deadlines import Deadline
from vecbridge.errors import SchemaError, VecbridgeError
from vecbridge.exchange import (
    Columns,
    Described,
    Identity,
    Key,
    KeyedPage,
    PageRequest,
    Refusal,
    RequestLimits,
    SearchRequest,
    SearchResult,
    WritePart,
    WriteResult,
)
from vecbridge.filters import Filter
from vecbridge.query import Status
from vecbridge.schema import CollectionSpec
from vecbridge.urls import StoreOptions, StoreURL

__all__ = [  # drivers import the whole protocol from here
    "AddsFields",
    "CollectionDriver",
    "Columns",
    "Compacts",
    "CountsWhere",
    "Deadline",
    "DeletesWhere",
    "Described",
    "Encoder",
    "EncodesAhead",
    "Identity",
    "Key",
    "KeyedPage",
    "OnFork",
    "PageRequest",
    "Refusal",
    "Repairs",
    "RequestLimits",
    "SearchRequest",
    "SearchResult",
    "Splits",
    "StoreDriver",
    "WritePart",
    "WriteResult",
    "WritesAbsent",
    "outdated",
]

#: What becomes of a driver in a forked child: opened anew, opened anew for reading, kept for reading (it is
#: plain memory), or unusable.
OnFork: TypeAlias = Literal["reopen", "read_only", "keep", "refuse"]


class CollectionDriver(Protocol):
    """One namespace of one collection; thread-safe.

    A verb raises NotFoundError where the collection is gone. An absent namespace is empty.
    """

    def identity(self, deadline: Deadline) -> Identity | None:
        """Which collection has this name now; None if none has."""
        ...

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        """Encodes rows and cuts them into requests; sends nothing.

        Every row is looked at before this returns, so that a row that the database cannot hold is refused
        before anything is sent; the requests may be encoded as they are asked for.

        Args:
            rows: Checked, at least one, without repeated ids.
            limits: Of a request; a row that is larger stands alone.

        Raises:
            InvalidRecordError: Names every row that cannot be held.
        """
        ...

    def write(self, part: WritePart, deadline: Deadline) -> WriteResult:
        """Sends one request; returns when its rows are acknowledged: they survive kill -9.

        Raises:
            VecbridgeError: No row was acknowledged; ``unsent`` of a BackendError says that none is stored.
        """
        ...

    def delete_keys(self, ids: pa.Array, deadline: Deadline) -> int | None:
        """Removes rows by id, at least one; how many there were, None if the database does not say."""
        ...

    def search(self, request: SearchRequest) -> SearchResult:
        """The nearest rows, as the database finds them."""
        ...

    def lookup(self, ids: pa.Array, columns: Columns, deadline: Deadline) -> pa.RecordBatch:
        """Rows by id, at least one id, in any order; missing ones are left out."""
        ...

    def pages(self, request: PageRequest) -> Generator[KeyedPage, None, None]:
        """All rows that match; may read ahead; closing the generator cancels what is under way.

        Raises:
            CursorExpiredError: Nothing can go on from the key, since the collection was compacted.
            ValueError: No key of this driver's.
        """
        ...

    def count(self, deadline: Deadline) -> int:
        """How many rows there are, exactly."""
        ...

    def status(self, deadline: Deadline) -> Status:
        """Rows, and whether each index answers."""
        ...

    def flush(self, deadline: Deadline) -> None:
        """Returns when every acknowledged write is visible to every client."""
        ...

    def build(self, deadline: Deadline) -> None:
        """Starts what index work is pending, and returns when none is."""
        ...


class StoreDriver(Protocol):
    """A database; thread-safe. Making one opens nothing: the first verb that needs it connects.

    Attributes:
        capabilities: The most that any server of its kind can do.
        options: The options that its URL takes.
        on_fork: What becomes of it in a forked child.
        url: Normalized, without secrets.
    """

    capabilities: ClassVar[Capabilities]
    options: ClassVar[type[StoreOptions]]
    on_fork: ClassVar[OnFork]
    url: StoreURL

    def __init__(self, url: StoreURL, options: Any, *, read_only: bool = False) -> None:
        """Raises for a URL or an option that cannot be right, and for a missing package."""
        ...

    @classmethod
    def gaps(cls, spec: CollectionSpec) -> Iterable[Gap]:
        """What the capabilities' figures cannot say about a spec."""
        ...

    def connect(self, deadline: Deadline) -> Capabilities:
        """Connects, and says what this very server can do; called once, before every other verb."""
        ...

    def names(self, deadline: Deadline) -> Iterable[str]:
        """Names of the collections, in any order."""
        ...

    def describe(self, name: str, deadline: Deadline) -> Described | None:
        """One collection, read afresh; None if there is none of that name. ``name`` may be any text."""
        ...

    def create(
        self, spec: CollectionSpec, token: str, replacing: Described | None, deadline: Deadline
    ) -> Described:
        """Builds a collection and stores spec and token with it; nothing is left behind on failure.

        Args:
            spec: What to build; the capabilities and :meth:`gaps` allow it.
            token: Its identity.
            replacing: The collection that has the name; it goes.
            deadline: Of all that it takes.

        Raises:
            CollectionExistsError: One was made meanwhile, or a foreign one has the name.
        """
        ...

    def attach(self, found: Described, namespace: str) -> CollectionDriver:
        """The driver of one namespace; sends nothing."""
        ...

    def namespaces(self, found: Described, deadline: Deadline) -> Iterable[str]:
        """Namespaces that were written to, in any order; asked only of a namespaced collection."""
        ...

    def drop(self, found: Described, namespace: str | None, deadline: Deadline) -> None:
        """Removes a collection (None) or the rows of one namespace; returns when they are gone."""
        ...

    def error(self, exc: Exception, what: str) -> VecbridgeError | None:
        """The database's exception as one of ours: the driver's one error table; None for a strange one.

        Args:
            exc: What a verb raised.
            what: What was asked, for the message.
        """
        ...

    def forked(self) -> None:
        """Called once in a forked child: closes inherited lock descriptors, and does nothing else."""
        ...

    def close(self) -> None:
        """Releases connections, files and locks."""
        ...


def outdated(name: str) -> SchemaError:
    """The error of a write through a handle that does not know all fields, and would null those it misses.

    The front raises it where it looks before a write; a driver whose ``trust_writes`` is infinite does so.
    """
    return SchemaError(f"fields were added to {name!r} since it was opened: open it again")


# Optional verbs: the flag of the capabilities that declares each stands in its docstring.


class AddsFields(Protocol):
    """``adds_fields``; a verb of the store's driver."""

    def add_fields(self, found: Described, spec: CollectionSpec, deadline: Deadline) -> Described | None:
        """Adds scalar fields; they are null in the rows that are there.

        A call that was cut off may be repeated: what it had done already is taken as done.

        Args:
            found: The collection as it was described a moment ago.
            spec: Its spec with the new fields at the end; the capabilities and ``gaps`` allow it.
            deadline: Of all that it takes.

        Returns:
            The collection with its new spec; None if it is no longer as ``found`` says, because somebody else
            added fields meanwhile: the front describes it again.
        """
        ...


class WritesAbsent(Protocol):
    """``atomic_conflict``."""

    def write_absent(self, part: WritePart, deadline: Deadline, *, whole: bool) -> WriteResult:
        """Writes the rows whose ids are not there; looking and writing are one step.

        Args:
            part: As of :meth:`CollectionDriver.write`.
            deadline: Of the request.
            whole: Write nothing at all if one of the ids is there.

        Returns:
            ``present`` says which rows are there.
        """
        ...


class DeletesWhere(Protocol):
    """``deletes_where``."""

    def delete_where(self, filter: Filter | None, seconds: float) -> int | None:
        """Removes the rows that match, None all of them; ``seconds`` is the time for each request."""
        ...


class CountsWhere(Protocol):
    """``counts_where``."""

    def count_where(self, filter: Filter, deadline: Deadline) -> int:
        """How many rows match, exactly."""
        ...


class Splits(Protocol):
    """``splits``."""

    def split(self, parts: int, deadline: Deadline) -> Sequence[Key]:
        """Start keys of at most ``parts`` disjoint parts; a scan from one ends where the next part starts."""
        ...


class Compacts(Protocol):
    """``compacts``."""

    def compact(self, deadline: Deadline) -> None:
        """Gives back the place of deleted rows; expires keys."""
        ...


class Repairs(Protocol):
    """``repairs``."""

    def repair(self, deadline: Deadline) -> int:
        """Writes again the rows that the index has lost; how many."""
        ...


class Encoder(Protocol):
    """What encodes the rows of one namespace; knows of no connection."""

    def prepare(self, rows: pa.RecordBatch, limits: RequestLimits) -> Iterator[WritePart]:
        """As :meth:`CollectionDriver.prepare`, with the same requests."""
        ...

    def request_size(self, part: WritePart) -> int:
        """Bytes that a request of :meth:`prepare` takes as it is sent, or stored where nothing is sent."""
        ...


class EncodesAhead(Protocol):
    """A verb of the store's driver that no flag declares: where it is missing, a plan guesses sizes."""

    def encoder(self, spec: CollectionSpec, found: Described | None, namespace: str) -> Encoder:
        """What would encode the rows of a collection; sends nothing and makes nothing.

        Args:
            spec: The collection; the capabilities and :meth:`StoreDriver.gaps` allow it.
            found: The same collection where it exists; None if it would have to be created.
            namespace: Which of it.
        """
        ...
