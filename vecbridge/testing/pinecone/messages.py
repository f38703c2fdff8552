"""The messages of the gRPC service, declared as data.

Names, types and numbers are those of Pinecone's public ``db_data`` proto, 2026-04. Declaring them here spares
generated code: the descriptors are built from this table when the module is imported. Floats in lists are
declared as the bytes that they are on the wire, which NumPy reads at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, struct_pb2
from google.protobuf.message import Message

_TYPES = {
    "double": 1, "float": 2, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "floats": 12, "uint32": 13,
}  # fmt: skip
_STRUCT = "google.protobuf.Struct"

#: A field is ``number label type name``; the label is ``*`` for repeated, ``?`` for optional, or none.
_MESSAGES = {
    "SparseValues": "1 *uint32 indices, 2 floats values",
    "Vector": "1 string id, 2 floats values, 3 Struct metadata, 4 SparseValues sparse_values",
    "ScoredVector": (
        "1 string id, 2 float score, 3 floats values, 4 Struct metadata, 5 SparseValues sparse_values"
    ),
    "Usage": "1 ?uint32 read_units",
    "Pagination": "1 string next",
    "UpsertRequest": "1 *Vector vectors, 2 string namespace",
    "UpsertResponse": "1 uint32 upserted_count",
    "DeleteRequest": "1 *string ids, 2 bool delete_all, 3 string namespace, 4 Struct filter",
    "DeleteResponse": "",
    "FetchRequest": "1 *string ids, 2 string namespace",
    "FetchResponse": "1 map<Vector> vectors, 2 string namespace, 3 ?Usage usage",
    "FetchByMetadataRequest": (
        "1 string namespace, 2 ?Struct filter, 3 ?uint32 limit, 4 ?string pagination_token"
    ),
    "FetchByMetadataResponse": (
        "1 map<Vector> vectors, 2 string namespace, 3 ?Usage usage, 4 ?Pagination pagination"
    ),
    "ListRequest": "1 ?string prefix, 2 ?uint32 limit, 3 ?string pagination_token, 4 string namespace",
    "ListItem": "1 string id",
    "ListResponse": "1 *ListItem vectors, 2 ?Pagination pagination, 3 string namespace, 4 ?Usage usage",
    "QueryVector": "1 floats values, 2 uint32 top_k, 3 string namespace, 4 Struct filter",
    "QueryRequest": (
        "1 string namespace, 2 uint32 top_k, 3 Struct filter, 4 bool include_values, 5 bool include_metadata,"
        "6 *QueryVector queries, 7 floats vector, 8 string id, 9 SparseValues sparse_vector,"
        "10 ?float scan_factor, 11 ?uint32 max_candidates"
    ),
    "QueryResponse": "2 *ScoredVector matches, 3 string namespace, 4 ?Usage usage",
    "UpdateRequest": (
        "1 string id, 2 floats values, 3 Struct set_metadata, 4 string namespace,"
        "5 SparseValues sparse_values, 6 ?Struct filter, 7 ?bool dry_run"
    ),
    "UpdateResponse": "1 ?int32 matched_records",
    "DescribeIndexStatsRequest": "1 Struct filter",
    "NamespaceSummary": "1 uint32 vector_count",
    "DescribeIndexStatsResponse": (
        "1 map<NamespaceSummary> namespaces, 2 ?uint32 dimension, 3 float index_fullness,"
        "4 uint32 total_vector_count, 5 ?string metric, 6 ?string vector_type"
    ),
    "MetadataFieldProperties": "1 bool filterable",
    "MetadataSchema": "1 map<MetadataFieldProperties> fields",
    "NamespaceDescription": "1 string name, 2 uint64 record_count",
    "ListNamespacesRequest": "1 ?string pagination_token, 2 ?uint32 limit, 3 ?string prefix",
    "ListNamespacesResponse": (
        "1 *NamespaceDescription namespaces, 2 ?Pagination pagination, 3 int32 total_count"
    ),
    "DescribeNamespaceRequest": "1 string namespace",
    "CreateNamespaceRequest": "1 string name, 2 ?MetadataSchema schema",
    "DeleteNamespaceRequest": "1 string namespace",
}

#: The service's methods: the operation, the request and the answer.
METHODS = {
    "Upsert": ("upsert", "UpsertRequest", "UpsertResponse"),
    "Update": ("update", "UpdateRequest", "UpdateResponse"),
    "Delete": ("delete", "DeleteRequest", "DeleteResponse"),
    "Query": ("query", "QueryRequest", "QueryResponse"),
    "Fetch": ("fetch", "FetchRequest", "FetchResponse"),
    "FetchByMetadata": ("fetch_by_metadata", "FetchByMetadataRequest", "FetchByMetadataResponse"),
    "List": ("list", "ListRequest", "ListResponse"),
    "DescribeIndexStats": (
        "describe_index_stats", "DescribeIndexStatsRequest", "DescribeIndexStatsResponse",
    ),
    "ListNamespaces": ("list_namespaces", "ListNamespacesRequest", "ListNamespacesResponse"),
    "CreateNamespace": ("create_namespace", "CreateNamespaceRequest", "NamespaceDescription"),
    "DescribeNamespace": ("describe_namespace", "DescribeNamespaceRequest", "NamespaceDescription"),
    "DeleteNamespace": ("delete_namespace", "DeleteNamespaceRequest", "DeleteResponse"),
}  # fmt: skip


def _declare(message: descriptor_pb2.DescriptorProto, text: str) -> None:
    for number, label, kind, name in re.findall(r"(\d+) ([*?]?)([\w<>]+) (\w+)", text):
        field = message.field.add(name=name, number=int(number), label=3 if label == "*" else 1)
        if kind.startswith("map<"):
            entry = message.nested_type.add(name=f"{name.title()}Entry")
            entry.options.map_entry = True
            _declare(entry, f"1 string key, 2 {kind[4:-1]} value")
            field.label, kind = 3, f"{message.name}.{entry.name}"
        if kind in _TYPES:
            field.type = _TYPES[kind]
        else:
            field.type_name = f".{_STRUCT}" if kind == "Struct" else f".{kind}"
        if label == "?":
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")


def _classes() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(name="vecbridge_pinecone.proto", syntax="proto3")
    file.dependency.append("google/protobuf/struct.proto")
    for name, text in _MESSAGES.items():
        _declare(file.message_type.add(name=name), text)
    pool = descriptor_pool.DescriptorPool()  # of its own: the names have no package, and others use them too
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in _MESSAGES}


CLASSES = _classes()


def to_body(message: Message) -> dict[str, Any]:
    """A message as the JSON body that REST would have, with vectors as float32 arrays.

    Raises:
        ValueError: Metadata hold NaN or infinity.
    """
    return {field.json_name: _plain(field, value) for field, value in message.ListFields()}


def _plain(field: Any, value: Any) -> Any:
    if field.message_type is None:
        if field.type == _TYPES["floats"]:
            return np.frombuffer(value, "<f4")
        if not field.is_repeated:
            return value
        return list(value)
    if field.message_type.full_name == _STRUCT:
        return _members(value)
    if field.message_type.GetOptions().map_entry:
        return {key: to_body(value[key]) for key in value}
    return [to_body(item) for item in value] if field.is_repeated else to_body(value)


def _members(struct: Any) -> dict[str, Any]:
    return {name: _member(value) for name, value in struct.fields.items()}


def _member(value: Any) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            if not math.isfinite(value.number_value):
                raise ValueError(f"{value.number_value} has no JSON")
            return value.number_value
        case "list_value":
            return [_member(item) for item in value.list_value.values]
        case "struct_value":
            return _members(value.struct_value)
        case "string_value" | "bool_value" as kind:
            return getattr(value, kind)
    return None


def fill(message: Message, body: Mapping[str, Any]) -> Message:
    """Fills a message from the body that REST would have."""
    fields = {name: field for field in message.DESCRIPTOR.fields for name in (field.name, field.json_name)}
    for key, value in body.items():
        _set(message, fields[key], value)
    return message


def _set(message: Message, field: Any, value: Any) -> None:
    target = getattr(message, field.name)
    if field.message_type is None:
        if field.type == _TYPES["floats"]:
            setattr(message, field.name, np.asarray(value, "<f4").tobytes())
        elif field.is_repeated:
            target.extend(value)
        else:
            setattr(message, field.name, int(value) if field.type == _TYPES["uint64"] else value)
    elif field.message_type.full_name == _STRUCT:
        json_format.ParseDict(value, target)
    elif field.message_type.GetOptions().map_entry:
        for key, item in value.items():
            fill(target[key], item)
    elif field.is_repeated:
        for item in value:
            fill(target.add(), item)
    else:
        target.SetInParent()
        fill(target, value)
