"""Classes that vecbridge did not make: their schema as a spec, and what of it has no name here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vecbridge.capabilities import Gap
from vecbridge.errors import SchemaError
from vecbridge.schema import CollectionSpec, Field, FieldType, VectorField
from vecbridge.stores.weaviate import index_params
from vecbridge.stores.weaviate.connection import Connection
from vecbridge.stores.weaviate.layout import Codec, Column, Layout
from vecbridge.stores.weaviate.stubs import base_pb2, search_get_pb2, tenants_pb2

_TYPES: Final[Mapping[str, tuple[FieldType, Codec]]] = {
    "boolean": ("bool", "bool"),
    "int": ("int64", "int"),
    "number": ("float64", "number"),
    "text": ("string", "raw"),
    "text[]": ("list<string>", "raws"),
}
_UNNAMED: Final = "vector"
_SEVERAL: Final = base_pb2.Vectors.VECTOR_TYPE_MULTI_FP32
_SAMPLED_TENANTS: Final = 100  # that are looked into for the length of the vectors


def introspected(
    described: Mapping[str, Any], connection: Connection
) -> tuple[CollectionSpec, Layout, str, tuple[Gap, ...]]:
    """The spec of a foreign class, where its columns are, its token (none), and what was left out.

    Args:
        described: The class as REST describes it.
        connection: The server, which is asked for one object: a class does not say how long its vectors are.

    Raises:
        SchemaError: Nothing in it that can be searched, or no object yet.
    """
    name = str(described["class"])
    losses: list[Gap] = []
    tenants = bool((described.get("multiTenancyConfig") or {}).get("enabled"))
    vectors, sources = _vectors(described, _dims(name, tenants, connection), losses)
    if not vectors:
        told = "; ".join(f"{each.subject}: {each.detail}" for each in losses)
        raise SchemaError(f"collection {name!r} has no vectors that can be searched: {told or 'none at all'}")
    columns = _columns(described, {each.name.lower() for each in vectors}, losses)
    read_only = ""
    if losses:
        read_only = f"it has what vecbridge cannot fill: {', '.join(each.subject for each in losses)}"
    where = Layout(name, "string", False, tenants, sources, columns, read_only)
    fields = tuple(Field(each.name, each.type) for each in columns.values())
    spec = CollectionSpec.foreign(name, tuple(vectors), fields, "string", namespaced=tenants)
    return spec, where, "", tuple(losses)


def _vectors(
    described: Mapping[str, Any], dims: Mapping[str, int], losses: list[Gap]
) -> tuple[list[VectorField], dict[str, str]]:
    """The vector fields, and the named vector of each; "" is the one without a name."""
    configs = dict(described.get("vectorConfig") or {})
    if described.get("vectorIndexType") or not configs:
        configs[""] = described
    vectors, sources = [], {}
    for source, config in configs.items():
        name = source or _UNNAMED
        index, metric = index_params.from_weaviate(
            config.get("vectorIndexType") or "", config.get("vectorIndexConfig") or {}
        )
        dim = dims.get(source, 0)
        if metric is None:
            detail = f"compared by {(config.get('vectorIndexConfig') or {}).get('distance')}"
        elif dim < 0:
            detail = "several vectors an object"
        elif not dim:
            detail = "the first object has none, and the class does not say how long it is"
        else:
            vectors.append(VectorField(name, dim, metric, index))
            sources[name] = source
            continue
        losses.append(Gap(f"vector:{name}", name, detail, blocking=False))
    return vectors, sources


def _columns(described: Mapping[str, Any], taken: set[str], losses: list[Gap]) -> dict[str, Column]:
    tells_null = bool((described.get("invertedIndexConfig") or {}).get("indexNullState"))
    columns = {}
    for each in described.get("properties") or []:
        key, kind = str(each["name"]), str(each["dataType"][0])
        if kind not in _TYPES:
            losses.append(Gap(f"field:{key}", key, f"{kind} has no type here", blocking=False))
            continue
        type, codec = _TYPES[kind]
        filterable = each.get("indexFilterable", True)
        whole = codec not in ("raw", "raws") or each.get("tokenization") == "field"
        name = f"field_{key}" if key.lower() in taken | {"id"} else key
        columns[name] = Column(
            name, key, type, codec, bool(filterable and whole), bool(tells_null and filterable)
        )
    return columns


def _dims(name: str, tenants: bool, connection: Connection) -> dict[str, int]:
    """Length of each vector of some object, by name; -1 where there are several under one name."""
    among = [""]
    if tenants:
        answer = connection.call("TenantsGet", tenants_pb2.TenantsGetRequest(collection=name))
        among = [each.name for each in answer.tenants][:_SAMPLED_TENANTS]
    for tenant in among:
        request = search_get_pb2.SearchRequest(
            collection=name,
            tenant=tenant,
            limit=1,
            metadata=search_get_pb2.MetadataRequest(vector=True),
            uses_123_api=True,
            uses_125_api=True,
            uses_127_api=True,
        )
        for each in connection.call("Search", request, what=f"open {name!r}").results:
            found = {
                vector.name: -1 if vector.type == _SEVERAL else len(vector.vector_bytes) // 4
                for vector in each.metadata.vectors
            }
            if each.metadata.vector_bytes:
                found[""] = len(each.metadata.vector_bytes) // 4
            return found
    return {}
