"""What a backend can do, readable without its SDK, and what a spec would lose on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from vecbridge import filters
from vecbridge.errors import DimensionMismatchError, SchemaError, UnsupportedError
from vecbridge.filters import Filter
from vecbridge.indexes import HNSW, Auto, IndexParams, Other, Quantizer
from vecbridge.query import FloatArray, Query
from vecbridge.records import arrow_schema, bad_vectors, require_same_embedder
from vecbridge.schema import CollectionSpec, Field, FieldType, IdType, Metric, VectorField

FILTER_OPERATORS: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "in", "contains", "is_null", "not"})
ORDERED_TYPES: Final[frozenset[FieldType]] = frozenset({"int64", "float64", "string"})
FIELD_TYPES: Final[frozenset[FieldType]] = frozenset(
    {"bool", "int64", "float64", "string", "list<string>", "json"}
)


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that a backend cannot keep.

    Attributes:
        kind: One of index, metric, null, int_width, id, namespace, quantization, vector:NAME, field:NAME,
            sparse, size.
        subject: The vector, field or limit that it is about.
        detail: What would happen to it.
        blocking: create() raises; otherwise upsert refuses the records that it concerns.
    """

    kind: str
    subject: str
    detail: str
    blocking: bool


@dataclass(frozen=True, slots=True)
class ResolvedQuery:
    """A query that was checked against a collection and can be run as it stands.

    Attributes:
        field: The vector field to search.
        vectors: float32, shape (n, dim), C-contiguous, finite.
        k: Hits a query vector, at most.
        filter: Normalized, or None.
        include: Columns to return, or None.
        ef: HNSW breadth, or None for the backend's default.
        nprobe: IVF lists to visit, or None for the backend's default.
    """

    field: VectorField
    vectors: FloatArray
    k: int
    filter: Filter | None
    include: tuple[str, ...] | None
    ef: int | None
    nprobe: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do.

    Attributes:
        backend: Its name in messages.
        indexes: Kinds of index that it builds ("hnsw"), Auto among them.
        metrics: Metrics that it has.
        quantizers: Quantizers of its HNSW.
        filter_operators: Operators that it pushes down.
        ordered_types: Field types that it compares by ``< <= > >=``, where it has them.
        field_types: Scalar types that it keeps.
        id_types: Id types that it keeps.
        nulls: Whether null stays apart from missing text, empty text and empty list.
        int_bits: Width of the integers that it keeps exactly.
        max_dim: Longest vector.
        max_vectors: Most vector fields a collection.
        max_top_k: Largest k, or None.
        request_rows: Most rows of one write request; ``upsert`` takes any number.
        request_bytes: Most bytes of one write request as it is encoded, or None.
        parallel_requests: Write requests that a store has in flight at a time; 1 where more gain nothing.
        record_bytes: Longest record without its vectors, as encoded, or None.
        id_bytes: Longest id as encoded, or None where the contract's own limit is the only one.
        text_bytes: Longest string, or None.
        vector_lengths: Shortest and longest vector (Euclidean norm) under cosine, or None; others are
            refused, because the backend's float32 arithmetic would make their scores meaningless.
        zero_vectors: Whether vectors of zeros are kept, where the metric is not cosine.
        filter_depth: Levels of a filter at most, as :func:`vecbridge.filters.require_size` counts them; at
            most ``vecbridge.filters.MAX_DEPTH``.
        filter_leaves: Comparisons of a filter at most; an ``In`` is one.
        knobs: By kind of index, the query knobs that it takes.
        consistency: "strong" if a write is visible when it is acknowledged.
        namespaces: Whether collections can be namespaced.
        lossless_vectors: Whether vectors come back bit by bit.
        exact_scores: Whether scores are exact on quantised indexes too.
        atomic_batch: Whether a batch is written whole or not at all.
        counts_deletes: Whether ``delete`` says how many rows there were.
        deletes_where: Whether the backend deletes by filter; else the matches are read, then deleted by id.
        counts_where: Whether the backend counts by filter; else the matches are read.
        splits: Whether a scan can be split.
        compacts: Whether the place of deleted rows is kept until ``compact``.
        repairs: Whether an index can lose rows that ``repair`` writes again.
        grows_schema: Whether fields can be added.
        trust_reads: Seconds for which reads rely on the last look at whether the collection was replaced;
            infinite where every call of the backend sees it.
        trust_writes: The same for writes.
    """

    backend: str
    indexes: frozenset[str]
    metrics: frozenset[Metric] = frozenset(Metric)
    quantizers: frozenset[Quantizer] = frozenset()
    filter_operators: frozenset[str] = FILTER_OPERATORS
    ordered_types: frozenset[FieldType] = ORDERED_TYPES
    field_types: frozenset[FieldType] = FIELD_TYPES
    id_types: frozenset[IdType] = frozenset({"string", "int64"})
    nulls: bool = True
    int_bits: int = 64
    max_dim: int = 65_536
    max_vectors: int = 64
    max_top_k: int | None = None
    request_rows: int = 1_000_000
    request_bytes: int | None = None
    parallel_requests: int = 1
    record_bytes: int | None = None
    id_bytes: int | None = None
    text_bytes: int | None = None
    vector_lengths: tuple[float, float] | None = None
    zero_vectors: bool = True
    filter_depth: int = 64
    filter_leaves: int = 2_000
    knobs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    consistency: Literal["strong", "eventual"] = "strong"
    namespaces: bool = True
    lossless_vectors: bool = True
    exact_scores: bool = True
    atomic_batch: bool = False
    counts_deletes: bool = True
    deletes_where: bool = False
    counts_where: bool = False
    splits: bool = False
    compacts: bool = False
    repairs: bool = False
    grows_schema: bool = False
    trust_reads: float = 1.0
    trust_writes: float = 0.0

    def check(self, spec: CollectionSpec) -> list[Gap]:
        """Everything about the spec that this backend cannot keep; empty if it keeps it all."""
        return list(self._gaps(spec))

    def require(self, spec: CollectionSpec) -> None:
        """Lets only a spec pass that the backend can build as it stands.

        Raises:
            UnsupportedError: The first blocking gap, with the nearest spec as the way out.
        """
        blocking = [gap for gap in self._gaps(spec) if gap.blocking]
        if blocking:
            hint = "; ".join(gap.detail for gap in blocking) + "; capabilities.nearest(spec) proposes a spec"
            raise UnsupportedError(self.backend, f"{blocking[0].kind} of {blocking[0].subject!r}", hint)

    def nearest(self, spec: CollectionSpec) -> tuple[CollectionSpec, list[Gap]]:
        """The closest spec that this backend can build, and what was given up for it.

        Raises:
            UnsupportedError: A metric or a dim that nothing near replaces.
        """
        gaps = [gap for gap in self._gaps(spec) if gap.blocking]
        vectors = tuple(replace(each, index=self._nearest_index(each.index)) for each in spec.vectors)
        fields = tuple(each for each in spec.fields if each.type in self.field_types)
        proposal = replace(
            spec,
            vectors=vectors[: self.max_vectors],
            fields=fields,
            namespaced=spec.namespaced and self.namespaces,
        )
        self.require(proposal)
        return proposal, gaps

    def resolve(self, query: Query, spec: CollectionSpec) -> ResolvedQuery:
        """Checks a query against the collection and the backend.

        Raises:
            DimensionMismatchError: The query vectors have another length.
            SchemaError: NaN, Inf, a zero vector under cosine, an unknown column, a filter that does not fit.
            EmbedderMismatchError: The query vectors are another model's.
            UnsupportedError: A knob that the index does not take, or a k that is too large.
        """
        target = spec.vector_field(query.using)
        if query.vectors.shape[1] != target.dim:
            raise DimensionMismatchError(
                f"the query has {query.vectors.shape[1]} dimensions, and {target.name!r} has {target.dim}"
            )
        for row, problem in bad_vectors(query.vectors, target.metric)[:1]:
            raise SchemaError(f"query vector {row} {problem}")
        require_same_embedder(target, query.embedder)
        if self.max_top_k is not None and query.k > self.max_top_k:
            raise UnsupportedError(self.backend, f"k={query.k}", f"at most {self.max_top_k}")
        self._require_knobs(query, target)
        condition = None
        if query.filter is not None:
            condition = self.resolve_filter(query.filter, spec)
        if query.include is not None:
            arrow_schema(spec, query.include)
        include = None if query.include is None else tuple(query.include)
        return ResolvedQuery(target, query.vectors, query.k, condition, include, query.ef, query.nprobe)

    def resolve_filter(self, filter: Filter, spec: CollectionSpec) -> Filter:
        """The normalized filter, if the backend can push all of it down.

        Raises:
            SchemaError: It does not fit the spec, or is nested deeper or larger than the backend takes.
            UnsupportedError: An operator that the backend does not have.
        """
        normalized = filters.normalize(filter, spec, depth=self.filter_depth, leaves=self.filter_leaves)
        missing = filters.operators(normalized) - self.filter_operators
        if missing:
            raise UnsupportedError(self.backend, f"the filter operator {min(missing)}")
        for name in sorted(filters.ordered_names(normalized)):
            if (type := spec.field(name).type) not in self.ordered_types:
                raise UnsupportedError(self.backend, f"the order of {type} fields, such as {name!r}")
        return normalized

    def _require_knobs(self, query: Query, target: VectorField) -> None:
        taken = self.knobs.get(target.index.kind, frozenset())
        for knob in ("ef", "nprobe"):
            if getattr(query, knob) is not None and knob not in taken:
                hint = f"this index takes {', '.join(sorted(taken)) or 'no knobs'}"
                raise UnsupportedError(self.backend, f"{knob}= on a {target.index.kind} index", hint)

    def _gaps(self, spec: CollectionSpec) -> Iterator[Gap]:
        if spec.id_type not in self.id_types:
            yield Gap("id", "id", f"{spec.id_type} ids cannot be stored", blocking=True)
        if spec.namespaced and not self.namespaces:
            yield Gap("namespace", spec.name, "there are no namespaces", blocking=True)
        for extra in spec.vectors[self.max_vectors :]:
            yield Gap(
                f"vector:{extra.name}", extra.name, f"at most {self.max_vectors} vector fields", blocking=True
            )
        for each in spec.vectors:
            yield from self._vector_gaps(each)
        for column in spec.fields:
            yield from self._field_gaps(column)
        if not self.nulls and spec.fields:
            yield Gap("null", spec.name, "null cannot be told from missing or empty", blocking=False)

    def _field_gaps(self, column: Field) -> Iterator[Gap]:
        name, type = column.name, column.type
        if type not in self.field_types:
            yield Gap(f"field:{name}", name, f"{type} cannot be stored", blocking=True)
        if type == "int64" and self.int_bits < 64:
            yield Gap("int_width", name, f"integers beyond {self.int_bits} bits are refused", blocking=False)
        if type in ("string", "json", "list<string>") and self.text_bytes:
            yield Gap("size", name, f"texts beyond {self.text_bytes} bytes are refused", blocking=False)

    def _vector_gaps(self, vector: VectorField) -> Iterator[Gap]:
        if vector.metric not in self.metrics:
            yield Gap(
                "metric", vector.name, f"no {vector.metric}; there are {_listed(self.metrics)}", blocking=True
            )
        if vector.dim > self.max_dim:
            yield Gap("size", vector.name, f"{vector.dim} dimensions are over {self.max_dim}", blocking=True)
        index = vector.index
        if isinstance(index, Other):
            yield Gap(
                "index", vector.name, f"a foreign index ({index.name}) cannot be created", blocking=True
            )
        elif index.kind not in self.indexes:
            yield Gap(
                "index", vector.name, f"no {index.kind}; there are {_listed(self.indexes)}", blocking=True
            )
        elif isinstance(index, HNSW):
            if index.quantizer is not None and index.quantizer not in self.quantizers:
                detail = f"no HNSW quantizer {index.quantizer}; there are {_listed(self.quantizers)}"
                yield Gap("quantization", vector.name, detail, blocking=True)
            if index.ef is not None and "stored_ef" not in self.knobs.get("hnsw", frozenset()):
                yield Gap(
                    "index", vector.name, "HNSW(ef=) is not stored: give ef with the query", blocking=True
                )

    def _nearest_index(self, index: IndexParams) -> IndexParams:
        if index.kind not in self.indexes or isinstance(index, Other):
            return Auto()
        if isinstance(index, HNSW):
            keeps_ef = "stored_ef" in self.knobs.get("hnsw", frozenset())
            quantizer = index.quantizer if index.quantizer in self.quantizers else None
            return replace(index, quantizer=quantizer, ef=index.ef if keeps_ef else None)
        return index


def _listed(values: frozenset[Any] | Sequence[Any]) -> str:
    return ", ".join(sorted(str(each) for each in values)) or "none"
