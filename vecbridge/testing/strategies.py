"""Hypothesis strategies for specs, records and filters, within what a store declares.

They lean towards what breaks adapters: quotes, backslashes, the two forms of é, the ends of int64,
zero beside null beside empty.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st

from vecbridge import filters
from vecbridge.capabilities import Capabilities
from vecbridge.filters import TYPE_OPERATORS, And, Cmp, Contains, Filter, In, IsEmpty, IsNull, Not, Op, Or
from vecbridge.indexes import DISKANN, HNSW, IVFPQ, IVFSQ8, SCANN, Auto, Flat, IndexParams, IVFFlat
from vecbridge.schema import CollectionSpec, Field, FieldType, IdType, Metric, VectorField

ODD_TEXTS: Final = (
    "",
    " ",
    "a",
    "A",
    "it's",
    'say "hi"',
    "back\\slash",
    "\\",
    "\\'",
    "' or 1 == 1 or title == '",
    "per%cent_",
    "new\nline\ttab",
    "null",
    "true",
    "1",
    "[]",
    "{title}",
    "caf\u00e9",  # é as one code point
    "cafe\u0301",  # é as two
    "\u65e5\u672c",
    "\U0001f600",
    "\uffff",
    "\U00010000",  # sorts after \uffff by code point and before it by UTF-16 unit
    "\u202eabc",
    "x" * 300,
)
ODD_INTEGERS: Final = (
    0,
    1,
    -1,
    2020,
    2**31,
    -(2**31) - 1,
    2**53 - 1,
    2**53,
    2**53 + 1,
    -(2**53) - 1,
    2**63 - 2,
    2**63 - 1,
    -(2**63),
    -(2**63) + 1,
)
ODD_FLOATS: Final = (0.0, -0.0, 1.0, -1.0, 0.1, 2.5, 1e-300, 1e300, 5e-324, 1.7976931348623157e308, 2.0**53)
ODD_TIMES: Final = (
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1970, 1, 1, microsecond=1, tzinfo=UTC),
    datetime(2255, 6, 5, 23, 47, 34, 740_993, tzinfo=UTC),  # 2^53 + 1 microseconds
    datetime(2262, 4, 11, 23, 47, 16, 854_776, tzinfo=UTC),  # beyond 2^63 nanoseconds
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
)
_ELEMENTS: Final[dict[str, FieldType]] = {
    "list<string>": "string",
    "list<int64>": "int64",
    "list<float64>": "float64",
}
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_NAME_REST: Final = _LETTERS + _LETTERS.upper() + "0123456789_"


def texts(capabilities: Capabilities) -> st.SearchStrategy[str]:
    """Strings, odd ones often; no NUL."""
    limit = capabilities.text_bytes or 1000
    drawn = st.one_of(
        st.sampled_from(ODD_TEXTS),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    )
    return drawn.filter(lambda text: len(text.encode()) <= limit)


def integers(capabilities: Capabilities) -> st.SearchStrategy[int]:
    """Integers that the store keeps exactly, the ends of their range often."""
    bits = capabilities.int_bits
    low, high = (-(2**63), 2**63 - 1) if bits >= 64 else (-(2**bits), 2**bits)
    odd = [each for each in ODD_INTEGERS if low <= each <= high]
    return st.one_of(st.sampled_from([*odd, low, high]), st.integers(low, high))


def floats() -> st.SearchStrategy[float]:
    """Finite doubles."""
    return st.one_of(st.sampled_from(ODD_FLOATS), st.floats(allow_nan=False, allow_infinity=False))


def times() -> st.SearchStrategy[datetime]:
    """Points in time in UTC, the ends of their range often."""
    return st.one_of(
        st.sampled_from(ODD_TIMES), st.datetimes().map(lambda time: time.replace(tzinfo=UTC, fold=0))
    )


def json_values(capabilities: Capabilities) -> st.SearchStrategy[Any]:
    """JSON values, nested a little, with integers beyond 64 bits among them."""
    leaves = st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), floats(), st.sampled_from(ODD_TEXTS)
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(ODD_TEXTS), inner, max_size=3)
        ),
        max_leaves=6,
    )


def values(type: FieldType, capabilities: Capabilities) -> st.SearchStrategy[Any]:
    """Values of a type, never null."""
    match type:
        case "bool":
            return st.booleans()
        case "int64":
            return integers(capabilities)
        case "float64":
            return floats()
        case "string":
            return texts(capabilities)
        case "timestamp":
            return times()
        case "list<string>" | "list<int64>" | "list<float64>":
            return st.lists(values(_ELEMENTS[type], capabilities), max_size=3)
        case "json":
            return json_values(capabilities).map(json.dumps)


def ids(type: IdType) -> st.SearchStrategy[Any]:
    """Ids: any int64 but the largest, which has a test of its own, or text of 1 to 512 bytes."""
    if type == "int64":
        odd = [number for number in ODD_INTEGERS if number < 2**63 - 1]
        return st.one_of(st.sampled_from(odd), st.integers(-(2**63), 2**63 - 2))
    texts = [text for text in ODD_TEXTS if text]
    drawn = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
    return st.one_of(st.sampled_from(texts), drawn)


def vectors(dim: int) -> st.SearchStrategy[list[float]]:
    """Vectors of float32 that are not zero, signed zeros and tiny numbers among their components."""
    component = st.one_of(
        st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5]), st.floats(-1000, 1000, width=32, allow_subnormal=False)
    )
    return st.lists(component, min_size=dim, max_size=dim).filter(
        lambda vector: float(np.linalg.norm(vector)) > 1e-3
    )


@st.composite
def columns(
    draw: st.DrawFn,
    spec: CollectionSpec,
    capabilities: Capabilities,
    *,
    max_rows: int = 12,
    keys: st.SearchStrategy[Any] | None = None,
) -> dict[str, Any]:
    """Columns for :func:`vecbridge.batch`: nulls anywhere, whole columns left out now and then.

    Args:
        draw: Given by Hypothesis.
        spec: The collection's spec.
        capabilities: Of the store that is to take them.
        max_rows: Rows, at most.
        keys: Where the ids come from; any ids of the spec's type unless said otherwise.
    """
    key = ids(spec.id_type) if keys is None else keys
    drawn: dict[str, Any] = {"id": draw(st.lists(key, min_size=1, max_size=max_rows, unique=True))}
    rows = len(drawn["id"])
    for vector in spec.vectors:
        drawn[vector.name] = [draw(vectors(vector.dim)) for _ in range(rows)]
    for field in spec.fields:
        if capabilities.nulls and draw(st.integers(0, 9)) == 0:
            continue
        value = values(field.type, capabilities)
        if capabilities.nulls:
            value = st.one_of(st.none(), value)
        drawn[field.name] = [draw(value) for _ in range(rows)]
    return drawn


def leaf_filters(
    field: Field, capabilities: Capabilities, near: Sequence[Any] = ()
) -> st.SearchStrategy[Filter]:
    """Filters of one comparison on a field, of every operator that its type and the store have.

    Args:
        field: What to compare.
        capabilities: Of the store that is to filter.
        near: Values of the field; most literals are one of them or just beside it, since a literal drawn at
            random equals no value, and then ``<`` and ``<=`` say the same.
    """
    allowed = TYPE_OPERATORS[field.type] & capabilities.filter_operators
    if field.name == "id":
        allowed &= capabilities.id_operators
    elif field.type not in capabilities.ordered_types:
        allowed -= {"<", "<=", ">", ">="}
    value = _literals(field.type, capabilities, near)
    compare = [op for op in filters.COMPARE if op in allowed]
    choices: list[st.SearchStrategy[Filter]] = []
    if compare:
        ops: st.SearchStrategy[Op] = st.sampled_from(compare)
        choices.append(st.builds(Cmp, st.just(field.name), ops, value))
    if "in" in allowed:
        choices.append(st.builds(In, st.just(field.name), st.lists(value, max_size=3).map(tuple)))
    if "contains" in allowed:
        choices.append(st.builds(Contains, st.just(field.name), value))
    if "is_empty" in allowed:
        choices.append(st.just(IsEmpty(field.name)))
    if "is_null" in allowed:
        choices.append(st.just(IsNull(field.name)))
    return st.one_of(choices) if choices else st.nothing()


def filter_trees(
    spec: CollectionSpec, capabilities: Capabilities, near: Mapping[str, Sequence[Any]] | None = None
) -> st.SearchStrategy[Filter]:
    """Filters on a spec: leaves under and, or, and (where the store has it) not; empty ones too.

    Args:
        spec: The collection's spec.
        capabilities: Of the store that is to filter.
        near: Columns that have values to compare with, by name, as :func:`leaf_filters` takes them.
    """
    columns = [*spec.fields, Field("id", spec.id_type)]
    leaves = st.one_of(
        [leaf_filters(each, capabilities, (near or {}).get(each.name, ())) for each in columns]
    )

    def grow(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
        items = st.lists(inner, max_size=3).map(tuple)
        nodes: list[st.SearchStrategy[Filter]] = [st.builds(And, items), st.builds(Or, items)]
        if "not" in capabilities.filter_operators:
            nodes.append(st.builds(Not, inner))
        return st.one_of(nodes)

    return st.recursive(leaves, grow, max_leaves=6)


@st.composite
def columns_and_filters(
    draw: st.DrawFn,
    spec: CollectionSpec,
    capabilities: Capabilities,
    *,
    max_rows: int = 12,
    trees: bool = True,
) -> tuple[dict[str, Any], list[Filter]]:
    """Columns as :func:`columns` draws them, and filters most of whose literals are near their values.

    Args:
        draw: Given by Hypothesis.
        spec: The collection's spec.
        capabilities: Of the store that is to take them.
        max_rows: Rows, at most.
        trees: Whether the filters are trees, or single comparisons on the first field.
    """
    rows = draw(columns(spec, capabilities, max_rows=max_rows))
    if trees:
        condition = filter_trees(spec, capabilities, rows)
    else:
        first = spec.fields[0]
        condition = leaf_filters(first, capabilities, rows.get(first.name, ()))
    return rows, draw(st.lists(condition, min_size=1, max_size=10))


def _literals(type: FieldType, capabilities: Capabilities, near: Sequence[Any]) -> st.SearchStrategy[Any]:
    """Literals for a field, or for the elements of a list: a number of the other type now and then."""
    stored = [value for value in near if value is not None]
    if type in _ELEMENTS:
        stored = [element for value in stored for element in value]
        type = _ELEMENTS[type]
    drawn: st.SearchStrategy[Any] = values(type, capabilities)
    if type == "float64":
        drawn = st.one_of(drawn, st.sampled_from([2**53 + 1, -(2**63), 10**400]), st.integers())
    if type == "int64":
        drawn = st.one_of(drawn, st.sampled_from([0.5, -1.5, 2.0**53, 2.0**63, -1e300]))
    if type == "timestamp":
        drawn = st.one_of(drawn, st.just("1970-01-01T01:00:00.000001+01:00"))
    if not stored:
        return drawn
    beside = [other for value in stored for other in _neighbours(type, value)]
    known = st.sampled_from([*stored, *beside])
    return st.one_of(known, known, drawn)


def _neighbours(type: FieldType, value: Any) -> list[Any]:
    """The values just below and above one, as far as the type has them."""
    match type:
        case "int64":
            whole = [other for other in (value - 1, value + 1) if -(2**63) <= other < 2**63]
            return [*whole, float(value), value + 0.5]
        case "float64":
            below, above = math.nextafter(value, -math.inf), math.nextafter(value, math.inf)
            whole = [int(value), int(value) + 1] if value.is_integer() else []
            return whole + [other for other in (below, above) if math.isfinite(other)]
        case "string":
            return [value[:-1], value.swapcase()]
        case "timestamp":
            step = timedelta(microseconds=1)
            earlier = [value - step] if value > ODD_TIMES[0] else []
            return earlier + ([value + step] if value < ODD_TIMES[-1] else [])
    return []


def field_names() -> st.SearchStrategy[str]:
    """Names that a scalar field may have."""
    drawn = st.builds(
        str.__add__,
        st.sampled_from(_LETTERS + _LETTERS.upper()),
        st.text(st.sampled_from(_NAME_REST), max_size=8),
    )
    return drawn.filter(lambda name: name.lower() not in ("id", "vector"))


def index_params(dim: int, capabilities: Capabilities) -> st.SearchStrategy[IndexParams]:
    """Indexes that the store builds."""
    nlist = st.integers(1, 64)
    kinds: dict[str, st.SearchStrategy[IndexParams]] = {
        "auto": st.just(Auto()),
        "flat": st.just(Flat()),
        "ivf_flat": st.builds(IVFFlat, nlist),
        "ivf_sq8": st.builds(IVFSQ8, nlist),
        "ivf_pq": st.builds(
            IVFPQ, nlist, st.sampled_from([m for m in (1, 2, 4, dim) if dim % m == 0]), st.just(8)
        ),
        "hnsw": st.builds(HNSW, st.integers(4, 48), st.integers(8, 200)),
        "scann": st.builds(SCANN, nlist, st.booleans()),
        "diskann": st.just(DISKANN()),
    }
    return st.one_of([made for kind, made in kinds.items() if kind in capabilities.indexes])


@st.composite
def specs(draw: st.DrawFn, capabilities: Capabilities, *, name: str = "photos") -> CollectionSpec:
    """Specs that the store declares: any names, types, metrics, indexes and number of vectors.

    Args:
        draw: Given by Hypothesis.
        capabilities: Of the store that is to build them.
        name: Of the collection.
    """
    names = draw(st.lists(field_names(), min_size=2, max_size=6, unique_by=str.lower))
    count = draw(st.integers(1, min(3, capabilities.max_vectors, len(names))))
    vector_fields = []
    for each in ["vector", *names[1:count]]:
        dim = draw(st.integers(2, 32))
        metric = draw(st.sampled_from(sorted(capabilities.metrics)))
        vector_fields.append(VectorField(each, dim, Metric(metric), draw(index_params(dim, capabilities))))
    types = st.sampled_from(sorted(capabilities.field_types))
    fields = [Field(each, draw(types)) for each in names[count:]]
    id_type = draw(st.sampled_from(sorted(capabilities.id_types)))
    namespaced = capabilities.namespaces and draw(st.booleans())
    return CollectionSpec(name, tuple(vector_fields), tuple(fields), id_type, namespaced)
