"""What the front and a driver hand each other: descriptions, requests and answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from vecbridge.capabilities import Gap
from vecbridge.deadlines import Deadline
from vecbridge.errors import VecbridgeError
from vecbridge.filters import Filter
from vecbridge.query import FloatArray, Hits, Unfit
from vecbridge.schema import CollectionSpec, VectorField

#: Where a scan goes on: JSON values that only the driver reads.
Key: TypeAlias = "bool | int | float | str | list[Key] | None"
#: Names of columns in the order of the spec, without "id".
Columns: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which collection of its name this is.

    Attributes:
        value: The token that ``create`` stored; for a foreign collection the server's own number or time of
            creation.
        certain: False where a replacement of the same shape may have the same value.
        schema: How many scalar fields it has, so that each field that is added raises it; the same collection
            has the same ``value`` before and after. 0 for a foreign collection.
    """

    value: str
    certain: bool = True
    schema: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """A collection as it stands in the database.

    Attributes:
        name: Its name here.
        spec: What it holds; a foreign collection is introspected into one.
        identity: Which collection of that name it is.
        losses: What the spec cannot say of a foreign collection.
        read_only: Why rows cannot be written, as a hint for the user; "" if they can.
        extra: The json column of a foreign collection that takes every key outside the others, or None.
        state: What the driver wants back in :meth:`StoreDriver.attach`, such as a layout.
        any_namespace: Whether its namespaces may have names that those of vecbridge's own never have.
    """

    name: str
    spec: CollectionSpec
    identity: Identity
    losses: tuple[Gap, ...] = ()
    read_only: str = ""
    extra: str | None = None
    state: Any = None
    any_namespace: bool = False


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
        present: Positions of the rows that ``write_absent`` left as they are in the database.
    """

    refused: Mapping[int, Refusal] = field(default_factory=dict)
    present: Collection[int] = ()


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
        unfit: By id, why a batch of the columns asked for cannot hold a row of another program; such rows
            count as rows of the page, and are not in its batch. A row whose numbers are NaN, infinite or all
            zero fits.
    """

    batch: pa.RecordBatch
    after: Key
    unfit: Mapping[str | int, Unfit] = field(default_factory=dict)
