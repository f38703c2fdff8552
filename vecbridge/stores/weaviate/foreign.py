"""Classes that vecbridge did not make: their schema as a spec, and what of it has no name here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from vecbridge.capabilities import Gap
from vecbridge.driver import Deadline, Described, Identity
from vecbridge.errors import AuthError, SchemaError
from vecbridge.schema import CollectionSpec, Field, FieldType, VectorField
from vecbridge.stores.weaviate import expressions, index_params
from vecbridge.stores.weaviate.connection import Connection
from vecbridge.stores.weaviate.layout import Codec, Column, Layout
from vecbridge.stores.weaviate.mending import Mending
from vecbridge.stores.weaviate.stubs import base_pb2, search_get_pb2

_TYPES: Final[Mapping[str, tuple[FieldType, Codec]]] = {
    "boolean": ("bool", "bool"),
    "int": ("int64", "int"),
    "number": ("float64", "number"),
    "text": ("string", "raw"),
    "date": ("timestamp", "date"),
    "text[]": ("list<string>", "raws"),
    "int[]": ("list<int64>", "ints"),
    "number[]": ("list<float64>", "numbers"),
}
_DATE_LOSS: Final = (
    "a DATE: what is finer than microseconds is cut off, the year 0 is null, and before 1678 or after 2261 "
    "filters have another order"
)
_UNNAMED: Final = "vector"
_SEVERAL: Final = base_pb2.Vectors.VECTOR_TYPE_MULTI_FP32
_SAMPLED_TENANTS: Final = 100  # that are looked into for the length of the vectors
_SAMPLED_ROWS: Final = (1, 100, 900)  # of each, a request; more only while there is a vector that none has


def introspected(
    described: Mapping[str, Any], identity: Identity, mending: Mending, connection: Connection,
    deadline: Deadline,
) -> Described:  # fmt: skip
    """A foreign class as a collection.

    Args:
        described: The class as REST describes it.
        identity: Which class of its name it is.
        mending: What is known of its graph.
        connection: The server, which is asked for objects: a class does not say how long its vectors are.
        deadline: Of that.

    Raises:
        SchemaError: Nothing in it that can be searched, or no object yet.
    """
    name = str(described["class"])
    losses: list[Gap] = []
    tenants = _has_tenants(described)
    dims = _dims(name, set(index_params.configs(described)), tenants, connection, deadline)
    vectors, sources = _vectors(described, dims, losses)
    if not vectors:
        reasons = "; ".join(f"{loss.subject}: {loss.detail}" for loss in losses) or "none at all"
        raise SchemaError(f"collection {name!r} has no vectors that can be searched: {reasons}")
    columns = _columns(described, {vector.name.lower() for vector in vectors}, losses)
    read_only = ""
    if losses:
        read_only = f"it has what vecbridge cannot fill: {', '.join(loss.subject for loss in losses)}"
    losses += [
        Gap(f"field:{column.name}", column.name, _DATE_LOSS, blocking=False)
        for column in columns.values()
        if column.codec == "date"
    ]
    layout = Layout(name, "string", False, tenants, sources, columns)
    fields = tuple(Field(column.name, column.type) for column in columns.values())
    spec = CollectionSpec.foreign(name, tuple(vectors), fields, "string", namespaced=tenants)
    return Described(name, spec, identity, tuple(losses), read_only, state=(layout, mending))


def identity(
    described: Mapping[str, Any], connection: Connection, deadline: Deadline, known: Identity | None = None
) -> Identity:
    """Tells a class from one that took its place, by the random names of its shards.

    With tenants the shards have their names: then, and where the key may not ask for them, a replacement of
    the same name is not noticed.

    Args:
        described: The class as REST describes it.
        connection: The server.
        deadline: Of the request.
        known: What it was before. A node that is down names no shards, so that one in common is enough.
    """
    name = str(described["class"])
    shards: set[str] = set()
    if not _has_tenants(described):
        with suppress(AuthError):
            shards = {str(shard["name"]) for shard in connection.shards(name, deadline)}
    if known is not None and (not shards or shards & set(known.value.split(","))):
        return known
    return Identity(",".join(sorted(shards)) or name, certain=bool(shards))


def _has_tenants(described: Mapping[str, Any]) -> bool:
    return bool((described.get("multiTenancyConfig") or {}).get("enabled"))


def _vectors(
    described: Mapping[str, Any], dims: Mapping[str, int], losses: list[Gap]
) -> tuple[list[VectorField], dict[str, str]]:
    """The vector fields, and by field the name of its vector; "" is the one without a name."""
    vectors, sources = [], {}
    for source, (kind, config) in index_params.configs(described).items():
        name = source or _UNNAMED
        index, metric = index_params.from_weaviate(kind, config)
        dim = dims.get(source, 0)
        if metric is None:
            detail = f"compared by {config.get('distance')}"
        elif dim < 0:
            detail = "several vectors an object"
        elif not dim:
            detail = "no object looked at has one, and the class does not say how long it is"
        else:
            vectors.append(VectorField(name, dim, metric, index))
            sources[name] = source
            continue
        losses.append(Gap(f"vector:{name}", name, detail, blocking=False))
    return vectors, sources


def _columns(described: Mapping[str, Any], taken: set[str], losses: list[Gap]) -> dict[str, Column]:
    tells_null = bool((described.get("invertedIndexConfig") or {}).get("indexNullState"))
    columns = {}
    for prop in described.get("properties") or []:
        key, kind = str(prop["name"]), str(prop["dataType"][0])
        if kind not in _TYPES:
            losses.append(Gap(f"field:{key}", key, f"{kind} has no type here", blocking=False))
            continue
        type, codec = _TYPES[kind]
        filterable = prop.get("indexFilterable", True)
        whole = codec not in ("raw", "raws") or prop.get("tokenization") == "field"
        name = f"field_{key}" if key.lower() in taken | {"id"} else key
        columns[name] = Column(
            name, key, type, codec, bool(filterable and whole), bool(tells_null and filterable)
        )
    return columns


def _dims(
    name: str, wanted: set[str], tenants: bool, connection: Connection, deadline: Deadline
) -> dict[str, int]:
    """Length of each vector of the first object that has it, by name; -1 where one name has several.

    Args:
        name: The class.
        wanted: The vectors that it says it has.
        tenants: Whether it has any.
        connection: The server.
        deadline: Of all requests.
    """
    dims: dict[str, int] = {}
    sampled = sorted(connection.tenants(name, deadline))[:_SAMPLED_TENANTS] if tenants else [""]
    for tenant in sampled:
        for row in _sample(name, tenant, connection, deadline):
            found = {
                vector.name: -1 if vector.type == _SEVERAL else len(vector.vector_bytes) // 4
                for vector in row.metadata.vectors
            }
            found[""] = len(row.metadata.vector_bytes) // 4
            dims = {key: length for key, length in found.items() if length} | dims
            if dims.keys() >= wanted:
                return dims
    return dims


def _sample(name: str, tenant: str, connection: Connection, deadline: Deadline) -> Iterator[Any]:
    """Objects of a class with their vectors: one, and where the caller wants more, some hundreds."""
    after = ""
    for limit in _SAMPLED_ROWS:
        request = search_get_pb2.SearchRequest(
            collection=name,
            tenant=tenant,
            limit=limit,
            after=after,
            metadata=search_get_pb2.MetadataRequest(uuid=True, vector=True),
            uses_123_api=True,
            uses_125_api=True,
            uses_127_api=True,
        )
        rows = connection.grpc.call("Search", request, deadline, f"open {name!r}").results
        yield from rows
        if len(rows) < limit:
            return
        after = rows[-1].metadata.id if after else expressions.FIRST_UUID
