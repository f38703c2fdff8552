"""What goes into a search and what comes out of every call: Query, Hits, WriteReport, Page, Status."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from vecbridge import timestamps
from vecbridge.errors import Failure, SchemaError
from vecbridge.filters import AnyFilter
from vecbridge.indexes import IndexParams
from vecbridge.schema import EmbedderIdentity
from vecbridge.texts import shown

FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
#: Which columns are returned beside the id: ``"all"``, or names; an empty sequence is none.
Include: TypeAlias = "Literal['all'] | Sequence[str]"
#: The losses of single rows that a batch cannot hold.
UnfitKind: TypeAlias = Literal["row:no_vector", "row:not_finite", "row:id", "size"]
Ids: TypeAlias = "list[str] | np.ndarray[Any, np.dtype[np.int64]]"
_TIMESTAMP: Final = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A search for the nearest vectors; one query vector or many, or the vector of a stored record.

    Attributes:
        vectors: Shape (dim,) or (n, dim), any real dtype, kept as float32 of shape (n, dim); or None.
        k: How many hits a query vector, at most.
        filter: Only rows that match; a filter or its JSON form. Never applied after the top k.
        include: Columns to return with the hits, "all" or names; ``()`` returns ids and scores alone.
        ef: Breadth of an HNSW search.
        nprobe: Lists an IVF search visits.
        using: Name of the vector field, where there are several.
        embedder: Which model made the query vectors; checked against the collection's, if both are known.
        id: Search by the vector of this record, which is not among the hits itself.
        min_score: Only hits of at least this score; not under L2.
        max_distance: Only hits of at most this distance; under L2 alone.

    Raises:
        SchemaError: Not vectors, vectors and an id, a k, ef or nprobe below 1, a threshold that is no number.

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=2, fields={"year": "int64"})
        >>> vectors, years = [[1, 0], [0, 1], [1, 1]], [2019, 2020, 2021]
        >>> query = vb.Query([1, 0], k=2, filter=vb.field("year") >= 2020, include=["year"])
        >>> with vb.connect("memory://") as store:
        ...     photos = store.create(spec)
        ...     report = photos.upsert(vb.batch(spec, id=["a", "b", "c"], vector=vectors, year=years))
        ...     [hits] = photos.search(query)
        >>> [(hit.id, hit.record["year"]) for hit in hits]
        [('c', 2021), ('b', 2020)]
    """

    vectors: FloatArray = None  # type: ignore[assignment]  # of no rows where an id stands instead
    k: int = 10
    filter: AnyFilter | None = field(default=None, kw_only=True)
    include: Include = field(default=(), kw_only=True)
    ef: int | None = field(default=None, kw_only=True)
    nprobe: int | None = field(default=None, kw_only=True)
    using: str | None = field(default=None, kw_only=True)
    embedder: EmbedderIdentity | None = field(default=None, kw_only=True)
    id: str | int | None = field(default=None, kw_only=True)
    min_score: float | None = field(default=None, kw_only=True)
    max_distance: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if (self.vectors is None) == (self.id is None):
            raise SchemaError("a query has vectors, or id= of a stored record: exactly one of the two")
        if self.vectors is None:
            object.__setattr__(self, "vectors", np.empty((0, 1), np.float32))
        vectors = _float32(self.vectors)
        if vectors.ndim == 1:
            vectors = vectors[None, :]
        if vectors.ndim != 2 or vectors.shape[1] == 0:
            raise SchemaError(f"query vectors of shape (dim,) or (n, dim) are wanted, not {vectors.shape}")
        object.__setattr__(self, "vectors", vectors)
        for name in ("k", "ef", "nprobe"):
            value = getattr(self, name)
            if value is None and name != "k":
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise SchemaError(f"{name}={shown(value)}: a whole number from 1")
            object.__setattr__(self, name, int(value))
        for name in ("min_score", "max_distance"):
            bound = getattr(self, name)
            if bound is not None and (
                isinstance(bound, bool)
                or not isinstance(bound, int | float | np.floating)
                or not -math.inf < bound < math.inf
            ):
                raise SchemaError(f"{name}={shown(bound)}: a finite number")
        require_include(self.include)


def require_include(include: object) -> None:
    """Refuses what names no columns, such as None or one name that is not in a list.

    Raises:
        SchemaError: Says what may be given.
    """
    if not (include == "all" if isinstance(include, str) else isinstance(include, Sequence)):
        raise SchemaError(
            f'include={shown(include)}: "all" for every column, or a list of column names, '
            "() for none of them"
        )


def _float32(vectors: ArrayLike) -> FloatArray:
    """C-contiguous float32; no copy of what is that already."""
    if isinstance(vectors, np.ndarray) and vectors.dtype == np.float32 and vectors.flags.c_contiguous:
        return vectors
    try:
        with np.errstate(over="ignore"):  # what overflows becomes Inf, which is refused with its row
            return np.ascontiguousarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as exc:
        raise SchemaError(f"query vectors of shape (dim,) or (n, dim) are wanted: {exc}") from exc


@dataclass(frozen=True, slots=True)
class Hit:
    """One row that was found.

    Attributes:
        id: The row's id.
        score: Similarity or distance, as the metric says.
        record: The id and the included columns by name, None if there are none.

    Example:
        >>> import vecbridge as vb
        >>> hits = vb.Hits(["a", "b"], [0.9, 0.7])
        >>> hits[0]
        Hit(id='a', score=0.9, record=None)
    """

    id: str | int
    score: float
    record: dict[str, Any] | None


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """The hits of one query vector, best first, as columns.

    Attributes:
        ids: list of str, or int64 array of shape (h,).
        scores: float32, shape (h,).
        records: ``id`` and the included columns, h rows; None if none were included.
        json_columns: Those of them that hold JSON text, which ``Hit.record`` gives as Python values.

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=2)
        >>> with vb.connect("memory://") as store:
        ...     photos = store.create(spec)
        ...     report = photos.upsert(vb.batch(spec, id=["a", "b"], vector=[[0, 1], [2, 0]]))
        ...     [hits] = photos.search(vb.Query([1, 0]))
        >>> hits.ids, hits.scores.tolist()
        (['b', 'a'], [1.0, 0.0])
        >>> [hit.id for hit in hits]
        ['b', 'a']
    """

    ids: Ids
    scores: FloatArray
    records: pa.RecordBatch | None = None
    json_columns: Collection[str] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> Hit:
        key = self.ids[position]
        if self.records is None:
            record = None
        else:
            record = _values(self.records, range(len(self))[position])
            for name in self.json_columns:
                if record[name] is not None:
                    record[name] = json.loads(record[name])
        return Hit(key if isinstance(key, str) else int(key), float(self.scores[position]), record)

    def __iter__(self) -> Iterator[Hit]:
        return (self[position] for position in range(len(self)))


def _values(records: pa.RecordBatch, row: int) -> dict[str, Any]:
    """One record as Python values; pyarrow would import pandas, if installed, to make a datetime."""
    values = {}
    for name, column in zip(records.schema.names, records.columns, strict=True):
        value = column[row]
        if column.type == _TIMESTAMP:
            values[name] = timestamps.of_microseconds(value.value) if value.is_valid else None
        else:
            values[name] = value.as_py()
    return values


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What became of the rows of a write.

    Attributes:
        written: Rows acknowledged.
        failed: Rows not acknowledged; ``failures`` names them.
        retried: Attempts beyond the first, summed over requests.
        duplicates: Rows that repeat the id of another row of the same write, of which one counts as written.
        skipped: Rows left out because their ids are there already, as ``on_conflict="skip"`` asks.
        recalled: Rows of a bulk write that earlier runs of its journal have settled; they were not sent.
        failures: One entry a row that failed (bulk keeps the first; the rest are in its dead letters).

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=2)
        >>> with vb.connect("memory://") as store:
        ...     report = store.create(spec).upsert(vb.batch(spec, id=["a", "b"], vector=[[0, 1], [2, 0]]))
        >>> report.written, report.failed
        (2, 0)
    """

    written: int = 0
    failed: int = 0
    retried: int = 0
    duplicates: int = 0
    skipped: int = 0
    failures: tuple[Failure, ...] = ()
    recalled: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One page of a scan.

    Attributes:
        batch: ``id`` and the included columns.
        cursor: Where the next page starts; valid in another process too.

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=1)
        >>> with vb.connect("memory://") as store:
        ...     photos = store.create(spec)
        ...     report = photos.upsert(vb.batch(spec, id=["a", "b", "c"], vector=[[1], [2], [3]]))
        ...     first = next(photos.scan(include=(), batch_rows=2))
        ...     rest = [page.batch.num_rows for page in photos.scan(cursor=first.cursor)]
        >>> first.batch.num_rows, rest
        (2, [1])
    """

    batch: pa.RecordBatch
    cursor: str


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a batch cannot hold a record of a collection that another program filled.

    Attributes:
        kind: What a migration calls it: "row:no_vector", "row:id" or another of the losses of rows.
        detail: What is wrong with it, in a sentence.

    Example:
        >>> import vecbridge as vb
        >>> reason = vb.Unfit.of_vector("vector", 3, 512)
        >>> reason.kind, str(reason)
        ('row:no_vector', "row:no_vector: its vector 'vector' has 3 dimensions, not 512")
    """

    kind: UnfitKind
    detail: str

    @classmethod
    def of_vector(cls, name: str, length: int, dim: int) -> Unfit:
        """The reason of a vector that is missing, or of another length than the collection's.

        Args:
            name: The vector field.
            length: Dimensions that the record has; 0 if it has no such vector.
            dim: Dimensions that the collection has.
        """
        if not length:
            return cls("row:no_vector", f"it has no vector {name!r}")
        return cls("row:no_vector", f"its vector {name!r} has {length} dimensions, not {dim}")

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a collection.

    Attributes:
        rows: Live rows.
        indexes: By vector field: "ready", "building", "exact: needs N more" (why it does not answer yet), or
            what else is wrong with it.
        details: What else the backend says, such as rows waiting for compaction.
        built: By vector field, the index that the server has now, as it describes it itself, whatever was
            asked for; None where none was built yet, or where that cannot be known.

    Example:
        >>> import vecbridge as vb
        >>> with vb.connect("memory://") as store:
        ...     status = store.create(vb.CollectionSpec.single("photos", dim=2)).status()
        >>> status.rows, status.index, status.built
        (0, 'ready', {'vector': Flat()})
    """

    rows: int
    indexes: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    built: Mapping[str, IndexParams | None] = field(default_factory=dict)

    @property
    def index(self) -> str:
        """The state of the index that is furthest from ready."""
        waiting = [state for state in self.indexes.values() if state != "ready"]
        return waiting[0] if waiting else "ready"
