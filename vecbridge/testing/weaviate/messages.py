"""Objects out of the messages of a batch, and into those of an answer."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from vecbridge.stores.weaviate.stubs import base_pb2, search_get_pb2
from vecbridge.testing.weaviate.errors import NotEmulated
from vecbridge.testing.weaviate.objects import Row

_SCALARS: Final = {
    "text": "text_value",
    "int": "int_value",
    "number": "number_value",
    "boolean": "bool_value",
    "date": "date_value",
    "uuid": "uuid_value",
}
_PACKED: Final = {"int": "<i8", "number": "<f8"}  # lists of these are bytes


def require_only(message: Any, known: Sequence[str]) -> None:
    """Refuses a request that asks for what is not emulated.

    Raises:
        NotEmulated: Naming the first such field.
    """
    for field, _ in message.ListFields():
        if field.name not in known:
            raise NotEmulated(f"{field.name} of {message.DESCRIPTOR.name}")


def sent_properties(message: Any) -> dict[str, Any]:
    """The properties of an object of a batch, as JSON has them."""
    sent = message.properties
    kinds = ("text", "int", "number", "boolean")
    require_only(
        sent, ["non_ref_properties", "empty_list_props", *(f"{each}_array_properties" for each in kinds)]
    )
    result: dict[str, Any] = {}
    for key, value in sent.non_ref_properties.fields.items():
        kind = value.WhichOneof("kind")
        if kind in ("struct_value", "list_value"):
            raise NotEmulated(f"the property {key!r}, a {kind}")
        result[key] = None if kind == "null_value" else getattr(value, kind)
    for kind in kinds:
        for each in getattr(sent, f"{kind}_array_properties"):
            result[each.prop_name] = list(each.values)
            if kind == "number" and each.values_bytes:
                result[each.prop_name] = np.frombuffer(each.values_bytes, "<f8").tolist()
    return result | {key: [] for key in sent.empty_list_props}


def sent_vectors(message: Any) -> dict[str, bytes]:
    """The vectors of an object of a batch, by name; "" is the one without."""
    result = {each.name: each.vector_bytes for each in message.vectors}
    if message.vector_bytes:
        result[""] = message.vector_bytes
    elif message.vector:
        result[""] = np.array(message.vector, "<f4").tobytes()
    return result


def result(
    row: Row, described: Mapping[str, Any], kinds: Mapping[str, str], asked: Any, distance: float | None
) -> Any:
    """A row as a search gives it.

    Args:
        row: The row.
        described: Its class.
        kinds: The properties to give, and the type of each.
        asked: Which metadata, as the request has it.
        distance: To the vector that was asked for; None where none was.
    """
    made = search_get_pb2.SearchResult()
    made.properties.target_collection = described["class"]
    for name, kind in kinds.items():
        _fill(made.properties.non_ref_props.fields[name], kind, row.properties.get(name))
    metadata = made.metadata
    metadata.SetInParent()
    if asked.uuid:
        metadata.id = row.uuid
        metadata.id_as_bytes = uuid.UUID(row.uuid).bytes
    if asked.distance and distance is not None:
        metadata.distance, metadata.distance_present = distance, True
    if asked.vector and "" in row.vectors:
        metadata.vector_bytes = row.vectors[""]
        metadata.vector.extend(np.frombuffer(row.vectors[""], "<f4").tolist())
    for name, vector in row.vectors.items():
        if name and (asked.vector or name in asked.vectors):
            single = base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32
            metadata.vectors.add(name=name, vector_bytes=vector, type=single)
    return made


def _fill(made: Any, kind: str, value: Any) -> None:
    """Sets the message of one value."""
    if value is None:
        made.null_value = 0
        return
    single = kind.removesuffix("[]")
    if single not in _SCALARS:
        raise NotEmulated(f"a value of type {kind}")
    if single == kind:
        setattr(made, _SCALARS[kind], value)
        return
    listed = getattr(made.list_value, f"{_SCALARS[single]}s")
    listed.SetInParent()
    if single in _PACKED:
        listed.values = np.array(value, _PACKED[single]).tobytes()
    else:
        listed.values.extend(value)
