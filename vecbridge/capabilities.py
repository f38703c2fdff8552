"""What a backend can do, readable without its SDK, and what a spec would lose on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import filters
from vecbridge.errors import UnsupportedError
from vecbridge.filters import Filter
from vecbridge.indexes import HNSW, Auto, IndexParams, Other, Quantizer
from vecbridge.query import Query
from vecbridge.records import booleans, invalid, vectors
from vecbridge.schema import CollectionSpec, Field, FieldType, IdType, Metric, VectorField

FILTER_OPERATORS: Final = frozenset(
    {"==", "!=", "<", "<=", ">", ">=", "in", "contains", "is_null", "is_empty", "not"}
)
ORDERED_TYPES: Final[frozenset[FieldType]] = frozenset({"int64", "float64", "string", "timestamp"})
FIELD_TYPES: Final[frozenset[FieldType]] = frozenset(get_args(FieldType))

_TEXTS: Final[frozenset[FieldType]] = frozenset({"string", "json", "list<string>"})
_INTEGERS: Final[frozenset[FieldType]] = frozenset({"int64", "list<int64>"})
_INT_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that a backend cannot keep.

    Attributes:
        kind: One of index, metric, null, int_width, id, namespace, quantization, vector:NAME, field:NAME,
            sparse, size, recall while growing.
        subject: The vector, field or limit that it is about.
        detail: What would happen to it.
        blocking: create() raises; otherwise upsert refuses the records that it concerns.

    Example:
        >>> import vecbridge as vb
        >>> capabilities = vb.Capabilities(backend="mine", indexes=frozenset({"flat"}), int_bits=53)
        >>> spec = vb.CollectionSpec.single("photos", dim=2, index=vb.Flat(), fields={"size": "int64"})
        >>> [gap] = capabilities.check(spec)
        >>> gap.kind, gap.subject, gap.detail, gap.blocking
        ('int_width', 'size', 'integers beyond 53 bits are refused', False)
    """

    kind: str
    subject: str
    detail: str
    blocking: bool


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
        id_operators: Operators on the id that it pushes down.
        nulls: Whether null stays apart from missing text, empty text and empty list.
        int_bits: Width of the integers that it keeps exactly.
        max_dim: Longest vector.
        max_vectors: Most vector fields a collection.
        max_top_k: Largest k, or None.
        request_rows: Most rows of one write request; ``upsert`` takes any number.
        request_bytes: Most bytes of one write request as it is encoded, or None.
        parallel_requests: Write requests that a store has in flight at a time, at first; 1 where more gain
            nothing.
        max_parallel_requests: To how many that number rises while the backend keeps up. It falls where the
            backend answers slowly, not in time, or that it has too much to do.
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
        atomic_conflict: Whether ``upsert(on_conflict=)`` looks and writes in one step; else the ids are
            looked up first, and another client's write in between is replaced.
        adds_fields: Whether fields can be added to a collection that exists.
        counts_deletes: Whether ``delete`` says how many rows there were.
        deletes_where: Whether the backend deletes by filter; else the matches are read, then deleted by id.
        counts_where: Whether the backend counts by filter; else the matches are read.
        splits: Whether a scan can be split.
        compacts: Whether the place of deleted rows is kept until ``compact``.
        repairs: Whether an index can lose rows that ``repair`` writes again.
        trust_reads: Seconds for which reads rely on the last look at whether the collection was replaced;
            infinite where every call of the backend sees it.
        trust_writes: The same for writes.

    Example:
        >>> import vecbridge as vb
        >>> capabilities = vb.Capabilities(backend="mine", indexes=frozenset({"auto", "flat"}))
        >>> spec = vb.CollectionSpec.single("photos", dim=512, index=vb.HNSW())
        >>> [gap.detail for gap in capabilities.check(spec)]
        ['no hnsw; there are auto, flat']
        >>> proposed, gaps = capabilities.nearest(spec)
        >>> proposed.vector.index
        Auto()
    """

    backend: str
    indexes: frozenset[str]
    metrics: frozenset[Metric] = frozenset(Metric)
    quantizers: frozenset[Quantizer] = frozenset()
    filter_operators: frozenset[str] = FILTER_OPERATORS
    ordered_types: frozenset[FieldType] = ORDERED_TYPES
    field_types: frozenset[FieldType] = FIELD_TYPES
    id_types: frozenset[IdType] = frozenset({"string", "int64"})
    id_operators: frozenset[str] = frozenset({"==", "!=", "in"})
    nulls: bool = True
    int_bits: int = 64
    max_dim: int = 65_536
    max_vectors: int = 64
    max_top_k: int | None = None
    request_rows: int = 1_000_000
    request_bytes: int | None = None
    parallel_requests: int = 1
    max_parallel_requests: int = 1
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
    atomic_conflict: bool = False
    adds_fields: bool = False
    counts_deletes: bool = True
    deletes_where: bool = False
    counts_where: bool = False
    splits: bool = False
    compacts: bool = False
    repairs: bool = False
    trust_reads: float = 1.0
    trust_writes: float = 0.0

    @property
    def requests_at_most(self) -> int:
        """Write requests in flight at most: ``max_parallel_requests``, or ``parallel_requests`` if larger."""
        return max(self.parallel_requests, self.max_parallel_requests)

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

    def refuse(self, batch: pa.RecordBatch, spec: CollectionSpec) -> None:
        """Refuses rows that the figures say this backend cannot keep.

        Args:
            batch: Checked.
            spec: Of the collection.

        Raises:
            InvalidRecordError: Names every such row.
        """
        problems: dict[int, str] = {}
        for vector in spec.vectors:
            self._refuse_vectors(batch, vector, problems)
        for column in spec.fields:
            if column.type in _INTEGERS and self.int_bits < _INT_BITS:
                _note(problems, _wider(batch.column(column.name), 2**self.int_bits),
                      f"field {column.name!r} is beyond {self.int_bits} bits")  # fmt: skip
            elif column.type in _TEXTS and self.text_bytes is not None:
                _note(problems, _longer(batch.column(column.name), self.text_bytes),
                      f"field {column.name!r} is longer than {self.text_bytes:,} bytes of UTF-8")  # fmt: skip
        if problems:
            raise invalid(problems, batch.column("id"))

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
        missing = filters.operators(normalized, "id") - self.id_operators
        if missing:
            hint = f"ids are compared by {_listed(self.id_operators)}"
            raise UnsupportedError(self.backend, f"the filter operator {min(missing)} on the id", hint)
        for name in sorted(filters.ordered_names(normalized) - {"id"}):
            if (type := spec.field(name).type) not in self.ordered_types:
                raise UnsupportedError(self.backend, f"the order of {type} fields, such as {name!r}")
        return normalized

    def require_knobs(self, query: Query, target: VectorField) -> None:
        """Refuses a query knob that the index of a field does not take.

        Raises:
            UnsupportedError: Names the knobs that it takes.
        """
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
        if self.record_bytes is not None and spec.fields:
            detail = f"records whose fields take more than {self.record_bytes:,} bytes are refused"
            yield Gap("size", spec.name, detail, blocking=False)
        if self.id_bytes is not None and spec.id_type == "string":
            detail = f"ids that take more than {self.id_bytes} bytes as the backend encodes them are refused"
            yield Gap("id", "id", detail, blocking=False)
        if not self.nulls and spec.fields:
            yield Gap("null", spec.name, "null cannot be told from missing or empty", blocking=False)

    def _field_gaps(self, column: Field) -> Iterator[Gap]:
        name, type = column.name, column.type
        if type not in self.field_types:
            yield Gap(f"field:{name}", name, f"{type} cannot be stored", blocking=True)
        if type in _INTEGERS and self.int_bits < _INT_BITS:
            yield Gap("int_width", name, f"integers beyond {self.int_bits} bits are refused", blocking=False)
        if type in _TEXTS and self.text_bytes:
            yield Gap("size", name, f"texts beyond {self.text_bytes} bytes are refused", blocking=False)

    def _vector_gaps(self, vector: VectorField) -> Iterator[Gap]:
        if vector.metric not in self.metrics:
            yield Gap(
                "metric", vector.name, f"no {vector.metric}; there are {_listed(self.metrics)}", blocking=True
            )
        if vector.dim > self.max_dim:
            yield Gap("size", vector.name, f"{vector.dim} dimensions are over {self.max_dim}", blocking=True)
        if vector.metric is Metric.COSINE and self.vector_lengths:
            shortest, longest = self.vector_lengths
            detail = f"vectors shorter than {shortest:.3g} or longer than {longest:.3g} are refused"
            yield Gap(f"vector:{vector.name}", vector.name, detail, blocking=False)
        if vector.metric is not Metric.COSINE and not self.zero_vectors:
            yield Gap(f"vector:{vector.name}", vector.name, "vectors of zeros are refused", blocking=False)
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

    def _refuse_vectors(self, batch: pa.RecordBatch, vector: VectorField, problems: dict[int, str]) -> None:
        cosine = vector.metric is Metric.COSINE
        if not (cosine and self.vector_lengths) and (cosine or self.zero_vectors):
            return
        values = vectors(batch, vector.name)
        if not cosine:
            for row in np.flatnonzero(~values.any(axis=1)).tolist():
                problems.setdefault(row, f"vector {vector.name!r} is zero, which {self.backend} refuses")
            return
        assert self.vector_lengths is not None
        shortest, longest = self.vector_lengths
        lengths = np.sqrt(np.einsum("ij,ij->i", values, values, dtype=np.float64))
        for row in np.flatnonzero((lengths < shortest) | (lengths > longest)).tolist():
            problems.setdefault(
                row,
                f"vector {vector.name!r} has length {lengths[row]:.3g}, and {self.backend} compares lengths "
                f"of {shortest:.3g} to {longest:.3g}: scale it, which changes nothing under cosine",
            )

    def _nearest_index(self, index: IndexParams) -> IndexParams:
        if index.kind not in self.indexes or isinstance(index, Other):
            return Auto()
        if isinstance(index, HNSW):
            keeps_ef = "stored_ef" in self.knobs.get("hnsw", frozenset())
            quantizer = index.quantizer if index.quantizer in self.quantizers else None
            return replace(index, quantizer=quantizer, ef=index.ef if keeps_ef else None)
        return index


def _note(problems: dict[int, str], mask: pa.Array, problem: str) -> None:
    for row in np.flatnonzero(booleans(pc.fill_null(mask, False))).tolist():
        problems.setdefault(row, problem)


def _longer(column: pa.Array, limit: int) -> pa.Array:
    """Which texts, or lists with a text, are longer than so many bytes."""
    return _any_element(column, lambda values: pc.greater(pc.binary_length(values), limit))


def _wider(column: pa.Array, limit: int) -> pa.Array:
    """Which integers, or lists with an integer, are beyond a limit on either side."""
    return _any_element(column, lambda values: pc.or_(pc.greater(values, limit), pc.less(values, -limit)))


def _any_element(column: pa.Array, test: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Which values pass a test, or which lists have an element that does."""
    if not pa.types.is_list(column.type):
        return test(column)
    rows = pc.list_parent_indices(column).filter(test(column.flatten()))
    return pc.is_in(pa.array(np.arange(len(column))), value_set=rows)


def _listed(values: frozenset[Any] | Sequence[Any]) -> str:
    return ", ".join(sorted(str(each) for each in values)) or "none"
