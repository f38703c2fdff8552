"""Indexes that vecbridge did not make: a spec from a sample of their records, and what has no name here."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from vecbridge.capabilities import Gap
from vecbridge.driver import Deadline, Described
from vecbridge.errors import SchemaError
from vecbridge.schema import CollectionSpec, Field, FieldType, Metric, VectorField
from vecbridge.stores.pinecone import tags
from vecbridge.stores.pinecone.control import METRICS
from vecbridge.stores.pinecone.layout import Column, Layout, Location
from vecbridge.stores.pinecone.limits import IDS_LISTED
from vecbridge.stores.pinecone.planes import Plane, Row, fetchable

_NAMESPACES: Final = 5  # that are looked into
_PAGES: Final = 2  # of each
_EXTRA: Final = "extra"
_VECTOR: Final = "vector"
_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def introspected(index: Any, plane: Plane, deadline: Deadline) -> Described:
    """A foreign index: its spec, where its columns are, and what was left out.

    A key whose values are all of one type becomes a column; every number is a float64, since the service
    knows no other. What is met later and does not fit goes to ``extra``.

    Args:
        index: As the client describes it.
        plane: Its records, of which up to 1,000 are looked at.
        deadline: Of all the requests that it takes.

    Raises:
        SchemaError: It has no dense vectors.
    """
    metric = _metric(index)
    counts = plane.counts(deadline)
    namespaces = [Layout("string", {}, own=False).namespace(name) for name in counts]
    losses: list[Gap] = []
    types: dict[str, set[FieldType | None]] = defaultdict(set)
    sparse = False
    for row in _sample(plane, sorted(namespaces), int(index.dimension), deadline):
        sparse = sparse or row.sparse
        for key, value in row.metadata.items():
            types[key].add(_type(value))
    columns = _columns(types)
    extra = _free_name(columns)
    if sparse:
        losses.append(Gap("sparse", index.name, "sparse values are not read", blocking=False))
    read_only = "its records have sparse values, which a write would remove" if sparse else ""
    layout = Layout("string", {column.name: column for column in columns}, own=False, extra=extra)
    fields = (*(Field(column.name, column.type) for column in columns), Field(extra, "json"))
    vector = VectorField(_VECTOR, int(index.dimension), metric)
    spec = CollectionSpec.foreign(index.name, (vector,), fields, "string", namespaced=any(namespaces))
    identity = tags.identity(index)
    location = Location(index.host, layout)
    return Described(
        index.name, spec, identity, tuple(losses), read_only, extra, location, any_namespace=True
    )


def _metric(index: Any) -> Metric:
    metric = next((own for own, theirs in METRICS.items() if theirs == index.metric), None)
    if not index.dimension or metric is None:
        raise SchemaError(f"index {index.name!r} has no dense vectors with a metric that vecbridge has")
    return metric


def _sample(plane: Plane, namespaces: Sequence[str], dim: int, deadline: Deadline) -> Iterator[Row]:
    for namespace in namespaces[:_NAMESPACES]:
        token = ""
        for _ in range(_PAGES):
            keys, token = plane.keys(namespace, IDS_LISTED, token, deadline)
            for part in fetchable(keys, dim):
                yield from plane.fetch(namespace, part, deadline).values()
            if not token:
                break


def _columns(types: dict[str, set[FieldType | None]]) -> list[Column]:
    taken = {"id", _VECTOR}
    columns = []
    for key in sorted(types):
        [*kinds] = types[key]
        fits = len(kinds) == 1 and kinds[0] is not None and _FIELD.fullmatch(key)
        if not fits or key.lower() in taken or key.lower().startswith("_vb"):
            continue
        taken.add(key.lower())
        assert kinds[0] is not None
        columns.append(Column(key, key, kinds[0]))
    return columns


def _type(value: Any) -> FieldType | None:
    match value:
        case bool():
            return "bool"
        case int() | float():
            return "float64"
        case str():
            return "string"
        case list():
            return "list<string>"
    return None


def _free_name(columns: Iterable[Column]) -> str:
    taken = {column.name.lower() for column in columns}
    name = _EXTRA
    while name in taken:
        name += "_"
    return name
