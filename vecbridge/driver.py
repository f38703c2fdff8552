"""What a backend is: a driver of narrow verbs, called by the front with checked arguments.

:class:`~vecbridge.store.Store` and :class:`~vecbridge.collection.Collection` are what people use; they are
written once. A driver does what only its database can do: encode rows, send a request, read an answer. It
checks no argument, retries nothing, knows of no closed or forked handle, and opens no connection before its
first verb. ``docs/writing-a-driver.md`` shows a complete one.

A driver raises the errors of its own table (:meth:`StoreDriver.error`) or any ``VecbridgeError``; whatever
else escapes from a verb is shown to :meth:`StoreDriver.error` and wrapped by the front.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import pyarrow as pa

from vecbridge.capabilities import Capabilities, Gap
from vecbridge.deadlines import Deadline as Deadline  # drivers import the whole protocol from here
from vecbridge.errors import VecbridgeError
from vecbridge.filters import Filter
from vecbridge.query import FloatArray, Hits, Status
from vecbridge.schema import CollectionSpec, VectorField
from vecbridge.urls import StoreOptions, StoreURL

#: Where a scan goes on: JSON values that only the driver reads.
Key: TypeAlias = "bool | int | float | str | list[Key] | None"
#: Names of columns in the order of the spec, without "id".
Columns: TypeAlias = tuple[str, ...]
#: What becomes of a driver in a forked child: opened anew, opened anew for reading, kept for reading (it is
#: plain memory), or unusable.
OnFork: TypeAlias = Literal["reopen", "read_only", "keep", "refuse"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which collection of its name this is.

    Attributes:
        value: The token that ``create`` stored; for a foreign collection the server's own number or time of
            creation.
        certain: False where a replacement of the same shape may have the same value.
    """

    value: str
    certain: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """A collection as it stands in the database.

    Attributes:
        name: Its name here.
        spec: What it holds; a foreign collection is introspected into one.
        identity: Which collection of that name it is.
        losses: What the spec cannot say of a foreign collection.
        read_only: Why rows cannot be written, as a hint for the user; "" if they can.
        state: What the driver wants back in :meth:`StoreDriver.attach`, such as a layout.
    """

    name: str
    spec: CollectionSpec
    identity: Identity
    losses: tuple[Gap, ...] = ()
    read_only: str = ""
    state: Any = None


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The size of one write request.

    Attributes:
        rows: Rows, at most.
        bytes: Bytes as encoded, at most; None where there is no limit.
    """

    rows: int
    bytes: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class WritePart:
    """One write request, ready to be sent.

    Attributes:
        rows: Adjacent rows of the prepared batch.
        payload: What :meth:`CollectionDriver.write` of the same driver takes.
    """

    rows: range
    payload: Any


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one row of a request was not acknowledged.

    Attributes:
        error: What the database said.
        stored: "no", or "unknown" where the row may be stored all the same.
    """

    error: VecbridgeError
    stored: Literal["no", "unknown"] = "no"


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of a request.

    Attributes:
        refused: By position in the part, the rows that were not acknowledged; every other row was.
    """

    refused: Mapping[int, Refusal] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class SearchRequest:
    """A search of one vector field.

    Attributes:
        field: The vector field.
        vectors: float32, shape (n, dim), n >= 1, C-contiguous, finite.
        k: Hits a query vector, at most; at least 1.
        filter: Normalized, within the capabilities' depth and size, true for some rows and false for others;
            None is every row.
        columns: Columns that the hits carry beside the id; None is ids and scores alone.
        ef: HNSW breadth, or None for the backend's default.
        nprobe: IVF lists to visit, or None for the backend's default.
        deadline: Of the whole search.
    """

    field: VectorField
    vectors: FloatArray
    k: int
    filter: Filter | None
    columns: Columns | None
    ef: int | None
    nprobe: int | None
    deadline: Deadline


@dataclass(slots=True, eq=False)
class SearchResult:
    """The hits of each query vector, best first, with the contract's scores.

    Attributes:
        hits: One a query vector. ``records`` may be None although columns were asked for: the front then
            looks them up.
        unsure: Positions of query vectors for which the database may have missed matches of the filter: the
            front reads the matches by :meth:`CollectionDriver.pages` and compares them all.
    """

    hits: Sequence[Hits]
    unsure: Sequence[int] = ()


@dataclass(frozen=True, slots=True, eq=False)
class PageRequest:
    """Rows in the driver's own order, from a key on.

    Attributes:
        columns: Columns beside the id.
        filter: As of a search.
        rows: Rows a page, at most.
        seconds: Time for each page.
        after: The key of the page before; None is the start.
        limit: Rows that are wanted in all: read no further ahead. None is all.
        consistency: "latest" sees every acknowledged write; "search" may lag behind as a search may.
    """

    columns: Columns
    filter: Filter | None
    rows: int
    seconds: float
    after: Key = None
    limit: int | None = None
    consistency: Literal["latest", "search"] = "latest"


@dataclass(frozen=True, slots=True, eq=False)
class KeyedPage:
    """A page, and the key from which the next one starts.

    Attributes:
        batch: ``id`` and the columns asked for, in the order of the spec; may have no rows.
        after: Valid in another process.
        unfit: Rows of a foreign collection that a batch cannot hold: why, by id.
    """

    batch: pa.RecordBatch
    after: Key
    unfit: Mapping[str | int, str] = field(default_factory=dict)


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


# Optional verbs: the flag of the capabilities that declares each stands in its docstring.


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
